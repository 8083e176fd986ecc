#include <CLI/CLI.hpp>

#include "ctl/admin_client.h"
#include "ctl/session.h"
#include "ctl/status_text.h"

namespace telemetryd::ctl {
namespace {

Result<int> show_status(Session& session) {
  AdminClient admin(session.socket);
  TELEMETRYD_ASSIGN(const nlohmann::json status, admin.get("/v1/status"));
  session.print(session.json ? status.dump(2) + "\n"
                             : status_text(status, Style::for_stream(session.out)));
  return kOk;
}

Result<int> show_queue(Session& session) {
  AdminClient admin(session.socket);
  TELEMETRYD_ASSIGN(const nlohmann::json status, admin.get("/v1/status"));
  if (session.json) {
    const nlohmann::json queue = {{"apps", member_in(status, "apps")},
                                  {"destinations", member_in(status, "destinations")}};
    session.print(queue.dump(2) + "\n");
    return kOk;
  }
  session.print(queue_text(status));
  for (const auto& destination : member_in(status, "destinations")) {
    session.print(text_in(destination, "name", "?") + ": " + destination_state_text(destination) +
                  "\n");
  }
  return kOk;
}

Result<int> flush_queue(Session& session, int deadline_seconds) {
  // The daemon keeps the deadline; the answer may come a little after it.
  constexpr int kGraceSeconds = 10;
  AdminClient admin(session.socket);
  TELEMETRYD_ASSIGN(
      const nlohmann::json answer,
      admin.post("/v1/flush",
                 {{"deadline_ms", static_cast<std::int64_t>(deadline_seconds) * 1000}},
                 std::chrono::seconds(deadline_seconds + kGraceSeconds)));
  const auto remaining = number_in(answer, "remaining_events");
  if (session.json) {
    session.print(answer.dump(2) + "\n");
  } else if (remaining == 0) {
    session.note("Everything that may be sent has been delivered.");
  } else {
    session.note(plural(remaining, "event") + " left; telemetryctl status says why.");
  }
  return remaining == 0 ? kOk : kFailed;
}

}  // namespace

void add_status(CLI::App& root, Command& chosen) {
  auto* status = root.add_subcommand("status", "Say whether events are accepted and delivered");
  status->callback([&chosen] { chosen = show_status; });
}

void add_queue(CLI::App& root, Command& chosen) {
  auto* queue = root.add_subcommand("queue", "Events that wait on this machine");
  queue->require_subcommand(1);
  queue->add_subcommand("show", "List what waits, by app")->callback([&chosen] {
    chosen = show_queue;
  });
  auto* flush = queue->add_subcommand("flush", "Send everything that may be sent now");
  auto deadline = std::make_shared<int>(60);
  flush->add_option("--deadline", *deadline, "Seconds to wait for it (default 60)")
      ->check(CLI::Range(1, 600));
  flush->callback([&chosen, deadline] {
    chosen = [deadline](Session& session) { return flush_queue(session, *deadline); };
  });
}

}  // namespace telemetryd::ctl
