#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ctl/admin_client.h"
#include "ctl/event_text.h"
#include "ctl/session.h"
#include "ctl/text.h"

namespace telemetryd::ctl {
namespace {

constexpr std::uint64_t kPageLetters = 100;

struct Selection {
  std::int64_t id = 0;  // 0: not by number
  std::string app;
  std::string destination;
  bool all = false;
  std::uint64_t limit = 100;
};

std::string letters_path(const Selection& selection, std::int64_t after, std::uint64_t page) {
  std::string path = fmt::format("/v1/dead?limit={}&after={}", page, after);
  if (!selection.app.empty()) path += "&app=" + query_escape(selection.app);
  if (!selection.destination.empty()) {
    path += "&destination=" + query_escape(selection.destination);
  }
  return path;
}

std::string letter_line(const nlohmann::json& letter) {
  return fmt::format(
      "{}  {}  {} at {}: {}\n  {}\n",
      number_in(letter, "id"),
      text_in(letter, "parked"),
      text_in(letter, "app", "(an app whose name is lost)"),
      text_in(letter, "destination", "?"),
      text_in(letter, "reason", "no reason was given"),
      has_value(letter, "event") ? event_text(member_in(letter, "event")) : "(cannot be read)");
}

Result<int> list_letters(Session& session, const Selection& selection) {
  AdminClient admin(session.socket);
  std::int64_t after = 0;
  bool any = false;
  for (std::uint64_t left = selection.limit; left > 0;) {
    const std::uint64_t page = std::min(left, kPageLetters);
    TELEMETRYD_ASSIGN(const nlohmann::json answer, admin.get(letters_path(selection, after, page)));
    const auto& letters = member_in(answer, "dead");
    for (const auto& letter : letters) {
      session.print(session.json ? letter.dump() + "\n" : letter_line(letter));
    }
    any = any || !letters.empty();
    left -= std::min<std::uint64_t>(left, letters.size());
    if (!has_value(answer, "next")) break;
    after = static_cast<std::int64_t>(number_in(answer, "next"));
  }
  if (!any) session.note("No upstream has refused an event for good.");
  return kOk;
}

Result<int> show_letter(Session& session, std::int64_t id) {
  AdminClient admin(session.socket);
  TELEMETRYD_ASSIGN(const nlohmann::json answer, admin.get(fmt::format("/v1/dead?id={}", id)));
  const auto& letters = member_in(answer, "dead");
  if (letters.empty()) {
    return fail(ErrorCode::kNotFound,
                fmt::format("no dead letter {}; telemetryctl dead list shows those there are", id));
  }
  if (session.json) {
    session.print(letters[0].dump(2) + "\n");
    return kOk;
  }
  session.print(letter_line(letters[0]));
  session.print(member_in(letters[0], "event").dump(2) + "\n");
  return kOk;
}

nlohmann::json request_of(const Selection& selection) {
  nlohmann::json body = nlohmann::json::object();
  if (selection.id != 0) body["id"] = selection.id;
  if (!selection.app.empty()) body["app"] = selection.app;
  if (!selection.destination.empty()) body["destination"] = selection.destination;
  if (selection.all) body["all"] = true;
  return body;
}

// In steps of one transaction each, up to the newest letter of the first step: what is refused
// again meanwhile is not moved again.
Result<int> move_letters(Session& session, const Selection& selection, const std::string& verb) {
  AdminClient admin(session.socket);
  nlohmann::json body = request_of(selection);
  std::uint64_t events = 0;
  std::uint64_t unreadable = 0;
  for (;;) {
    TELEMETRYD_ASSIGN(const nlohmann::json answer, admin.post("/v1/dead/" + verb, body));
    events += number_in(answer, "events");
    unreadable += number_in(answer, "unreadable");
    if (!has_value(answer, "next")) break;
    body["after"] = number_in(answer, "next");
    body["up_to"] = number_in(answer, "up_to");
  }
  if (session.json) {
    session.print(nlohmann::json{{"events", events}, {"unreadable", unreadable}}.dump(2) + "\n");
  } else {
    const std::string moved = plural(events, "event");
    session.note(verb == "drop" ? "Dropped " + moved + "." : "Queued " + moved + " again.");
  }
  if (unreadable > 0) {
    return fail(ErrorCode::kDataLoss,
                fmt::format("{} cannot be read and stayed; telemetryctl dead drop removes them",
                            plural(unreadable, "dead letter")));
  }
  if (events == 0 && selection.id != 0) {
    return fail(ErrorCode::kNotFound, fmt::format("no dead letter {}", selection.id));
  }
  return kOk;
}

void add_filters(CLI::App& verb, Selection& selection) {
  verb.add_option("--app", selection.app, "Only this app's");
  verb.add_option("--destination", selection.destination, "Only those this destination refused");
}

void add_move(CLI::App& noun, Command& chosen, const std::string& verb, const char* description) {
  auto* move = noun.add_subcommand(verb, description);
  auto selection = std::make_shared<Selection>();
  auto* which = move->add_option_group("which");
  which->add_option("ID", selection->id, "The letter's number")
      ->check(CLI::Range(std::int64_t{1}, INT64_MAX));
  add_filters(*which, *selection);
  which->add_flag("--all", selection->all, "All of them");
  which->require_option(1, 0);
  move->callback([&chosen, selection, verb] {
    chosen = [selection, verb](Session& session) {
      return move_letters(session, *selection, verb);
    };
  });
}

}  // namespace

void add_dead(CLI::App& root, Command& chosen) {
  auto* noun = root.add_subcommand("dead", "Events that an upstream refused for good");
  noun->require_subcommand(1);
  auto* list = noun->add_subcommand("list", "Print them with the upstream's words, oldest first");
  auto filters = std::make_shared<Selection>();
  add_filters(*list, *filters);
  list->add_option("--limit", filters->limit, "How many (default 100)")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40));
  list->callback([&chosen, filters] {
    chosen = [filters](Session& session) { return list_letters(session, *filters); };
  });
  auto* show = noun->add_subcommand("show", "Print one whole");
  auto id = std::make_shared<std::int64_t>();
  show->add_option("ID", *id, "Its number")
      ->required()
      ->check(CLI::Range(std::int64_t{1}, INT64_MAX));
  show->callback(
      [&chosen, id] { chosen = [id](Session& session) { return show_letter(session, *id); }; });
  add_move(*noun, chosen, "replay", "Queue them again, to be sent as if they were new");
  add_move(*noun, chosen, "drop", "Throw them away; the ledger counts them as dropped");
}

}  // namespace telemetryd::ctl
