#include "ctl/status_text.h"

#include <fmt/format.h>

namespace telemetryd::ctl {
namespace {

using Json = nlohmann::json;

std::string headline(const Json& status, const Style& style) {
  const std::string state = text_in(status, "state", "unknown");
  const Colour colour = state == "ok" ? Colour::kGreen : Colour::kYellow;
  return fmt::format("telemetryd {} is {}, up for {}.\n",
                     text_in(status, "version", "(version unknown)"),
                     style.paint(colour, state),
                     duration_text(std::chrono::seconds(number_in(status, "uptime_s"))));
}

std::string reasons(const Json& status, const Style& style) {
  std::string out;
  for (const auto& reason : member_in(status, "reasons")) {
    if (reason.is_string()) {
      out += "  " + style.paint(Colour::kYellow, printable(reason.get<std::string>())) + "\n";
    }
  }
  return out;
}

std::string accepting(const Json& status) {
  const auto& ingest = member_in(status, "ingest");
  const auto& store = member_in(status, "store");
  const auto& ledger = member_in(status, "ledger");
  if (ingest.is_null() && store.is_null()) return "It accepts no events and has no store.\n";
  std::string out = fmt::format("It accepts events on {}",
                                text_in(member_in(status, "paths"), "ingest_socket", "its socket"));
  if (text_in(status, "state") == "stopping") out = "It accepts no new events";
  if (text_in(status, "policy") == "off") {
    out = "It accepts no new events, because the machine's policy is off";
  }
  out += fmt::format(": {} so far, {} open now.\n",
                     plural(number_in(ledger, "accepted"), "event"),
                     plural(number_in(ingest, "connections"), "connection"));
  out += fmt::format("The store holds {} of {}",
                     bytes_text(number_in(store, "bytes")),
                     bytes_text(number_in(store, "bytes_max")));
  if (has_value(store, "time_to_full_s")) {
    out += fmt::format("; at this rate it is full in {}",
                       duration_text(std::chrono::seconds(number_in(store, "time_to_full_s"))));
  }
  return out + ".\n";
}

// Where apps in other languages send to; nothing when the daemon does not say.
std::string over_grpc(const Json& status) {
  const auto& gateway = member_in(status, "gateway");
  const std::string state = text_in(gateway, "state");
  if (state.empty()) return {};
  const std::string path = text_in(member_in(status, "paths"), "grpc_socket", "its socket");
  if (state == "service_manager") {
    return fmt::format("gRPC on {}: the service manager starts its gateway.\n", path);
  }
  const std::string last = text_in(gateway, "last_exit");
  const bool failed = !last.empty() && last != "exit status 0";
  return fmt::format("gRPC on {}: {}{}.\n",
                     path,
                     state,
                     state == "running" && failed ? ", was restarted after " + last : "");
}

std::string settled(const Json& status) {
  const auto& ledger = member_in(status, "ledger");
  std::string out = fmt::format("Delivered {}, waiting {}",
                                count_text(number_in(ledger, "delivered")),
                                count_text(number_in(ledger, "queued")));
  for (const char* account : {"parked", "erased", "exported"}) {
    const auto count = number_in(ledger, account);
    if (count > 0) out += fmt::format(", {} {}", account, count_text(count));
  }
  for (const char* account : {"expired", "evicted", "dropped", "lost"}) {
    const auto count = number_in(member_in(ledger, account), "total");
    if (count > 0) out += fmt::format(", {} {}", account, count_text(count));
  }
  out += ".";
  if (has_value(ledger, "balanced") && member_in(ledger, "balanced") == false) {
    out += " The ledger does not balance: run telemetryctl ledger check.";
  }
  return out + "\n";
}

std::string sent_today(const Json& status) {
  const auto& budget = member_in(status, "budget");
  const std::uint64_t sent = number_in(budget, "network_bytes_today");
  if (has_value(budget, "network_bytes_per_day_max")) {
    return fmt::format("Sent today: {} of {} ([forward] network_bytes_per_day_max).\n",
                       bytes_text(sent),
                       bytes_text(number_in(budget, "network_bytes_per_day_max")));
  }
  return sent == 0 ? "" : fmt::format("Sent today: {}.\n", bytes_text(sent));
}

std::string destination_line(const Json& destination, const Style& style) {
  const bool waits = number_in(destination, "queued_events") > 0;
  const bool troubled = has_value(destination, "last_error");
  std::string out = fmt::format(
      "  {} ({}) ", text_in(destination, "name", "?"), text_in(destination, "kind", "?"));
  out +=
      style.paint(troubled ? Colour::kYellow : Colour::kNone, destination_state_text(destination));
  if (waits) {
    out += fmt::format("; {} waiting, {}, the oldest for {}",
                       plural(number_in(destination, "queued_events"), "event"),
                       bytes_text(number_in(destination, "queued_bytes")),
                       duration_text(std::chrono::seconds(number_in(destination, "oldest_age_s"))));
  }
  return out + "\n";
}

// Why an app's events do not leave, or nothing when they do.
std::string kept_back(const Json& app) {
  const std::string name = text_in(app, "name", "?");
  const std::string mode = text_in(app, "mode");
  if (mode == "local") {
    return fmt::format(
        "  {} is in local mode: its events stay on this machine. To send them: "
        "telemetryctl consent enable --app {}\n",
        name,
        name);
  }
  if (mode == "off") {
    return fmt::format(
        "  {} is off: nothing is collected. To see why: telemetryctl consent status "
        "--app {}\n",
        name,
        name);
  }
  if (!has_value(app, "destination") && number_in(app, "queued_events") > 0) {
    return fmt::format(
        "  {} has no destination: {} kept here and never sent. To send them: "
        "{} --route {}\n",
        name,
        plural(number_in(app, "queued_events"), "event"),
        kAddDestination,
        name);
  }
  return {};
}

}  // namespace

std::string destination_state_text(const Json& destination) {
  const std::string state = text_in(destination, "state", "unknown");
  const std::string error = text_in(destination, "last_error");
  const std::string rule = text_in(destination, "waiting_for");
  std::string out = state;
  if (!rule.empty()) out += " (" + rule + ")";
  if (has_value(destination, "next_attempt_s")) {
    out +=
        fmt::format(", next attempt in {}",
                    duration_text(std::chrono::seconds(number_in(destination, "next_attempt_s"))));
  }
  if (const auto attempts = number_in(destination, "attempts"); attempts > 0 && !error.empty()) {
    out += fmt::format(" after {}", plural(attempts, "failed attempt"));
    if (const auto failing = number_in(destination, "failing_s"); failing > 0) {
      out += fmt::format(" in {}", duration_text(std::chrono::seconds(failing)));
    }
  }
  if (!error.empty()) out += ": " + error;
  return out;
}

std::string status_text(const Json& status, const Style& style) {
  std::string out = headline(status, style) + reasons(status, style);
  out += accepting(status) + over_grpc(status) + settled(status) + sent_today(status);

  const auto& destinations = member_in(status, "destinations");
  if (destinations.empty()) {
    out += fmt::format(
        "No destination is configured, so nothing leaves this machine. To add one: {}\n",
        kAddDestination);
  } else {
    out += "Destinations:\n";
    for (const auto& destination : destinations) out += destination_line(destination, style);
  }
  std::string held;
  for (const auto& app : member_in(status, "apps")) held += kept_back(app);
  if (!held.empty()) out += "Kept back:\n" + held;
  return out;
}

std::string queue_text(const Json& status) {
  Table table({"APP", "MODE", "DESTINATION", "EVENTS", "BYTES"});
  for (const auto& app : member_in(status, "apps")) {
    table.add({text_in(app, "name", "?"),
               text_in(app, "mode", "-"),
               text_in(app, "destination", "none, kept here"),
               count_text(number_in(app, "queued_events")),
               bytes_text(number_in(app, "queued_bytes"))});
  }
  if (table.empty()) return "No app has sent an event yet.\n";
  return table.text();
}

}  // namespace telemetryd::ctl
