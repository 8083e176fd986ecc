#include "ctl/consent_text.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "base/rfc3339.h"

namespace telemetryd::ctl {
namespace {

constexpr std::array<std::pair<const char*, consent::Record>, 4> kStates = {{
    {"unset", consent::Record::kUnset},
    {"enabled", consent::Record::kEnabled},
    {"local", consent::Record::kLocal},
    {"disabled", consent::Record::kDisabled},
}};

std::string app_option(const std::string& app) {
  return app.empty() ? std::string() : " --app " + app;
}

// The command that turns collection on, where a command of this user can.
std::string remedy(const std::string& app, std::string_view rule) {
  if (rule == "machine_policy") {
    return "Only the machine's owner can change that: [policy] mode in telemetryd.toml, then "
           "restart telemetryd.";
  }
  if (rule == "DO_NOT_TRACK" || rule == "DNT" || rule == "tool_variable") {
    return "To turn it on, unset that variable.";
  }
  return fmt::format("To turn it on: telemetryctl consent enable{}", app_option(app));
}

}  // namespace

std::string rule_text(const std::string& app, std::string_view rule) {
  if (rule == "machine_policy") return "the machine's policy says so";
  if (rule == "DO_NOT_TRACK" || rule == "DNT") return fmt::format("{} is set", rule);
  if (rule == "tool_variable") {
    std::array<char, consent::kVariableBytesMax> name{};
    consent::tool_variable_name(app.c_str(), name.data(), name.size());
    return fmt::format("{} says so", name.data());
  }
  if (rule == "consent_file") return "your consent file says so";
  if (rule == "app_record") return "that is your recorded decision for this tool";
  if (rule == "all_record") return "that is your recorded decision for all tools";
  if (rule == "opt_out_default") return "this machine collects unless somebody says no";
  if (rule == "opt_in_default") return "this machine collects only what somebody turned on";
  if (rule == "undecided") return "nobody has decided and no daemon has said";
  return fmt::format("rule {}", rule);
}

std::string decision_text(const std::string& app, std::string_view mode, std::string_view rule) {
  const std::string whose = app.empty() ? "Events of all tools" : "Events of " + app;
  const std::string reason = rule_text(app, rule);
  if (mode == "on") return fmt::format("{} are collected and sent: {}.", whose, reason);
  if (mode == "local") {
    return fmt::format("{} are kept on this machine and never sent: {}.", whose, reason);
  }
  if (mode == "undecided") return fmt::format("{}: not decided; {}.", whose, reason);
  return fmt::format("{} are not collected: {}. {}", whose, reason, remedy(app, rule));
}

std::string consent_file_text(std::string_view state, std::int64_t decided_unix_seconds) {
  return fmt::format(
      "# Written by telemetryctl consent.\nversion = 1\nstate = \"{}\"\ndecided_at = "
      "\"{}\"\n",
      state,
      rfc3339_seconds(decided_unix_seconds));
}

consent::Record record_of(std::string_view state) {
  for (const auto& [word, record] : kStates) {
    if (state == word) return record;
  }
  return consent::Record::kUnreadable;
}

const char* word_of(consent::Record record) {
  for (const auto& [word, known] : kStates) {
    if (record == known) return word;
  }
  return "unreadable";
}

}  // namespace telemetryd::ctl
