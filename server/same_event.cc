#include "server/same_event.h"

#include <nlohmann/json.hpp>

namespace telemetryd::server {
namespace {

nlohmann::json content_of(std::string_view text) {
  nlohmann::json event = nlohmann::json::parse(text, nullptr, false);
  if (event.is_object()) event.erase("metadata");
  return event;
}

}  // namespace

bool same_event(EventFormat format, std::string_view stored, std::string_view again) {
  if (stored == again) return true;
  if (format != EventFormat::kTelemetryKit) return false;
  const nlohmann::json content = content_of(stored);
  return content.is_object() && content == content_of(again);
}

}  // namespace telemetryd::server
