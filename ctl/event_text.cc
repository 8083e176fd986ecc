#include "ctl/event_text.h"

#include <fmt/format.h>

#include "ctl/text.h"

namespace telemetryd::ctl {
namespace {

constexpr std::size_t kValueBytesShown = 80;

std::string shortened(std::string text) {
  if (text.size() <= kValueBytesShown) return text;
  std::size_t end = kValueBytesShown;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80u) --end;
  return text.substr(0, end) + "...";
}

std::string value_text(const nlohmann::json& value) {
  return shortened(printable(
      value.is_string() ? value.get<std::string>()
                        : value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
}

// Milliseconds are enough to read; --json has all nine digits.
std::string time_text(const std::string& time) {
  const auto point = time.find('.');
  if (point == std::string::npos || time.size() < point + 5 || time.back() != 'Z') return time;
  return time.substr(0, point + 4) + "Z";
}

}  // namespace

std::string event_text(const nlohmann::json& event) {
  std::string out = fmt::format("{}  {}  {}",
                                time_text(text_in(event, "time", "-")),
                                text_in(event, "app", "-"),
                                text_in(event, "name", "-"));
  if (has_value(event, "kind") && text_in(event, "kind") != "event") {
    out += "  " + text_in(event, "kind");
  }
  const auto& success = member_in(event, "success");
  if (success.is_boolean()) out += success.get<bool>() ? "  success" : "  failure";
  const auto& duration = member_in(event, "duration_ms");
  if (duration.is_number()) out += fmt::format("  {:.0f} ms", duration.get<double>());
  if (has_value(event, "exit_code")) out += "  exit " + member_in(event, "exit_code").dump();
  const auto& attributes = member_in(event, "attributes");
  if (attributes.is_object()) {
    for (const auto& [key, value] : attributes.items()) {
      out += "  " + printable(key) + "=" + value_text(value);
    }
  }
  const auto& error = member_in(event, "error");
  if (has_value(error, "message")) out += "  error: " + shortened(text_in(error, "message"));
  if (has_value(event, "state")) out += "  (" + text_in(event, "state") + ")";
  return out;
}

}  // namespace telemetryd::ctl
