#include "ctl/destination_text.h"

#include <fmt/format.h>

#include "ctl/status_text.h"
#include "ctl/text.h"

namespace telemetryd::ctl {
namespace {

using Json = nlohmann::json;

std::string line(std::string_view what, const std::string& value) {
  return fmt::format("  {:<20} {}\n", what, value);
}

std::string duration_in(const Json& object, const char* key) {
  return duration_text(std::chrono::seconds(number_in(object, key)));
}

std::string waiting(const Json& destination) {
  const auto events = number_in(destination, "queued_events");
  if (events == 0) return "nothing";
  return fmt::format("{}, {}, the oldest for {}",
                     plural(events, "event"),
                     bytes_text(number_in(destination, "queued_bytes")),
                     duration_in(destination, "oldest_age_s"));
}

std::string apps(const Json& destination) {
  std::string names;
  for (const auto& app : member_in(destination, "apps")) {
    if (!app.is_string()) continue;
    if (!names.empty()) names += ", ";
    names += printable(app.get<std::string>());
  }
  return names.empty() ? "none has sent events yet" : names;
}

// Since when, why, and with which words; the first only where it says something else.
std::string trouble(const Json& destination) {
  if (number_in(destination, "attempts") == 0) return {};
  std::string out = line("failing",
                         fmt::format("for {}, {}",
                                     duration_in(destination, "failing_s"),
                                     plural(number_in(destination, "attempts"), "attempt")));
  out += line("cause", text_in(destination, "cause", "not known"));
  const std::string last = text_in(destination, "last_error", "no error was given");
  const std::string first = text_in(destination, "first_error", last);
  if (first != last) out += line("first error", first);
  return out + line("last error", last);
}

std::string muted(const Json& destination) {
  std::string out;
  const auto& apps = member_in(destination, "muted_s");
  for (const auto& entry : apps.items()) {
    const auto left = duration_in(apps, entry.key().c_str());
    out += line("unwanted now", fmt::format("{}, for {}", printable(entry.key()), left));
  }
  return out;
}

}  // namespace

std::string destination_text(const Json& destination) {
  std::string state = text_in(destination, "state", "unknown");
  if (const std::string rule = text_in(destination, "waiting_for"); !rule.empty()) {
    state += " (" + rule + ")";
  }
  std::string out = fmt::format(
      "{} ({})\n", text_in(destination, "name", "?"), text_in(destination, "kind", "?"));
  out += line("state", state) + line("waiting", waiting(destination));
  if (has_value(destination, "next_attempt_s")) {
    out += line("next attempt", "in " + duration_in(destination, "next_attempt_s"));
  }
  out += line("last success", text_in(destination, "last_success", "never"));
  out += trouble(destination) + muted(destination) + line("apps", apps(destination));
  if (has_value(destination, "certificate_expires")) {
    out += line("our certificate", "expires " + text_in(destination, "certificate_expires"));
  }
  return out;
}

}  // namespace telemetryd::ctl
