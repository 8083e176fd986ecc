#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ctl/admin_client.h"
#include "ctl/event_text.h"
#include "ctl/session.h"
#include "ctl/text.h"

namespace telemetryd::ctl {
namespace {

constexpr std::uint64_t kPageEvents = 1000;

struct ListOptions {
  std::string app;
  std::string after;
  std::uint64_t limit = 100;
};

std::string events_path(const ListOptions& options, const std::string& after, std::uint64_t page) {
  std::string path = fmt::format("/v1/events?limit={}", page);
  if (!options.app.empty()) path += "&app=" + query_escape(options.app);
  if (!after.empty()) path += "&after=" + query_escape(after);
  return path;
}

// Pages until the limit, so that a listing of any length takes the memory of a page.
Result<int> list_events(Session& session, const ListOptions& options) {
  AdminClient admin(session.socket);
  std::string after = options.after;
  for (std::uint64_t left = options.limit; left > 0;) {
    const std::uint64_t page = std::min(left, kPageEvents);
    TELEMETRYD_ASSIGN(const nlohmann::json answer, admin.get(events_path(options, after, page)));
    const auto& events = member_in(answer, "events");
    for (const auto& event : events) {
      session.print((session.json ? event.dump() : event_text(event)) + "\n");
    }
    left -= std::min<std::uint64_t>(left, events.size());
    after = text_in(answer, "next");
    if (after.empty() || events.empty()) return kOk;
  }
  if (!session.json && !after.empty() && !session.quiet) {
    fmt::print(session.err, "There are more: telemetryctl event list --after {}\n", after);
  }
  return kOk;
}

Result<int> tail_events(Session& session, const std::string& app) {
  AdminClient admin(session.socket);
  const std::string path =
      "/v1/events/stream" + (app.empty() ? std::string() : "?app=" + query_escape(app));
  const auto ended = admin.stream(path, [&](std::string_view line) {
    if (session.json) {
      session.print(std::string(line) + "\n");
    } else {
      const auto event = nlohmann::json::parse(line, nullptr, false);
      session.print((event.is_discarded() ? printable(line) : event_text(event)) + "\n");
    }
    return std::fflush(session.out) == 0;
  });
  if (!ended) return fail(ended.error());
  session.note("telemetryd ended the stream.");
  return kOk;
}

}  // namespace

void add_event_list(CLI::App& event, Command& chosen) {
  auto* list = event.add_subcommand("list", "Print stored events, oldest first");
  auto options = std::make_shared<ListOptions>();
  list->add_option("--app", options->app, "Only this app's");
  list->add_option("--limit", options->limit, "How many (default 100)")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40));
  list->add_option("--after", options->after, "Begin behind this place, SEQ.INDEX");
  list->callback([&chosen, options] {
    chosen = [options](Session& session) { return list_events(session, *options); };
  });

  auto* tail = event.add_subcommand("tail", "Print events as they are accepted, until Ctrl-C");
  auto app = std::make_shared<std::string>();
  tail->add_option("--app", *app, "Only this app's");
  tail->callback(
      [&chosen, app] { chosen = [app](Session& session) { return tail_events(session, *app); }; });
}

}  // namespace telemetryd::ctl
