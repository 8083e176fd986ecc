#include "store/sqlite_store.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "base/log.h"
#include "store/quarantine.h"
#include "store/schema.h"

namespace telemetryd::store {
namespace {

constexpr BootMs kWitnessIntervalMs = 1000;

}  // namespace

SqliteStore::SqliteStore(
    Options options, const Clock& clock, Lock lock, StateFiles files, Database db)
    : options_(std::move(options)),
      clock_(clock),
      lock_(std::move(lock)),
      files_(std::move(files)),
      db_(std::move(db)),
      quota_(split_quota(options_)),
      floor_(options_.state_dir, options_.free_disk_bytes_min, options_.free_files_min) {}

Result<void> SqliteStore::usable() {
  if (closed_) return fail(ErrorCode::kFailedPrecondition, "the store is closed");
  if (!outcome_unknown_ && !db_.damage().empty()) give_up();
  if (outcome_unknown_) {
    return fail(ErrorCode::kUnknownOutcome, "an earlier commit failed; the store must be reopened");
  }
  return {};
}

Result<void> SqliteStore::transact_within_quota(const std::function<Result<void>()>& write,
                                                Booking booking) {
  auto done = transact_once(write, booking);
  if (done || !log_full_) return done;
  // The disk has no room for a longer WAL. What is in it goes to the database, whose file has its
  // blocks, and the WAL begins again in its own.
  if (!checkpoint()) return done;
  return transact_once(write, booking);
}

Result<void> SqliteStore::transact_once(const std::function<Result<void>()>& write,
                                        Booking booking) {
  TELEMETRYD_TRY(usable());
  log_full_ = false;
  TELEMETRYD_TRY(sql_.begin.run());
  const bool books = booking == Booking::kNow && !unbooked_.empty();
  auto written = books ? book(next_seq_ - 1) : Result<void>();
  if (written && booking == Booking::kNow && uptime_.unsaved(clock_.boot_ms())) {
    written = uptime_.save(clock_.boot_ms());
  }
  if (written) written = write();
  if (!written) {
    roll_back();
    return written;
  }
  TELEMETRYD_TRY(commit_transaction());
  if (books) unbooked_ = Unbooked();
  return {};
}

Result<void> SqliteStore::transact(const std::function<Result<void>()>& write) {
  const auto first = transact_within_quota(write);
  if (first || first.error().code() != ErrorCode::kResourceExhausted) return first;
  TELEMETRYD_TRY(limit_pages(db_, quota_.pages + quota_.pages_reserve));
  const auto second = transact_within_quota(write);
  TELEMETRYD_TRY(limit_pages(db_, quota_.pages));
  return second;
}

Result<void> SqliteStore::commit_transaction() {
  const std::uint64_t wal_before = wal_bytes_;
  // Not the Clock: this measures the disk, and decides nothing but when to checkpoint.
  const auto begin = std::chrono::steady_clock::now();
  auto committed = sql_.commit.run();
  if (!committed) {
    // A write that failed came before the sync, so no commit record is on disk. What failed at or
    // after the sync may be there.
    const int code = sqlite3_extended_errcode(db_.handle());
    log_full_ = code == SQLITE_FULL;
    if (log_full_ || code == SQLITE_IOERR_WRITE) {
      roll_back();
      return fail(ErrorCode::kUnavailable, committed.error().message());
    }
    outcome_unknown_ = true;
    return fail(ErrorCode::kUnknownOutcome, committed.error().message());
  }
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
  const bool small = wal_bytes_ < wal_before + (64u << 10);
  if (small) flush_us_ = flush_us_ == 0 ? took.count() : 0.9 * flush_us_ + 0.1 * took.count();
  witness_stale_ = true;
  written_boot_ms_ = clock_.boot_ms();
  return still_there();
}

void SqliteStore::roll_back() {
  if (!db_.in_transaction()) return;
  if (auto done = db_.exec("ROLLBACK"); !done) {
    log::error("rollback_failed", {{"cause", done.error().message()}});
    outcome_unknown_ = true;
  }
}

int SqliteStore::on_wal(void* self, sqlite3* /*db*/, const char* /*name*/, int pages) {
  static_cast<SqliteStore*>(self)->wal_bytes_ =
      static_cast<std::uint64_t>(pages) * kWalFrameBytes + kWalHeaderBytes;
  return SQLITE_OK;
}

std::uint64_t SqliteStore::checkpoint_threshold() const {
  // A checkpoint costs two flushes and its pages' writes, so slow disks make fewer of them.
  // On a disk that is nearly full the WAL stays within the blocks it has.
  if (floor_.low()) return quota_.wal_pregrow_bytes;
  std::uint64_t bytes = 4ull << 20;
  if (flush_us_ >= 500) bytes = 16ull << 20;
  if (flush_us_ >= 5000) bytes = 32ull << 20;
  return std::min(bytes, quota_.wal_bytes);
}

Result<void> SqliteStore::checkpoint() {
  int pages = 0;
  int done = 0;
  const int code =
      sqlite3_wal_checkpoint_v2(db_.handle(), "main", SQLITE_CHECKPOINT_PASSIVE, &pages, &done);
  if (code != SQLITE_OK) {
    const Error error = error_from_sqlite(code, db_.handle(), "checkpointing");
    if (error.code() == ErrorCode::kDataLoss) db_.note_damage(error.message());
    return fail(error);
  }
  if (pages == done) wal_bytes_ = 0;
  checkpoint_failures_.worked();
  // SQLite has cut the file down to its pages.
  if (pages > 0) TELEMETRYD_TRY(grow_file(0));
  if (auto noted = write_witness(true, false); !noted) {
    log::warn("witness_not_synced", {{"cause", noted.error().message()}});
  }
  return {};
}

Result<void> SqliteStore::checkpoint_if_above(std::uint64_t wal_bytes) {
  const BootMs now = clock_.boot_ms();
  // It may not grow for ever.
  const bool too_long = wal_bytes_ > 2 * quota_.wal_bytes;
  if (wal_bytes_ <= wal_bytes || (checkpoint_failures_.waits(now) && !too_long)) return {};
  const auto done = checkpoint();
  if (done) return {};
  checkpoint_failures_.failed(now, done.error());
  log::error("checkpoint_failed", {{"cause", done.error().message()}, {"wal_bytes", wal_bytes_}});
  const bool disk_full = done.error().code() == ErrorCode::kResourceExhausted;
  if (checkpoint_failures_.hopeless() && !disk_full) {
    // A fresh process looks at the disk anew, and finds everything in the WAL.
    outcome_unknown_ = true;
    return fail(ErrorCode::kUnknownOutcome, done.error().message());
  }
  if (!too_long) return {};
  return fail(ErrorCode::kUnavailable, done.error().message());
}

Result<void> SqliteStore::write_witness(bool sync, bool clean) {
  const Witness witness{store_uuid_,
                        epoch_,
                        epoch_random_,
                        next_seq_ - 1,
                        static_cast<std::uint64_t>(books_.accepted_total()),
                        static_cast<std::uint64_t>(books_.removed_total()),
                        clean,
                        books_.place_totals()};
  TELEMETRYD_TRY(witness_file_->write(0, encode_witness(witness)));
  if (sync) TELEMETRYD_TRY(witness_file_->sync());
  witness_stale_ = false;
  witness_boot_ms_ = clock_.boot_ms();
  return {};
}

Result<void> SqliteStore::write_due_witness() {
  if (!witness_stale_ || clock_.boot_ms() - witness_boot_ms_ < kWitnessIntervalMs) return {};
  if (auto written = write_witness(false, false); !written) {
    // It only narrows what a later damage report can say.
    log::warn("witness_write_failed", {{"cause", written.error().message()}});
    witness_boot_ms_ = clock_.boot_ms();
  }
  return {};
}

Result<Store::Rest> SqliteStore::idle() {
  TELEMETRYD_TRY(usable());
  TELEMETRYD_TRY(still_there());
  expire_due();
  TELEMETRYD_TRY(scrub());
  verify_slice();
  TELEMETRYD_TRY(usable());  // what it found first of all
  const BootMs now = clock_.boot_ms();
  growth_rate_.note(now, books_.queued_bytes());
  if (time_to_give_back(now)) TELEMETRYD_TRY(give_back());
  TELEMETRYD_TRY(checkpoint_if_above(checkpoint_threshold() / 2));
  TELEMETRYD_TRY(write_due_witness());
  Rest rest;
  const auto again_at = [&](BootMs then) {
    const std::chrono::milliseconds wait(std::max<BootMs>(then - now, 0));
    rest = rest ? std::min(*rest, wait) : wait;
  };
  if (options_.event_age_max.count() > 0 && books_.queued_bytes() > 0) again_at(expire_boot_ms_);
  if (giving_back_) again_at(give_back_boot_ms());
  return rest;
}

Result<void> SqliteStore::close() {
  TELEMETRYD_TRY(usable());
  // A disk that is full leaves it to the next start.
  if (auto booked = book_now(); !booked && outcome_unknown_) return booked;
  if (scrub_due_) {
    if (auto scrubbed = scrub_now(); !scrubbed) {
      log::warn("erased_bytes_stay_in_log", {{"cause", scrubbed.error().message()}});
    }
  }
  TELEMETRYD_TRY(checkpoint());
  TELEMETRYD_TRY(write_witness(true, true));
  closed_ = true;
  witness_file_.reset();
  sql_ = Statements();
  books_ = Books();
  uptime_ = Uptime();
  db_ = Database();
  return {};
}

Result<Info> SqliteStore::info() {
  TELEMETRYD_TRY(usable());
  TELEMETRYD_ASSIGN(const std::int64_t pages, db_.ask_integer("PRAGMA page_count"));
  Info info;
  std::error_code absent;
  const std::uintmax_t wal = std::filesystem::file_size(files_.wal, absent);
  const std::vector<QuarantinedStore> aside = quarantined(options_.state_dir);
  for (const QuarantinedStore& store : aside) info.quarantined_bytes += store.bytes;
  if (!aside.empty()) info.quarantined_newest = aside.back().folder;
  info.quarantined_stores = aside.size();
  info.bytes = static_cast<std::uint64_t>(pages) * kPageBytes + (absent ? 0 : wal) + kWitnessBytes +
               info.quarantined_bytes;
  info.bytes_max = bytes_max_;
  info.sqlite_version = sqlite3_libversion();
  info.epoch = epoch_;
  info.store_uuid = uuid_text(store_uuid_);
  if (gap_) info.loss = gap_->text;
  info.ledger_corrections = correction_.moves.all().size();
  info.troubles = troubles();
  TELEMETRYD_ASSIGN(const std::int64_t unused, db_.ask_integer("PRAGMA freelist_count"));
  const std::int64_t room = static_cast<std::int64_t>(quota_.pages) - pages + unused;
  growth_rate_.note(clock_.boot_ms(), books_.queued_bytes());
  info.time_to_full_s = growth_rate_.seconds_to(
      static_cast<std::uint64_t>(std::max<std::int64_t>(room, 0)) * kPageBytes);
  return info;
}

void SqliteStore::observe_queue(QueueObserver observer,
                                std::uint64_t events_step,
                                std::uint64_t bytes_step) {
  observer_ = std::move(observer);
  events_step_ = events_step;
  bytes_step_ = bytes_step;
}

Result<std::unique_ptr<Store>> open_sqlite_store(const Options& options, const Clock& clock) {
  auto store = SqliteStore::open(options, clock);
  if (!store) return fail(store.error().with_context("opening the store"));
  return std::unique_ptr<Store>(std::move(*store));
}

}  // namespace telemetryd::store
