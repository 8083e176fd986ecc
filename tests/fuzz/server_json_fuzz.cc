// Any bytes as the body of a telemetry-kit upload: what is taken from it must be inside of it,
// within the limits, readable again, and showable.

#include <optional>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "kit/list_event.h"
#include "kit/read_body.h"

using namespace telemetryd;

namespace {

void check_event(std::string_view body, std::string_view payload, const kit::ReadEvent& event) {
  TELEMETRYD_CHECK(payload.data() >= body.data());
  TELEMETRYD_CHECK(payload.data() + payload.size() <= body.data() + body.size());
  TELEMETRYD_CHECK(payload.size() <= kit::kEventBytesMax);
  TELEMETRYD_CHECK(payload.starts_with('{') && payload.ends_with('}'));
  TELEMETRYD_CHECK(!event.app.empty() && !event.name.empty() && !event.machine_id.empty());
  // Two readers of the same bytes, one that walks over them and one that builds objects, agree.
  const auto listed = kit::list_event(payload);
  TELEMETRYD_CHECK(listed.has_value());
  TELEMETRYD_CHECK(listed->at("id") == uuid_text(event.id));
  TELEMETRYD_CHECK(listed->at("app") == event.app && listed->at("name") == event.name);
  TELEMETRYD_CHECK(listed->at("machine_id") == event.machine_id);
  TELEMETRYD_CHECK(!listed->dump().empty());  // throws on text that is not UTF-8
}

void check_body(std::string_view text, kit::BodyShape shape) {
  const auto body = kit::read_body(text, shape, std::nullopt);
  if (!body) {
    TELEMETRYD_CHECK(!body.error().message.empty());
    return;
  }
  TELEMETRYD_CHECK(nlohmann::json::accept(text));
  TELEMETRYD_CHECK(body->total > 0 && body->total <= kit::kEventsMax);
  TELEMETRYD_CHECK(body->events.size() == body->payloads.size());
  TELEMETRYD_CHECK(body->events.size() + body->rejected.size() == body->total);
  for (std::size_t i = 0; i < body->events.size(); ++i) {
    check_event(text, body->payloads[i], body->events[i]);
  }
  TELEMETRYD_CHECK(kit::read_body(text, shape, body->total).has_value());
  TELEMETRYD_CHECK(!kit::read_body(text, shape, body->total + 1).has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_body(text, kit::BodyShape::kObject);
  check_body(text, kit::BodyShape::kArray);
  return 0;
}
