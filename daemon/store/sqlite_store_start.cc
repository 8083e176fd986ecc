#include <algorithm>
#include <filesystem>
#include <ranges>

#include "base/digest.h"
#include "base/io.h"
#include "base/log.h"
#include "store/quarantine.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {
namespace {

constexpr unsigned kSeqCounterBits = 40;
constexpr UnixMs kClientKeepMs = 30ll * 24 * 3600 * 1000;
constexpr std::uint64_t kClientKeepEpochs = 3;
constexpr std::uint64_t kEpochsKept = 1000;
constexpr std::uint64_t kEpochMax = 1u << 22;  // seqs stay positive
constexpr const char* kMachineIdFile = "/etc/machine-id";
constexpr std::size_t kMachineIdBytesMax = 256;

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

SqliteStore::Opened SqliteStore::open(const Options& options, const Clock& clock) {
  TELEMETRYD_ASSIGN(StateLock taken, StateLock::take(options.state_dir));
  const auto lock = std::make_shared<StateLock>(std::move(taken));
  const StateFiles files = StateFiles::in(options.state_dir);
  const std::uint64_t aside_bytes_max = options.bytes_max / 4 * 3;
  TELEMETRYD_ASSIGN(const bool added, set_aside_condemned(files, clock.unix_ms()));
  auto store = open_as_it_is(options, clock, lock);
  if (store) {
    // What this frees is room for the store of the next start.
    const Bound bound = added ? Bound::kCount : Bound::kCountAndBytes;
    bound_quarantine(options.state_dir, aside_bytes_max, bound);
  }
  if (store || store.error().code() != ErrorCode::kDataLoss) return store;
  log::error("store_damaged", {{"cause", store.error().message()}});
  TELEMETRYD_TRY(condemn(files, store.error().message()));
  TELEMETRYD_TRY(set_aside_condemned(files, clock.unix_ms()));
  bound_quarantine(options.state_dir, aside_bytes_max, Bound::kCount);
  return open_as_it_is(options, clock, lock);
}

SqliteStore::Opened SqliteStore::open_as_it_is(const Options& options,
                                               const Clock& clock,
                                               const Lock& lock) {
  const StateFiles files = StateFiles::in(options.state_dir);
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
  TELEMETRYD_TRY(db_.grow_in_steps_of(static_cast<int>(kGrowthBytes)));
  TELEMETRYD_TRY(prepare_statements());
  TELEMETRYD_TRY(books_.load(db_));
  TELEMETRYD_TRY(load_partial_rows());
  TELEMETRYD_ASSIGN(const UnbookedDamage damage, load_unbooked());
  TELEMETRYD_TRY(correct_books());
  TELEMETRYD_ASSIGN(const std::string uuid,
                    db_.ask("SELECT value FROM meta WHERE key='store_uuid'"));
  if (uuid.size() != store_uuid_.size()) {
    return fail(ErrorCode::kDataLoss, "the database has lost its UUID");
  }
  store_uuid_ = bytes16_of(uuid);
  TELEMETRYD_TRY(read_epoch());
  TELEMETRYD_TRY(read_witness());
  TELEMETRYD_TRY(look_at_machine());
  TELEMETRYD_TRY(look_for_lost_consent());
  TELEMETRYD_TRY(start_epoch(damage));
  // SQLite ignores a failing sync of the folder, so it is done once more, with a look at the
  // result.
  TELEMETRYD_TRY(sync_directory(options_.state_dir));
  TELEMETRYD_TRY(load_erasures());
  if (auto done = finish_erasures(); !done) {
    TELEMETRYD_TRY(usable());
    if (done.error().code() == ErrorCode::kDataLoss) return done;
    // A full disk must not keep us from delivering the rest. These rows are not lent, and the next
    // lease's end or start tries again.
    log::warn("erasure_waits", {{"cause", done.error().message()}});
  }
  return {};
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
  TELEMETRYD_TRY(
      prepare(sql_.scan_rows,
              "SELECT seq, uid, app, count, length(blob), class, accepted_unix_ms, epoch, "
              "accepted_boot_ms, urgency "
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
  next_indexes_.clear();
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
  if (epoch_ > kEpochMax) return fail(ErrorCode::kDataLoss, "the table of epochs is damaged");
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

// Salted with what only this store has, so that the mark says nothing of the machine elsewhere.
std::string SqliteStore::mark_of_machine() const {
  auto id = read_file(kMachineIdFile, kMachineIdBytesMax);
  if (!id) return {};
  while (id->ends_with('\n')) id->pop_back();
  if (id->empty()) return {};
  const Digest digest = sha256("telemetryd store " + uuid_text(store_uuid_) + " " + *id);
  return std::string(as_text(std::span(digest).first<16>()));
}

// A copy of a disk, or a backup on new hardware, has the same UUID and goes on from the same epoch
// as its original. What both write from now on shall never pass for the same.
Result<void> SqliteStore::look_at_machine() {
  machine_ = mark_of_machine();
  TELEMETRYD_ASSIGN(const std::string known, db_.ask("SELECT value FROM meta WHERE key='machine'"));
  if (gap_ && gap_->other_store) succeeded_ = found_witness_->store_uuid;
  if (known.empty() || machine_.empty() || known == machine_) return {};
  if (!succeeded_) succeeded_ = store_uuid_;
  store_uuid_ = random_bytes16();
  machine_ = mark_of_machine();
  log::warn("store_from_another_machine", {{"epoch", epoch_}});
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

// Of the store whose place a new one takes; that one's witness is still in its own place.
OldRefusals SqliteStore::old_refusals() {
  const bool fresh = epoch_ == 0;
  if (!fresh) return {};
  for (const QuarantinedStore& store : quarantined(options_.state_dir) | std::views::reverse) {
    if (store.witness != found_witness_) continue;
    OldRefusals refusals = read_old_refusals(store.folder);
    if (!refusals.problem.empty()) refusals.folder = store.folder.native();
    return refusals;
  }
  if (found_witness_) return {.problem = "the store that was here is gone"};
  return {};
}

// In the caller's transaction.
Result<void> SqliteStore::take_over(const OldRefusals& refusals) {
  TELEMETRYD_ASSIGN(Statement put,
                    db_.prepare("INSERT OR REPLACE INTO consent(uid, app, state, decided_unix_ms) "
                                "VALUES(?,?,?,?)"));
  for (const OldRefusal& refusal : refusals.records) {
    TELEMETRYD_TRY(put.run(refusal.uid,
                           std::string_view(refusal.app),
                           std::string_view(refusal.state),
                           refusal.decided_unix_ms));
  }
  if (refusals.folder.empty()) return {};
  TELEMETRYD_ASSIGN(Statement note,
                    db_.prepare("INSERT OR REPLACE INTO meta VALUES('consent_lost', ?)"));
  return note.run(std::string_view(refusals.folder));
}

// Somebody has to look: as long as the folder is there, nobody has.
Result<void> SqliteStore::look_for_lost_consent() {
  TELEMETRYD_ASSIGN(const std::string folder,
                    db_.ask("SELECT value FROM meta WHERE key='consent_lost'"));
  std::error_code absent;
  if (!folder.empty() && std::filesystem::exists(folder, absent)) {
    consent_lost_ = "decisions on consent were lost with the store in " + folder;
  }
  return {};
}

Result<void> SqliteStore::start_epoch(const UnbookedDamage& damage) {
  const OldRefusals refusals = old_refusals();
  // Numbers that a lost database may have given out stay used.
  if (found_witness_) epoch_ = std::max(epoch_, found_witness_->epoch);
  ++epoch_;
  epoch_random_ = random_bytes16();
  next_seq_ = (epoch_ << kSeqCounterBits) + 1;
  shares_added_ = next_seq_;
  TELEMETRYD_ASSIGN(Statement insert,
                    db_.prepare("INSERT INTO epochs(number, random, started_unix_ms, boot_id) "
                                "VALUES(?,?,?,?)"));
  TELEMETRYD_ASSIGN(Statement prune, db_.prepare("DELETE FROM epochs WHERE number <= ?"));
  // The wall clock alone would forget everybody when it leaps.
  TELEMETRYD_ASSIGN(
      Statement expire,
      db_.prepare("DELETE FROM clients WHERE seen_unix_ms < ? AND seen_epoch + ? < ?"));
  TELEMETRYD_ASSIGN(Statement remember, db_.prepare("INSERT OR REPLACE INTO meta VALUES(?, ?)"));
  const auto keep = [&](std::string_view key, std::string_view value) {
    return remember.run(key, Blob{value});
  };
  const std::string boot = boot_id();
  TELEMETRYD_TRY(uptime_.load(db_));
  TELEMETRYD_ASSIGN(const std::string last_boot,
                    db_.ask("SELECT boot_id FROM epochs ORDER BY number DESC LIMIT 1"));
  uptime_.begin(epoch_, clock_.boot_ms(), !boot.empty() && boot == last_boot);
  // A disk that does not give it back is no reason not to start: all epochs stay then.
  const std::int64_t oldest_seq = db_.ask_integer("SELECT min(seq) FROM events").value_or(1);
  if (!db_.damage().empty()) return fail(ErrorCode::kDataLoss, db_.damage());
  const std::uint64_t oldest = epoch_ > kEpochsKept ? epoch_ - kEpochsKept : 0;
  const Correction correction = gap_ ? correction_for(*gap_) : Correction();
  const auto written = transact([&]() -> Result<void> {
    TELEMETRYD_TRY(expire.run(clock_.unix_ms() - kClientKeepMs, kClientKeepEpochs, epoch_));
    TELEMETRYD_TRY(prune.run(oldest));
    TELEMETRYD_TRY(uptime_.write_epoch(
        db_,
        oldest_seq == 0 ? epoch_
                        : std::max(oldest, static_cast<Seq>(oldest_seq) >> kSeqCounterBits)));
    TELEMETRYD_TRY(write_correction());
    TELEMETRYD_TRY(remove_unbooked(damage));
    TELEMETRYD_TRY(books_.write(correction.new_apps));
    TELEMETRYD_TRY(books_.write(correction.moves));
    TELEMETRYD_TRY(take_over(refusals));
    if (succeeded_) TELEMETRYD_TRY(keep("succeeds", as_text(*succeeded_)));
    TELEMETRYD_TRY(keep("store_uuid", as_text(store_uuid_)));
    if (!machine_.empty()) TELEMETRYD_TRY(keep("machine", machine_));
    return insert.run(
        epoch_, Blob{as_text(epoch_random_)}, clock_.unix_ms(), std::string_view(boot));
  });
  TELEMETRYD_TRY(written);
  // Rows of apps whose names are lost have left, partly delivered ones too.
  if (!books_.orphans().empty()) TELEMETRYD_TRY(load_partial_rows());
  books_.apply(correction.new_apps);
  books_.apply(correction.moves);
  if (!refusals.problem.empty()) {
    log::error("consent_lost", {{"cause", refusals.problem}, {"kept", refusals.records.size()}});
    consent_lost_ = "decisions on consent were lost (" + refusals.problem + ")";
  }
  // Whom this store succeeds, and its new UUID, must not live in the WAL alone: without it the
  // witness would be another store's, and all that was queued there be counted lost.
  if (succeeded_) {
    if (auto moved = checkpoint(); !moved) {
      log::warn("store_identity_in_log_only", {{"cause", moved.error().message()}});
    }
  }
  // Synced after a loss: until it names this store, the next start counts from the old one. Else it
  // only narrows what a later damage report can say, and a full disk may have no room for it.
  if (auto noted = write_witness(gap_.has_value(), false); !noted) {
    if (gap_) return noted;
    log::warn("witness_not_begun", {{"cause", noted.error().message()}});
  }
  return {};
}

}  // namespace telemetryd::store
