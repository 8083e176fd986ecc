#include "server/event_query.h"

#include <array>
#include <ctime>

#include <nlohmann/json.hpp>

#include "event/event.h"
#include "kit/list_event.h"
#include "server/event_store.h"

namespace telemetryd::server {
namespace {

void bind_filter(Statement& statement, const EventFilter& filter) {
  if (filter.organization) statement.bind_text(1, *filter.organization);
  if (filter.application) statement.bind_text(2, *filter.application);
}

Result<nlohmann::json> read_event(const Statement& row) {
  const std::string payload = row.column_blob(1);
  if (row.column_int(7) == static_cast<std::int64_t>(EventFormat::kTelemetryKit)) {
    return kit::list_event(payload);
  }
  TELEMETRYD_ASSIGN(nlohmann::json json, event::to_json(payload, row.column_blob(2)));
  if (std::string machine_id = row.column_text(3); !machine_id.empty()) {
    json["machine_id"] = std::move(machine_id);
  }
  return json;
}

constexpr std::string_view kWhere = "(?1 IS NULL OR o.name = ?1) AND (?2 IS NULL OR a.name = ?2) ";

}  // namespace

Result<std::vector<LedgerRow>> read_ledger(Database& database, const EventFilter& filter) {
  // One transaction: a batch that is stored between two reads would look like an imbalance.
  TELEMETRYD_ASSIGN(const Transaction moment, Transaction::begin_read(database));
  TELEMETRYD_ASSIGN(
      Statement select,
      database.prepare(
          "SELECT o.name, a.name, (SELECT count(*) FROM events e WHERE e.application "
          "= a.id), c.accepted, c.duplicates, c.rejected, c.batches, c.dnt_requests, "
          "c.dnt_events, c.id_conflict FROM applications a JOIN organizations o ON o.id = "
          "a.organization JOIN counters c ON "
          "c.application = a.id WHERE " +
          std::string(kWhere) + "ORDER BY o.name, a.name"));
  bind_filter(select, filter);
  std::vector<LedgerRow> all;
  for (;;) {
    TELEMETRYD_ASSIGN(const bool row, select.step());
    if (!row) return all;
    all.push_back({.organization = select.column_text(0),
                   .application = select.column_text(1),
                   .rows = select.column_int(2),
                   .accepted = select.column_int(3),
                   .duplicates = select.column_int(4),
                   .id_conflict = select.column_int(9),
                   .rejected = select.column_int(5),
                   .batches = select.column_int(6),
                   .dnt_requests = select.column_int(7),
                   .dnt_events = select.column_int(8)});
  }
}

Result<void> for_each_event(Database& database,
                            const EventFilter& filter,
                            std::int64_t limit,
                            const std::function<void(const nlohmann::json&)>& visit) {
  TELEMETRYD_ASSIGN(
      Statement select,
      database.prepare("SELECT * FROM (SELECT e.id, e.payload, e.context, e.machine_id, "
                       "e.received_unix_ms, o.name, a.name, e.format FROM events e JOIN "
                       "applications a ON a.id = e.application JOIN organizations o ON o.id = "
                       "a.organization WHERE " +
                       std::string(kWhere) + "ORDER BY e.id DESC LIMIT ?3) ORDER BY 1"));
  bind_filter(select, filter);
  select.bind(3, limit);
  for (;;) {
    TELEMETRYD_ASSIGN(const bool row, select.step());
    if (!row) return {};
    TELEMETRYD_ASSIGN(nlohmann::json json, read_event(select));
    json["received"] = time_text(select.column_int(4));
    json["destination"] = select.column_text(5) + "/" + select.column_text(6);
    visit(json);
  }
}

std::string time_text(std::int64_t unix_ms) {
  const std::time_t seconds = unix_ms / 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 32> date{};
  const std::size_t size = std::strftime(date.data(), date.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::string ms = std::to_string(unix_ms % 1000);
  ms.insert(0, 3 - ms.size(), '0');
  return std::string(date.data(), size) + "." + ms + "Z";
}

}  // namespace telemetryd::server
