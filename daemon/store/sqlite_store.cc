#include "store/sqlite_store.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "base/io.h"
#include "base/log.h"
#include "store/quarantine.h"
#include "store/schema.h"

namespace telemetryd::store {
namespace {

constexpr unsigned kSeqCounterBits = 40;
constexpr BootMs kWitnessIntervalMs = 1000;
constexpr UnixMs kClientKeepMs = 30ll * 24 * 3600 * 1000;
constexpr std::uint64_t kClientKeepEpochs = 3;
constexpr std::uint64_t kEpochsKept = 1000;

std::string boot_id() {
  auto text = read_file("/proc/sys/kernel/random/boot_id", 64);
  if (!text) return {};
  while (text->ends_with('\n')) text->pop_back();
  return *text;
}

Bytes16 bytes16_of(std::string_view bytes) {
  Bytes16 result{};
  if (bytes.size() == result.size()) std::ranges::copy(as_bytes(bytes), result.begin());
  return result;
}

}  // namespace

SqliteStore::SqliteStore(Options options,
                         const Clock& clock,
                         std::shared_ptr<StateLock> lock,
                         StateFiles files,
                         Database db)
    : options_(std::move(options)),
      clock_(clock),
      lock_(std::move(lock)),
      files_(std::move(files)),
      db_(std::move(db)),
      quota_(split_quota(options_)),
      floor_(options_.state_dir, options_.free_disk_bytes_min, options_.free_files_min) {}

Result<std::unique_ptr<SqliteStore>> SqliteStore::open(const Options& options, const Clock& clock) {
  TELEMETRYD_ASSIGN(StateLock taken, StateLock::take(options.state_dir));
  const auto lock = std::make_shared<StateLock>(std::move(taken));
  const StateFiles files = StateFiles::in(options.state_dir);
  TELEMETRYD_TRY(set_aside_condemned(files, clock.unix_ms()));
  auto store = open_as_it_is(options, clock, lock);
  if (store || store.error().code() != ErrorCode::kDataLoss) return store;
  log::error("store_damaged", {{"cause", store.error().message()}});
  TELEMETRYD_TRY(condemn(files, store.error().message()));
  TELEMETRYD_TRY(set_aside_condemned(files, clock.unix_ms()));
  return open_as_it_is(options, clock, lock);
}

Result<std::unique_ptr<SqliteStore>> SqliteStore::open_as_it_is(
    const Options& options, const Clock& clock, const std::shared_ptr<StateLock>& lock) {
  const StateFiles files = StateFiles::in(options.state_dir);
  bound_quarantine(options.state_dir, options.bytes_max / 4 * 3);
  // What is set aside takes part of the quota, but never so much that nothing can be accepted.
  Options within = options;
  within.bytes_max -= std::min(quarantined_bytes(options.state_dir), options.bytes_max / 4 * 3);
  TELEMETRYD_TRY(check_and_create(files, options.state_dir));
  TELEMETRYD_ASSIGN(Database db, open_database(within, files, clock));
  std::unique_ptr<SqliteStore> store(
      new SqliteStore(std::move(within), clock, lock, files, std::move(db)));
  store->bytes_max_ = options.bytes_max;
  TELEMETRYD_TRY(store->start());
  return store;
}

Result<void> SqliteStore::start() {
  sqlite3_wal_hook(db_.handle(), &SqliteStore::on_wal, this);
  TELEMETRYD_TRY(grow_in_steps());
  TELEMETRYD_TRY(prepare_statements());
  TELEMETRYD_TRY(books_.load(db_));
  TELEMETRYD_TRY(load_partial_rows());
  TELEMETRYD_ASSIGN(const UnbookedDamage damage, load_unbooked());
  TELEMETRYD_ASSIGN(const std::string uuid,
                    db_.ask("SELECT value FROM meta WHERE key='store_uuid'"));
  if (uuid.size() != store_uuid_.size()) {
    return fail(ErrorCode::kDataLoss, "the database has lost its UUID");
  }
  store_uuid_ = bytes16_of(uuid);
  TELEMETRYD_TRY(read_epoch());
  TELEMETRYD_TRY(read_witness());
  TELEMETRYD_TRY(start_epoch(damage));
  // SQLite ignores a failing sync of the folder, so it is done once more, with a look at the
  // result.
  TELEMETRYD_TRY(sync_directory(options_.state_dir));
  TELEMETRYD_TRY(load_erasures());
  return finish_erasures();
}

Result<void> SqliteStore::prepare_statements() {
  const auto prepare = [this](Statement& statement, const char* sql) -> Result<void> {
    TELEMETRYD_ASSIGN(statement, db_.prepare(sql));
    return {};
  };
  TELEMETRYD_TRY(prepare(sql_.begin, "BEGIN IMMEDIATE"));
  TELEMETRYD_TRY(prepare(sql_.commit, "COMMIT"));
  TELEMETRYD_TRY(prepare(sql_.insert_row,
                         "INSERT INTO events(seq, uid, app, class, urgency, epoch, "
                         "accepted_boot_ms, accepted_unix_ms, id_ms_min, id_ms_max, count, crc, "
                         "instance, last_frame, context, blob) "
                         "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"));
  TELEMETRYD_TRY(
      prepare(sql_.load_row,
              "SELECT uid, app, class, urgency, accepted_boot_ms, accepted_unix_ms, "
              "count, crc, context, blob, instance, last_frame FROM events WHERE seq=?"));
  TELEMETRYD_TRY(prepare(sql_.delete_row, "DELETE FROM events WHERE seq=?"));
  TELEMETRYD_TRY(prepare(sql_.scan_rows,
                         "SELECT seq, uid, app, count, length(blob), class, accepted_unix_ms "
                         "FROM events WHERE seq>=? ORDER BY seq"));
  TELEMETRYD_TRY(prepare(sql_.find_client,
                         "SELECT high_water, reported FROM clients WHERE uid=? AND instance=?"));
  TELEMETRYD_TRY(prepare(sql_.put_client,
                         "INSERT INTO clients(uid, instance, high_water, seen_unix_ms, seen_epoch) "
                         "VALUES(?,?,?,?,?) ON CONFLICT DO UPDATE SET "
                         "high_water=excluded.high_water, seen_unix_ms=excluded.seen_unix_ms, "
                         "seen_epoch=excluded.seen_epoch"));
  TELEMETRYD_TRY(prepare(sql_.put_booked, "INSERT OR REPLACE INTO meta VALUES('booked_up_to', ?)"));
  TELEMETRYD_TRY(prepare(sql_.drop_client, "DELETE FROM clients WHERE uid=? AND instance=?"));
  TELEMETRYD_TRY(prepare(sql_.put_next_index,
                         "INSERT INTO delivery(seq, next_index) VALUES(?,?) "
                         "ON CONFLICT DO UPDATE SET next_index=excluded.next_index"));
  TELEMETRYD_TRY(prepare(sql_.delete_next_index, "DELETE FROM delivery WHERE seq=?"));
  return prepare(sql_.insert_dead,
                 "INSERT INTO dead(seq, event_index, uid, app, destination, parked_unix_ms, "
                 "reason, context, blob) VALUES(?,?,?,?,?,?,?,?,?)");
}

Result<void> SqliteStore::load_partial_rows() {
  TELEMETRYD_ASSIGN(Statement select, db_.prepare("SELECT seq, next_index FROM delivery"));
  for (Rows rows = select.query();;) {
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (!found) return {};
    next_indexes_[static_cast<Seq>(rows.integer(0))] = static_cast<std::uint32_t>(rows.integer(1));
  }
}

Result<void> SqliteStore::read_epoch() {
  TELEMETRYD_ASSIGN(Statement select,
                    db_.prepare("SELECT number, random FROM epochs ORDER BY number DESC LIMIT 1"));
  Rows rows = select.query();
  TELEMETRYD_ASSIGN(const bool found, rows.next());
  if (!found) return {};
  epoch_ = static_cast<std::uint64_t>(rows.integer(0));
  epoch_random_ = bytes16_of(rows.bytes(1));
  return {};
}

Result<void> SqliteStore::read_witness() {
  TELEMETRYD_ASSIGN(VfsFile file, VfsFile::open(files_.witness.native(), options_.vfs));
  witness_file_ = std::move(file);
  TELEMETRYD_ASSIGN(const std::string bytes, witness_file_->read(0, kWitnessBytes));
  found_witness_ = decode_witness(bytes);
  if (!found_witness_) return {};
  TELEMETRYD_ASSIGN(const std::string succeeded,
                    db_.ask("SELECT value FROM meta WHERE key='succeeds'"));
  // A crash after the first commit of this store left its predecessor's witness.
  if (succeeded == as_text(found_witness_->store_uuid)) return {};
  const Remembered database{store_uuid_,
                            epoch_,
                            epoch_random_,
                            static_cast<std::uint64_t>(books_.accepted_total()),
                            static_cast<std::uint64_t>(books_.removed_total())};
  gap_ = compare(*found_witness_, database);
  if (gap_) {
    log::error("store_loss_detected", {{"loss", gap_->text}, {"events", gap_->lost_events}});
  }
  return {};
}

// The identity holds for what is gone too: it was accepted, and it is lost. Nobody knows any more
// which apps it was of.
Correction SqliteStore::correction_for(const Gap& gap) const {
  Correction correction;
  const bool carries_on = gap.other_store && found_witness_->places;
  if (!carries_on && gap.lost_events == 0) return correction;
  const AppId other = books_.find_or_add_other(correction.new_apps);
  const auto add = [&](std::string_view place, std::string_view why, std::uint64_t events) {
    const auto count = static_cast<std::int64_t>(events);
    correction.moves.add(other, account::kAccepted, reason::kNone, count);
    correction.moves.add(other, place, why, count);
  };
  if (!carries_on) {
    add(account::kLost, reason::kDamage, gap.lost_events);
    return correction;
  }
  for (std::size_t i = 0; i < account::kPlaces.size(); ++i) {
    const std::string_view place = account::kPlaces[i];
    const bool held = place == account::kQueued || place == account::kParked;
    add(held ? account::kLost : place,
        held ? reason::kDamage : reason::kEarlierStore,
        (*found_witness_->places)[i]);
  }
  return correction;
}

Result<void> SqliteStore::start_epoch(const UnbookedDamage& damage) {
  // Numbers that a lost database may have given out stay used.
  if (found_witness_) epoch_ = std::max(epoch_, found_witness_->epoch);
  ++epoch_;
  epoch_random_ = random_bytes16();
  next_seq_ = (epoch_ << kSeqCounterBits) + 1;
  TELEMETRYD_ASSIGN(Statement insert,
                    db_.prepare("INSERT INTO epochs(number, random, started_unix_ms, boot_id) "
                                "VALUES(?,?,?,?)"));
  TELEMETRYD_ASSIGN(Statement prune, db_.prepare("DELETE FROM epochs WHERE number <= ?"));
  // The wall clock alone would forget everybody when it leaps.
  TELEMETRYD_ASSIGN(
      Statement expire,
      db_.prepare("DELETE FROM clients WHERE seen_unix_ms < ? AND seen_epoch + ? < ?"));
  TELEMETRYD_ASSIGN(Statement succeed,
                    db_.prepare("INSERT OR REPLACE INTO meta VALUES('succeeds', ?)"));
  const std::string boot = boot_id();
  const std::uint64_t oldest = epoch_ > kEpochsKept ? epoch_ - kEpochsKept : 0;
  const Correction correction = gap_ ? correction_for(*gap_) : Correction();
  const auto written = transact([&]() -> Result<void> {
    TELEMETRYD_TRY(expire.run(clock_.unix_ms() - kClientKeepMs, kClientKeepEpochs, epoch_));
    TELEMETRYD_TRY(prune.run(oldest));
    TELEMETRYD_TRY(remove_unbooked(damage));
    TELEMETRYD_TRY(books_.write(correction.new_apps));
    TELEMETRYD_TRY(books_.write(correction.moves));
    if (gap_ && gap_->other_store) {
      TELEMETRYD_TRY(succeed.run(Blob{as_text(found_witness_->store_uuid)}));
    }
    return insert.run(
        epoch_, Blob{as_text(epoch_random_)}, clock_.unix_ms(), std::string_view(boot));
  });
  TELEMETRYD_TRY(written);
  books_.apply(correction.new_apps);
  books_.apply(correction.moves);
  // Synced after a loss: until it names this store, the next start counts from the old one. Else it
  // only narrows what a later damage report can say, and a full disk may have no room for it.
  if (auto noted = write_witness(gap_.has_value(), false); !noted) {
    if (gap_) return noted;
    log::warn("witness_not_begun", {{"cause", noted.error().message()}});
  }
  return {};
}

Result<void> SqliteStore::usable() const {
  if (closed_) return fail(ErrorCode::kFailedPrecondition, "the store is closed");
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
  return {};
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
    return fail(error_from_sqlite(code, db_.handle(), "checkpointing"));
  }
  if (pages == done) wal_bytes_ = 0;
  // SQLite has cut the file down to its pages.
  if (pages > 0) TELEMETRYD_TRY(grow_file(0));
  return write_witness(true, false);
}

Result<void> SqliteStore::checkpoint_if_above(std::uint64_t wal_bytes) {
  if (wal_bytes_ <= wal_bytes) return {};
  auto done = checkpoint();
  if (done) return {};
  // The WAL still has everything, so this is not a loss; but it may not grow for ever.
  if (wal_bytes_ <= 2 * quota_.wal_bytes) {
    log::error("checkpoint_failed", {{"cause", done.error().message()}, {"wal_bytes", wal_bytes_}});
    return {};
  }
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

Result<void> SqliteStore::idle() {
  TELEMETRYD_TRY(usable());
  TELEMETRYD_TRY(scrub());
  TELEMETRYD_TRY(checkpoint_if_above(checkpoint_threshold() / 2));
  return write_due_witness();
}

Result<void> SqliteStore::close() {
  TELEMETRYD_TRY(usable());
  // A disk that is full leaves it to the next start.
  if (auto booked = book_now(); !booked && outcome_unknown_) return booked;
  if (scrub_due_) TELEMETRYD_TRY(scrub_now());
  TELEMETRYD_TRY(checkpoint());
  TELEMETRYD_TRY(write_witness(true, true));
  closed_ = true;
  witness_file_.reset();
  sql_ = Statements();
  books_ = Books();
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
  info.troubles = troubles();
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
