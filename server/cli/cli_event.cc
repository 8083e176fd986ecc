#include <algorithm>
#include <cstdio>
#include <memory>

#include <nlohmann/json.hpp>

#include "server/cli/cli.h"
#include "server/event_query.h"

namespace telemetryd::server {
namespace {

constexpr int kLimitMax = 1'000'000;

struct EventOptions {
  std::string organization;
  std::string application;
  std::int64_t limit = 20;
  bool json = false;
  bool check = false;

  EventFilter filter() const {
    EventFilter made;
    if (!organization.empty()) made.organization = organization;
    if (!application.empty()) made.application = application;
    return made;
  }
};

void print_json(const std::vector<LedgerRow>& rows, bool check) {
  nlohmann::ordered_json out{{"events", 0}, {"apps", nlohmann::ordered_json::array()}};
  std::int64_t events = 0;
  for (const LedgerRow& row : rows) {
    events += row.rows;
    nlohmann::ordered_json one{{"org", row.organization},
                               {"app", row.application},
                               {"events", row.rows},
                               {"accepted", row.accepted},
                               {"duplicates", row.duplicates},
                               {"id_conflict", row.id_conflict},
                               {"rejected", row.rejected},
                               {"batches", row.batches},
                               {"dnt_requests", row.dnt_requests},
                               {"dnt_events", row.dnt_events}};
    if (check) one["balances"] = row.balances();
    out["apps"].push_back(std::move(one));
  }
  out["events"] = events;
  std::puts(out.dump().c_str());
}

void print_text(const std::vector<LedgerRow>& rows) {
  std::int64_t events = 0;
  for (const LedgerRow& row : rows) {
    events += row.rows;
    std::printf(
        "%-40s %12lld events  %lld duplicates  %lld id_conflict  %lld rejected  "
        "%lld batches  %lld dnt\n",
        (row.organization + "/" + row.application).c_str(),
        static_cast<long long>(row.rows),
        static_cast<long long>(row.duplicates),
        static_cast<long long>(row.id_conflict),
        static_cast<long long>(row.rejected),
        static_cast<long long>(row.batches),
        static_cast<long long>(row.dnt_requests));
  }
  std::printf("%-40s %12lld events\n", "total", static_cast<long long>(events));
}

Result<int> count(const Cli& cli, const EventOptions& options) {
  return read_storage(cli, [&options](Storage& storage) -> Result<int> {
    TELEMETRYD_ASSIGN(const auto rows, read_ledger(storage.database, options.filter()));
    if (options.json) {
      print_json(rows, options.check);
    } else {
      print_text(rows);
    }
    if (!options.check) return 0;
    int status = 0;
    for (const LedgerRow& row : rows) {
      if (row.balances()) continue;
      status = 1;
      std::fprintf(stderr,
                   "telemetry-server: %s/%s: %lld accepted but %lld stored; compare with a backup "
                   "and run `sqlite3 PATH 'PRAGMA integrity_check'`\n",
                   row.organization.c_str(),
                   row.application.c_str(),
                   static_cast<long long>(row.accepted),
                   static_cast<long long>(row.rows));
    }
    if (status == 0 && !options.json) std::puts("the ledger balances");
    return status;
  });
}

// Apps choose their words; what a terminal would obey is not shown to it.
std::string printable(const nlohmann::json& event, const char* member) {
  std::string text = event.value(member, std::string("-"));
  std::ranges::replace_if(text, [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
  return text;
}

Result<int> list(const Cli& cli, const EventOptions& options) {
  return read_storage(cli, [&options](Storage& storage) -> Result<int> {
    const auto visit = [&options](const nlohmann::json& event) {
      if (options.json) {
        std::puts(event.dump().c_str());
        return;
      }
      std::printf("%s  %-20s %-8s %s\n",
                  printable(event, "received").c_str(),
                  printable(event, "app").c_str(),
                  printable(event, "kind").c_str(),
                  printable(event, "name").c_str());
    };
    TELEMETRYD_TRY(for_each_event(storage.database, options.filter(), options.limit, visit));
    return 0;
  });
}

void add_filter(CLI::App& verb, EventOptions& options) {
  verb.add_option("--org", options.organization, "of this organization only");
  verb.add_option("--app", options.application, "of this application only");
}

}  // namespace

void add_event(CLI::App& app, Cli& cli) {
  auto options = std::make_shared<EventOptions>();
  CLI::App* noun = app.add_subcommand("event", "Stored events");
  noun->require_subcommand(1);

  CLI::App* count_verb = add_verb(*noun, cli, "count", "Count events, with the ledger");
  add_filter(*count_verb, *options);
  count_verb->add_flag("--json", options->json, "one JSON object");
  count_verb->add_flag("--check", options->check, "fail unless accepted equals stored");
  count_verb->callback(
      [&cli, options] { cli.action = [&cli, options] { return count(cli, *options); }; });

  CLI::App* list_verb = add_verb(*noun, cli, "list", "Show the newest events");
  add_filter(*list_verb, *options);
  list_verb->add_option("--limit", options->limit, "how many")
      ->check(CLI::Range(1, kLimitMax))
      ->capture_default_str();
  list_verb->add_flag("--json", options->json, "one JSON object per line");
  list_verb->callback(
      [&cli, options] { cli.action = [&cli, options] { return list(cli, *options); }; });
}

}  // namespace telemetryd::server
