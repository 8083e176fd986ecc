// The dead letters: looking at them, sending them again, throwing them away.

#include <algorithm>
#include <array>
#include <chrono>

#include "base/bytes.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {
namespace {

// Of one transaction, so that frames and leases wait for it no longer than for a commit.
constexpr std::uint32_t kDeadLettersMax = 1000;
constexpr std::uint64_t kDeadBytesMax = 4u << 20;

// Of letters that nobody asked for, which cost no memory but time: as many as this at once, and no
// longer than other reads for the admin API. The time is not the Clock's: it measures the disk.
constexpr std::uint32_t kUnwantedMax = 4096;
constexpr std::uint32_t kUnwantedStep = 64;
constexpr std::chrono::milliseconds kUnwantedTimeMax{2};

class Patience {
 public:
  // Another one was for nothing.
  bool over() {
    ++unwanted_;
    if (unwanted_ >= kUnwantedMax) return true;
    return unwanted_ % kUnwantedStep == 0 && std::chrono::steady_clock::now() >= until_;
  }

 private:
  std::uint32_t unwanted_ = 0;
  const std::chrono::steady_clock::time_point until_ =
      std::chrono::steady_clock::now() + kUnwantedTimeMax;
};

// A dead letter's class and urgency stand in the event alone: the pair that its check accepts.
struct Kind {
  event::Class persistence_class{};
  event::Urgency urgency{};
  event::BatchSummary summary;
};

std::optional<Kind> kind_of(std::string_view blob) {
  constexpr std::array kClasses = {
      event::Class::kNormal, event::Class::kLow, event::Class::kCritical};
  constexpr std::array kUrgencies = {event::Urgency::kNormal, event::Urgency::kUrgent};
  // It was accepted under the limit of its time, which may have been another.
  const event::Limits any{.event_bytes_max = UINT32_MAX};
  for (const event::Class persistence_class : kClasses) {
    for (const event::Urgency urgency : kUrgencies) {
      const auto summary = event::validate(blob, persistence_class, urgency, any);
      if (summary) return Kind{persistence_class, urgency, *summary};
    }
  }
  return std::nullopt;
}

}  // namespace

Result<DeadPage> SqliteStore::find_dead(const DeadQuery& query) {
  TELEMETRYD_ASSIGN(Statement select,
                    db_.prepare("SELECT id, uid, app, destination, parked_unix_ms, reason, "
                                "context, blob, seq FROM dead WHERE id>? AND id<=? ORDER BY id"));
  DeadPage page;
  const std::uint32_t limit = std::min(query.limit, kDeadLettersMax);
  std::uint64_t bytes = 0;
  Patience patience;
  const auto wanted = [&](const Rows& rows, std::uint32_t uid, const std::string& app) {
    // As good as gone; a replay would carry it out of the erasure's reach.
    if (waits_for_erasure(static_cast<Seq>(rows.integer(8)), uid, app)) return false;
    return (!query.uid || uid == *query.uid) && (query.app.empty() || app == query.app) &&
           (query.destination.empty() || rows.text(3) == query.destination);
  };
  for (Rows rows = select.query(query.after_id, query.up_to_id);
       page.letters.size() < limit && bytes < kDeadBytesMax;) {
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (!found) return page;
    page.last_id = rows.integer(0);
    const auto uid = static_cast<std::uint32_t>(rows.integer(1));
    const std::string& app = books_.name(rows.integer(2));
    if (!wanted(rows, uid, app)) {
      if (patience.over()) break;
      continue;
    }
    page.letters.push_back({.id = page.last_id,
                            .uid = uid,
                            .app = app,
                            .destination = rows.text(3),
                            .parked_unix_ms = rows.integer(4),
                            .reason = rows.text(5),
                            .context = rows.text(6),
                            .event = rows.text(7)});
    bytes += page.letters.back().context.size() + page.letters.back().event.size();
  }
  page.more = true;
  return page;
}

Result<DeadPage> SqliteStore::dead_letters(const DeadQuery& query) {
  TELEMETRYD_TRY(usable());
  return find_dead(query);
}

// Whoever goes on where this ends stops at the letters that were there at the beginning: what is
// refused again meanwhile would keep them busy for ever.
Result<DeadMoved> SqliteStore::nothing_moved(const DeadQuery& query) {
  DeadMoved moved;
  TELEMETRYD_ASSIGN(const std::int64_t newest,
                    db_.ask_integer("SELECT coalesce(max(id), 0) FROM dead"));
  moved.up_to_id = std::min(query.up_to_id, newest);
  return moved;
}

// In the caller's transaction.
Result<void> SqliteStore::drop_letters(std::span<const std::int64_t> ids) {
  if (ids.empty()) return {};
  TELEMETRYD_ASSIGN(Statement drop, db_.prepare("DELETE FROM dead WHERE id=?"));
  for (const std::int64_t id : ids) TELEMETRYD_TRY(drop.run(id));
  return {};
}

// What they become: each a row of its own at the end of the queue, because what it arrived with is
// long delivered.
ReplayPlan SqliteStore::plan_replay(std::vector<DeadLetter> letters) {
  ReplayPlan plan;
  for (DeadLetter& letter : letters) {
    const auto app = books_.find(letter.app);
    std::string blob = framed_event(letter.event);
    const auto kind = kind_of(blob);
    // What stands in for an app whose name is lost has no destination.
    if (!kind || !app || letter.app == kOtherApp) {
      ++plan.unreadable;
      continue;
    }
    const auto bytes = static_cast<std::int64_t>(blob.size());
    plan.moves.add(*app, account::kParked, reason::kNone, -1);
    plan.moves.add(*app, account::kQueued, reason::kNone, 1);
    plan.moves.add(*app, account::kQueuedBytes, reason::kNone, bytes);
    plan.letters.push_back(letter.id);
    plan.rows.push_back({.owner = {letter.uid, *app, kind->persistence_class},
                         .urgency = kind->urgency,
                         .summary = kind->summary,
                         .context = std::move(letter.context),
                         .blob = std::move(blob)});
  }
  return plan;
}

// The row has no sender that could send it again, so its instance is one that nobody has.
Result<void> SqliteStore::write_replayed(const ReplayedRow& row, Seq seq) {
  const Bytes16 instance = random_bytes16();
  const RowColumns columns{.uid = row.owner.uid,
                           .app = row.owner.app,
                           .count = 1,
                           .instance = as_text(instance),
                           .last_frame = 1};
  return insert_row(seq,
                    columns,
                    {.persistence_class = row.owner.persistence_class,
                     .urgency = row.urgency,
                     .id_ms_min = row.summary.id_ms_min,
                     .id_ms_max = row.summary.id_ms_max,
                     .context = row.context,
                     .blob = row.blob});
}

Result<DeadMoved> SqliteStore::replay_dead(const DeadQuery& query) {
  TELEMETRYD_TRY(usable());
  if (const auto refusal = disk_refusal()) {
    return fail(ErrorCode::kResourceExhausted, refusal->text);
  }
  TELEMETRYD_ASSIGN(DeadMoved moved, nothing_moved(query));
  TELEMETRYD_ASSIGN(DeadPage page, find_dead(query));
  moved.last_id = page.last_id;
  if (page.letters.empty()) return moved;
  const ReplayPlan plan = plan_replay(std::move(page.letters));
  const auto written = transact_within_quota([&]() -> Result<void> {
    Seq seq = next_seq_;
    TELEMETRYD_TRY(drop_letters(plan.letters));
    for (const ReplayedRow& row : plan.rows) TELEMETRYD_TRY(write_replayed(row, seq++));
    if (!plan.rows.empty()) TELEMETRYD_TRY(sql_.put_booked.run(seq - 1));
    return books_.write(plan.moves);
  });
  TELEMETRYD_TRY(written);
  books_.apply(plan.moves);
  for (const ReplayedRow& row : plan.rows) {
    shares_.add(row.owner, next_seq_++, row.blob.size() + kRowOverheadBytes);
    tell_observer_of(row.owner.app, row.urgency);
  }
  moved.events = plan.rows.size();
  moved.unreadable = plan.unreadable;
  return moved;
}

Result<DeadMoved> SqliteStore::drop_dead(const DeadQuery& query) {
  TELEMETRYD_TRY(usable());
  TELEMETRYD_ASSIGN(DeadMoved moved, nothing_moved(query));
  TELEMETRYD_ASSIGN(const DeadPage page, find_dead(query));
  moved.last_id = page.last_id;
  if (page.letters.empty()) return moved;
  std::vector<std::int64_t> ids;
  Moves moves;
  for (const DeadLetter& letter : page.letters) {
    ids.push_back(letter.id);
    // One whose app's name is lost is booked under the one that stands in for it.
    const auto app = books_.find(letter.app.empty() ? std::string(kOtherApp) : letter.app);
    if (!app) continue;
    moves.add(*app, account::kParked, reason::kNone, -1);
    moves.add(*app, account::kDropped, reason::kDeadLetter, 1);
  }
  const auto written = transact([&]() -> Result<void> {
    TELEMETRYD_TRY(drop_letters(ids));
    return books_.write(moves);
  });
  TELEMETRYD_TRY(written);
  books_.apply(moves);
  moved.events = page.letters.size();
  return moved;
}

}  // namespace telemetryd::store
