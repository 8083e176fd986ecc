#include <algorithm>
#include <charconv>

#include "base/log.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {
namespace {

constexpr std::string_view kKeyPrefix = "erase:";
constexpr BootMs kScrubIntervalMs = 60'000;

std::string meta_key(std::int64_t number) {
  return std::string(kKeyPrefix) + std::to_string(number);
}

template <typename Number>
bool take_number(std::string_view& text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data() + text.size() || *end != ' ') return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
  return true;
}

}  // namespace

bool SqliteStore::waits_for_erasure(Seq seq, std::uint32_t uid, std::string_view app) const {
  return std::ranges::any_of(erasures_, [&](const Erasure& erasure) {
    return seq <= erasure.up_to && uid == erasure.uid &&
           (erasure.app.empty() || erasure.app == app);
  });
}

// Before the others are erased by what their columns say.
Result<void> SqliteStore::remove_wrong_of(std::uint32_t uid, Seq up_to) {
  std::vector<Seq> wrong;
  {
    TELEMETRYD_ASSIGN(Statement select,
                      db_.prepare("SELECT uid, app, count, crc, instance, last_frame, seq "
                                  "FROM events WHERE uid=? AND seq<=?"));
    for (Rows rows = select.query(uid, up_to);;) {
      TELEMETRYD_ASSIGN(const bool found, rows.next());
      if (!found) break;
      if (!columns_right(rows, 0)) wrong.push_back(static_cast<Seq>(rows.integer(6)));
    }
  }
  return remove_wrong(wrong);
}

// In the caller's transaction.
Result<Erased> SqliteStore::erase_rows(const Erasure& erasure) {
  Erased erased;
  {
    TELEMETRYD_ASSIGN(Statement select,
                      db_.prepare("SELECT seq, app, count, length(blob), class FROM events "
                                  "WHERE uid=? AND seq<=? ORDER BY seq"));
    Rows rows = select.query(erasure.uid, erasure.up_to);
    for (;;) {
      TELEMETRYD_ASSIGN(const bool found, rows.next());
      if (!found) break;
      const AppId app = rows.integer(1);
      if (!erasure.app.empty() && books_.name(app) != erasure.app) continue;
      const auto seq = static_cast<Seq>(rows.integer(0));
      if (leased_.contains(seq)) {
        erased.waits = true;
        continue;
      }
      const auto partial = next_indexes_.find(seq);
      const std::int64_t delivered = partial == next_indexes_.end() ? 0 : partial->second;
      const std::int64_t events = rows.integer(2) - delivered;
      erased.moves.add(app, account::kQueued, reason::kNone, -events);
      erased.moves.add(app, account::kErased, reason::kWithdrawn, events);
      erased.moves.add(app, account::kQueuedBytes, reason::kNone, -rows.integer(3));
      erased.events += static_cast<std::uint64_t>(events);
      erased.rows.push_back({seq,
                             {erasure.uid, app, static_cast<event::Class>(rows.integer(4))},
                             static_cast<std::uint64_t>(rows.integer(3))});
    }
  }
  for (const Gone& row : erased.rows) TELEMETRYD_TRY(delete_row(row.seq));
  TELEMETRYD_TRY(erase_dead(erasure, erased));
  TELEMETRYD_TRY(books_.write(erased.moves));
  return erased;
}

// Dead letters were never sent either.
Result<void> SqliteStore::erase_dead(const Erasure& erasure, Erased& erased) {
  std::vector<std::int64_t> ids;
  {
    TELEMETRYD_ASSIGN(Statement select,
                      db_.prepare("SELECT id, app FROM dead WHERE uid=? AND seq<=?"));
    Rows rows = select.query(erasure.uid, erasure.up_to);
    for (;;) {
      TELEMETRYD_ASSIGN(const bool found, rows.next());
      if (!found) break;
      const AppId app = rows.integer(1);
      if (!erasure.app.empty() && books_.name(app) != erasure.app) continue;
      erased.moves.add(app, account::kParked, reason::kNone, -1);
      erased.moves.add(app, account::kErased, reason::kWithdrawn, 1);
      ids.push_back(rows.integer(0));
    }
  }
  TELEMETRYD_TRY(drop_letters(ids));
  erased.events += ids.size();
  return {};
}

// One that waits already takes the later request in: there is one per user and app, however often
// somebody asks.
Erasure SqliteStore::new_erasure(std::uint32_t uid, const std::string& app) {
  for (const Erasure& waiting : erasures_) {
    if (waiting.uid == uid && waiting.app == app) {
      return {waiting.number, uid, app, next_seq_ - 1};
    }
  }
  return {next_erasure_++, uid, app, next_seq_ - 1};
}

// In the caller's transaction.
Result<void> SqliteStore::note_erasure(const Erasure& erasure) {
  TELEMETRYD_ASSIGN(Statement note, db_.prepare("INSERT OR REPLACE INTO meta VALUES(?, ?)"));
  const std::string key = meta_key(erasure.number);
  const std::string value =
      std::to_string(erasure.uid) + " " + std::to_string(erasure.up_to) + " " + erasure.app;
  return note.run(std::string_view(key), std::string_view(value));
}

Result<std::uint64_t> SqliteStore::run_erasure(const Erasure& erasure) {
  // FAST leaves the bytes of pages that become free; somebody who asks for erasure means the bytes.
  TELEMETRYD_TRY(db_.exec("PRAGMA secure_delete=ON"));
  Erased erased;
  auto done = remove_wrong_of(erasure.uid, erasure.up_to);
  const auto erase = [&]() -> Result<void> {
    TELEMETRYD_ASSIGN(erased, erase_rows(erasure));
    if (erased.waits) return note_erasure(erasure);
    const std::string key = meta_key(erasure.number);
    TELEMETRYD_ASSIGN(Statement forget, db_.prepare("DELETE FROM meta WHERE key=?"));
    return forget.run(std::string_view(key));
  };
  if (done) done = transact(erase);
  TELEMETRYD_TRY(db_.exec("PRAGMA secure_delete=FAST"));
  TELEMETRYD_TRY(done);
  books_.apply(erased.moves);
  for (const Gone& row : erased.rows) {
    next_indexes_.erase(row.seq);
    leave_share(row.seq, row.owner, row.bytes);
  }
  scrub_due_ |= erased.events > 0;
  std::erase_if(erasures_, [&](const Erasure& other) { return other.number == erasure.number; });
  if (erased.waits) erasures_.push_back(erasure);
  return erased.events;
}

Result<std::uint64_t> SqliteStore::erase(std::uint32_t uid, const std::string& app) {
  TELEMETRYD_TRY(usable());
  TELEMETRYD_ASSIGN(const std::uint64_t events, run_erasure(new_erasure(uid, app)));
  const auto withdrawn = withdrawn_.extract({uid, app});
  return events + (withdrawn ? withdrawn.mapped() : 0);
}

// The consent is on disk with the erasure's note, so this cannot fail any more, only be late.
void SqliteStore::erase_withdrawn(const Erasure& erasure) {
  std::erase_if(erasures_, [&](const Erasure& other) { return other.number == erasure.number; });
  erasures_.push_back(erasure);
  const auto events = run_erasure(erasure);
  if (events) {
    withdrawn_[{erasure.uid, erasure.app}] += *events;
  } else {
    log::warn("withdrawn_erasure_delayed", {{"cause", events.error().message()}});
  }
}

Result<void> SqliteStore::load_erasures() {
  TELEMETRYD_ASSIGN(Statement select,
                    db_.prepare("SELECT key, value FROM meta WHERE key GLOB 'erase:*'"));
  Rows rows = select.query();
  for (;;) {
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (!found) return {};
    const std::string key = rows.text(0) + " ";
    const std::string value = rows.text(1);
    std::string_view key_rest = std::string_view(key).substr(kKeyPrefix.size());
    std::string_view rest = value;
    Erasure erasure;
    if (!take_number(key_rest, erasure.number) || !take_number(rest, erasure.uid) ||
        !take_number(rest, erasure.up_to)) {
      return fail(ErrorCode::kDataLoss, "a noted erasure cannot be read");
    }
    erasure.app = rest;
    next_erasure_ = std::max(next_erasure_, erasure.number + 1);
    erasures_.push_back(std::move(erasure));
  }
}

Result<void> SqliteStore::finish_erasures() {
  const std::vector<Erasure> waiting = erasures_;
  for (const Erasure& erasure : waiting) {
    const bool leased = std::ranges::any_of(leases_, [&](const auto& lease) {
      return std::ranges::any_of(lease.second, [&](const LeasedPart& part) {
        return part.uid == erasure.uid && part.seq <= erasure.up_to;
      });
    });
    if (!leased) TELEMETRYD_TRY(run_erasure(erasure));
  }
  return {};
}

// The WAL still holds pages from before the erasure. Emptying it costs its pre-grown blocks, so
// several erasures share one.
Result<void> SqliteStore::scrub() {
  if (!scrub_due_) return {};
  if (scrubbed_boot_ms_ && clock_.boot_ms() - *scrubbed_boot_ms_ < kScrubIntervalMs) return {};
  // On a full disk somebody else would take the blocks.
  floor_.look(clock_.boot_ms());
  return floor_.low() ? Result<void>() : scrub_now();
}

Result<void> SqliteStore::scrub_now() {
  const int code =
      sqlite3_wal_checkpoint_v2(db_.handle(), "main", SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
  if (code != SQLITE_OK) {
    return fail(error_from_sqlite(code, db_.handle(), "emptying the write-ahead log"));
  }
  wal_bytes_ = 0;
  checkpoint_failures_.worked();
  scrub_due_ = false;
  scrubbed_boot_ms_ = clock_.boot_ms();
  // SQLite has cut the database down to its pages; the next commit grows it again.
  pages_ahead_ = 0;
  const std::uint64_t pregrow =
      affordable(options_.state_dir, options_.free_disk_bytes_min, quota_.wal_pregrow_bytes);
  if (auto grown = pregrow_wal(files_.wal.native(), options_.vfs, pregrow); !grown) {
    log::warn("wal_not_grown_again", {{"cause", grown.error().message()}});
  }
  return write_witness(true, false);
}

}  // namespace telemetryd::store
