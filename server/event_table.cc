#include "server/event_table.h"

#include <algorithm>
#include <string>

#include "server/same_event.h"

namespace telemetryd::server {
namespace {

constexpr int kNoncesForgottenMax = 10'000;
constexpr UnixMs kLastUsedStepMs = 60'000;

// Nothing of a telemetry-kit event but its metadata may differ in length. A stored event of quite
// another length is not read at all, so a small upload cannot make us read much.
std::int64_t length_tolerance(EventFormat format) {
  constexpr std::int64_t kMetadataBytesMax = 1024;
  return format == EventFormat::kTelemetryKit ? kMetadataBytesMax : 0;
}

}  // namespace

Result<std::unique_ptr<EventTable>> EventTable::open(const std::filesystem::path& path) {
  TELEMETRYD_ASSIGN(Database database, Database::open(path, Database::Mode::kReadWrite));
  std::unique_ptr<EventTable> table(new EventTable(std::move(database)));
  TELEMETRYD_TRY(table->prepare());
  return table;
}

Result<void> EventTable::prepare() {
  TELEMETRYD_ASSIGN(
      insert_event_,
      database_.prepare(
          "INSERT INTO events (application, event_id, machine_id, app, name, kind, time_unix_nano, "
          "received_unix_ms, batch, payload, context, format) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, "
          "?8, ?9, ?10, ?11, ?12) ON CONFLICT (application, event_id) DO NOTHING"));
  TELEMETRYD_ASSIGN(select_known_,
                    database_.prepare("SELECT format, CASE WHEN format = ?3 AND abs(length(payload)"
                                      " - ?4) <= ?5 THEN payload END FROM events WHERE "
                                      "application = ?1 AND event_id = ?2"));
  TELEMETRYD_ASSIGN(
      insert_nonce_,
      database_.prepare("INSERT INTO nonces (token, nonce, expires_unix_s) VALUES (?1, ?2, ?3)"));
  TELEMETRYD_ASSIGN(delete_nonces_,
                    database_.prepare("DELETE FROM nonces WHERE (expires_unix_s, token, nonce) IN "
                                      "(SELECT expires_unix_s, token, nonce FROM nonces WHERE "
                                      "expires_unix_s < ?1 ORDER BY expires_unix_s LIMIT ?2)"));
  TELEMETRYD_ASSIGN(
      count_,
      database_.prepare("UPDATE counters SET accepted = accepted + ?2, duplicates = duplicates + "
                        "?3, id_conflict = id_conflict + ?4, rejected = rejected + ?5, batches = "
                        "batches + 1 WHERE application = ?1"));
  TELEMETRYD_ASSIGN(
      count_withheld_,
      database_.prepare("UPDATE counters SET dnt_requests = dnt_requests + 1, dnt_events = "
                        "dnt_events + ?2 WHERE application = ?1"));
  // Once a minute is exact enough, and keeps the page out of most commits.
  TELEMETRYD_ASSIGN(use_token_,
                    database_.prepare("UPDATE tokens SET last_used = ?2 WHERE id = ?1 AND "
                                      "(last_used IS NULL OR last_used + ?3 < ?2)"));
  TELEMETRYD_ASSIGN(touch_,
                    database_.prepare("INSERT INTO meta (key, value) VALUES ('probed', "
                                      "CAST(?1 AS BLOB)) ON CONFLICT (key) DO UPDATE SET value = "
                                      "excluded.value"));
  TELEMETRYD_ASSIGN(next_row_, database_.prepare("SELECT ifnull(max(id), 0) + 1 FROM events"));
  return {};
}

Result<void> EventTable::restore_nonces(NonceMemory& nonces, std::int64_t now_s) {
  TELEMETRYD_ASSIGN(Statement select,
                    database_.prepare("SELECT token, nonce, expires_unix_s FROM nonces WHERE "
                                      "expires_unix_s >= ?1 ORDER BY expires_unix_s"));
  select.bind(1, now_s);
  for (;;) {
    TELEMETRYD_ASSIGN(const bool row, select.step());
    if (!row) return {};
    const std::string bytes = select.column_blob(1);
    Bytes16 nonce{};
    std::copy_n(bytes.begin(), std::min(bytes.size(), nonce.size()), nonce.begin());
    nonces.restore(select.column_int(0), nonce, select.column_int(2));
  }
}

Result<Stored> EventTable::insert(const Submission& submission) {
  TELEMETRYD_TRY(insert_nonce_.bind(1, submission.token)
                     .bind_blob(2, as_text(submission.nonce))
                     .bind(3, submission.nonce_expires_s)
                     .run());
  TELEMETRYD_TRY(use_token_.bind(1, submission.token)
                     .bind(2, submission.received)
                     .bind(3, kLastUsedStepMs)
                     .run());
  if (submission.do_not_track) {
    TELEMETRYD_TRY(
        count_withheld_.bind(1, submission.application).bind(2, submission.withheld).run());
    return Stored{};
  }
  return insert_events(submission);
}

Result<Stored> EventTable::insert_events(const Submission& submission) {
  // A batch is known by its first row, so the number needs no table of its own.
  TELEMETRYD_TRY(next_row_.step());
  const std::int64_t batch = next_row_.column_int(0);
  next_row_.reset();
  Stored stored;
  insert_event_.bind(1, submission.application)
      .bind(8, submission.received)
      .bind(9, batch)
      .bind(12, static_cast<std::int64_t>(submission.format));
  for (const NewEvent& event : submission.events) {
    TELEMETRYD_TRY(insert_event_.bind_blob(2, event.id)
                       .bind_text(3, event.machine_id)
                       .bind_text(4, event.app)
                       .bind_text(5, event.name)
                       .bind(6, event.kind)
                       .bind(7, event.time_unix_nano)
                       .bind_blob(10, event.payload)
                       .bind_blob(11, event.context)
                       .run());
    if (database_.changes() == 1) {
      ++stored.accepted;
      continue;
    }
    TELEMETRYD_ASSIGN(const bool same, is_known(submission, event));
    ++(same ? stored.duplicates : stored.id_conflict);
  }
  TELEMETRYD_TRY(count_.bind(1, submission.application)
                     .bind(2, stored.accepted)
                     .bind(3, stored.duplicates)
                     .bind(4, stored.id_conflict)
                     .bind(5, submission.rejected)
                     .run());
  return stored;
}

Result<bool> EventTable::is_known(const Submission& submission, const NewEvent& event) {
  const auto format = static_cast<std::int64_t>(submission.format);
  TELEMETRYD_ASSIGN(const bool row,
                    select_known_.bind(1, submission.application)
                        .bind_blob(2, event.id)
                        .bind(3, format)
                        .bind(4, static_cast<std::int64_t>(event.payload.size()))
                        .bind(5, length_tolerance(submission.format))
                        .step());
  if (!row) return fail(ErrorCode::kDataLoss, "the index of event IDs names an event that is gone");
  // The two forms of one event have no bytes in common: the ID alone says that it is the same.
  const bool same = select_known_.column_int(0) != format ||
                    (!select_known_.column_null(1) &&
                     same_event(submission.format, select_known_.column_blob(1), event.payload));
  select_known_.reset();
  return same;
}

Result<void> EventTable::forget_nonces(std::int64_t now_s) {
  return delete_nonces_.bind(1, now_s).bind(2, kNoncesForgottenMax).run();
}

Result<void> EventTable::touch(UnixMs now) {
  return touch_.bind(1, now).run();
}

Result<void> EventTable::checkpoint() {
  return database_.checkpoint();
}

}  // namespace telemetryd::server
