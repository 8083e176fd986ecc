// store/store.h: the durable queue between ingest and delivery.
//
// Frames come in through commit(), leave through lease() and settle(). Data, deduplication, ledger
// and consent move in the same transactions, so there is no second place that could disagree.
// docs/formats/store.md is the format and the reasons.
//
// Owns:    events.db, its WAL, the lock file, the witness. One Store per state folder.
// Thread:  store thread. Others go through StoreThread (store/store_thread.h).
// Limits:  Options::bytes_max on disk; Options::row_bytes_max and row_events_max per row.
// Fails:   kResourceExhausted  quota or disk full; nothing was written; retry later.
//          kUnavailable        the disk refuses; nothing was written; retry later.
//          kUnknownOutcome     a commit's sync failed; stop acknowledging, end the process.
//          kDataLoss           stored bytes are wrong.

#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "event/event.h"
#include "frame/frame.h"
#include "store/ledger.h"
#include "store/trouble.h"

namespace telemetryd::store {

enum class WhenFull { kEvictOldest, kRefuse };

struct Options {
  std::filesystem::path state_dir;
  std::uint64_t bytes_max = 512ull << 20;  // database, WAL and witness together
  WhenFull when_full = WhenFull::kEvictOldest;
  // Room on the file system that is left to others, 0: none is. Below it new events are refused.
  std::uint64_t free_disk_bytes_min = 0;
  std::uint64_t free_files_min = 0;
  // Rows that waited longer are removed, 0: none. In time that the machine was up.
  std::chrono::milliseconds event_age_max{0};
  std::uint64_t wal_pregrow_bytes = 16ull << 20;
  std::uint32_t row_bytes_max = 256u << 10;
  std::uint32_t row_events_max = 1000;
  // Instances remembered for deduplication; above it the user with the most loses the oldest.
  std::uint32_t clients_max = 65536;
  // SQLite VFS to use; empty: the platform's. Tests pass the recording one.
  std::string vfs;
};

using Seq = std::uint64_t;

// Who sent a frame, as far as deduplication goes. `uid` is the kernel's word.
struct ClientKey {
  std::uint32_t uid = 0;
  Bytes16 instance{};
  auto operator<=>(const ClientKey&) const = default;
};

// Said once per connection, shared by its frames.
struct ClientInfo {
  ClientKey key;
  std::string app;
  std::string context;            // encoded Context, stored beside the events
  std::uint64_t first_frame = 1;  // from HELLO: where an unknown instance begins
};

// Why a frame is not stored.
struct Refusal {
  frame::Code code{};
  bool retryable = false;
  std::uint32_t retry_after_ms = 0;
  std::string text;
};

// One frame on its way to the disk. With `refusal` set it carries no events: ingest refused it, and
// it passes through here only so that numbers are settled in order.
struct Append {
  std::shared_ptr<const ClientInfo> client;
  std::uint64_t number = 0;
  event::Class persistence_class{};
  event::Urgency urgency{};
  event::BatchSummary summary;
  std::string events;  // encoded EventBatch
  std::optional<Refusal> refusal;
};

// What became of an Append. kStored and kDuplicate are acknowledged, by number.
struct Answer {
  enum class Kind { kStored, kDuplicate, kRefused } kind{};
  Refusal refusal;  // kRefused only
};

struct RowMeta {
  Seq seq = 0;
  std::uint32_t uid = 0;
  std::string app;
  event::Class persistence_class{};
  event::Urgency urgency{};
  UnixMs accepted_unix_ms = 0;
  BootMs accepted_boot_ms = 0;
  std::uint32_t count = 0;
};

// A row, or its undelivered part, lent out.
struct LeasedRow {
  RowMeta meta;
  std::uint32_t first_index = 0;
  std::uint32_t count = 0;
  std::string context;
  std::string events;
};

using LeaseId = std::uint64_t;

struct Lease {
  LeaseId id = 0;           // 0: nothing is due
  bool unfinished = false;  // nothing was found yet; ask again
  std::vector<LeasedRow> rows;
  std::uint64_t events = 0;
  std::uint64_t bytes = 0;
  // Nothing was lent because of min_age: when the first row is old enough.
  std::optional<BootMs> due_boot_ms;
};

struct LeaseRequest {
  std::vector<std::string> apps;  // those routed to the destination
  // (uid, app) whose collection is local or off now; app "" means every app of that uid.
  std::set<std::pair<std::uint32_t, std::string>> held;
  std::uint32_t events_max = 1000;
  std::uint64_t bytes_max = 1u << 20;
  // Younger rows stay, so that people can look first. In time that the machine was up.
  std::chrono::milliseconds min_age{0};
  // Past all others, which are looked at in slices: an answer may be `unfinished`.
  bool urgent_only = false;
};

struct Rejected {
  Seq seq = 0;
  std::uint32_t first_index = 0;
  std::uint32_t count = 0;
  std::string reason;
};

// Everything of the lease was delivered but `rejected`, which moves to the dead letters.
struct Settlement {
  LeaseId lease = 0;
  std::string destination;
  std::vector<Rejected> rejected;
};

struct QueueInfo {
  std::uint64_t events = 0;
  std::uint64_t bytes = 0;
  std::optional<UnixMs> oldest_unix_ms;
};

struct EventQuery {
  std::optional<std::uint32_t> uid;  // only this user's
  std::string app;                   // empty: all
  Seq after_seq = 0;
  std::uint32_t after_index = 0;
  std::uint32_t limit = 100;
};

struct ListedEvent {
  RowMeta row;
  std::uint32_t index = 0;
  std::string state;  // "queued", "leased"
  std::string context;
  std::string event;  // encoded Event
};

// An event that an upstream refused for good.
struct DeadLetter {
  std::int64_t id = 0;
  std::uint32_t uid = 0;
  std::string app;
  std::string destination;
  UnixMs parked_unix_ms = 0;
  std::string reason;   // the upstream's words
  std::string context;  // encoded Context
  std::string event;    // encoded Event
};

// Which dead letters; empty and absent members mean all. They come by id, oldest first.
struct DeadQuery {
  std::optional<std::uint32_t> uid;
  std::string app;
  std::string destination;
  std::int64_t after_id = 0;
  std::int64_t up_to_id = INT64_MAX;
  std::uint32_t limit = 100;
};

// A slice of the search: it may hold none, and yet there may be more.
struct DeadPage {
  std::vector<DeadLetter> letters;
  std::int64_t last_id = 0;  // of those looked at, wanted or not; 0: there were none
  bool more = false;         // look again after `last_id`
};

struct DeadMoved {
  std::uint64_t events = 0;
  std::uint64_t unreadable = 0;  // stayed: no event can be read from them
  std::int64_t last_id = 0;      // of those looked at; 0: there were none
  std::int64_t up_to_id = 0;     // the query's, or the newest there was when it began
};

struct LedgerCheck {
  bool balanced = false;
  std::vector<std::string> problems;  // one sentence each, empty when balanced
  std::uint64_t rows = 0;
};

enum class Consent { kUnset, kEnabled, kLocal, kDisabled };

struct ConsentRecord {
  std::uint32_t uid = 0;
  std::string app;  // "" speaks of all tools
  Consent state = Consent::kUnset;
  UnixMs decided_unix_ms = 0;
};

struct Info {
  std::uint64_t bytes = 0;
  std::uint64_t bytes_max = 0;
  std::string sqlite_version;
  std::uint64_t epoch = 0;
  std::string store_uuid;
  std::optional<std::string> loss;  // what the witness proved at open, in plain words
  // Accounts of the ledger that did not match the rows at open and were set right: 0 unless the
  // store was damaged, also after a power cut.
  std::uint64_t ledger_corrections = 0;
  // Damaged stores that were set aside and wait for telemetryd-salvage; part of `bytes`.
  std::uint64_t quarantined_stores = 0;
  std::uint64_t quarantined_bytes = 0;
  std::filesystem::path quarantined_newest;
  std::vector<Trouble> troubles;  // now; empty when all is well
  // At the rate of the last minutes; nothing when the queue does not grow.
  std::optional<std::uint64_t> time_to_full_s;
};

// What commit() must be told at once for: the scheduler does not poll.
struct QueueChange {
  std::string app;
  std::uint64_t events = 0;
  std::uint64_t bytes = 0;
  bool urgent = false;
};

class Store {
 public:
  virtual ~Store() = default;

  // Stores a group of frames in one transaction and returns after the commit is on disk: killing
  // process or machine then loses nothing. Answers stand in the order of `group`. An error means
  // that no frame of the group may be answered; kUnknownOutcome, that the process must end.
  virtual Result<std::vector<Answer>> commit(std::span<const Append> group) = 0;

  // The highest settled frame number of a client; nothing when it is unknown.
  virtual Result<std::optional<std::uint64_t>> high_water(const ClientKey& client) = 0;

  // GOODBYE: drops the client's deduplication entry.
  virtual Result<void> forget(const ClientKey& client) = 0;

  // Takes in a client's own loss counters, absolute since the instance began; the ledger gets the
  // difference.
  virtual Result<void> report(const ClientInfo& client,
                              const std::map<std::string, std::uint64_t>& losses_by_reason) = 0;

  // Lends the oldest queued rows of the request's apps, in seq order: as many as fit, at least one
  // event. A lease lasts until settle() or release(), and not beyond this process.
  virtual Result<Lease> lease(const LeaseRequest& request) = 0;
  // The settlement is on disk at return, so that a crash repeats at most the leases that are out.
  virtual Result<void> settle(const Settlement& settlement) = 0;
  virtual void release(LeaseId lease) = 0;

  virtual Result<Ledger> ledger() = 0;
  // Counts the stored rows and compares. Reads everything: for `ledger check`, not for status.
  virtual Result<LedgerCheck> check_ledger() = 0;

  virtual std::vector<std::string> apps() = 0;
  virtual Result<QueueInfo> queue(const std::string& app) = 0;
  virtual Result<std::vector<ListedEvent>> list(const EventQuery& query) = 0;

  virtual Result<DeadPage> dead_letters(const DeadQuery& query) = 0;
  // In one transaction, so of a bounded number of them: back into the queue, as the youngest rows
  // of their apps. kResourceExhausted: there is no room.
  virtual Result<DeadMoved> replay_dead(const DeadQuery& query) = 0;
  // Likewise: thrown away, and counted as dropped.
  virtual Result<DeadMoved> drop_dead(const DeadQuery& query) = 0;

  // Opaque to the store: the scheduler's attempts, next attempt and last error.
  virtual Result<std::map<std::string, std::string>> destination_states() = 0;
  virtual Result<void> save_destination_state(const std::string& name,
                                              const std::string& state) = 0;

  virtual Result<std::vector<ConsentRecord>> consents() = 0;
  // kDisabled also erases as erase() does, and a crash in between loses neither: call erase() for
  // frames that were on their way.
  virtual Result<void> set_consent(const ConsentRecord& record) = 0;
  // Erases a user's queued events of `app` ("": all apps). Leased rows go when their lease ends.
  // Returns events, with those that set_consent() erased since the last call.
  virtual Result<std::uint64_t> erase(std::uint32_t uid, const std::string& app) = 0;

  virtual Result<std::optional<std::string>> identity(const std::string& key) = 0;
  virtual Result<void> set_identity(const std::string& key, const std::string& value) = 0;

  virtual Result<Info> info() = 0;

  // When idle() wants to be called again although nothing happened; nothing: not before new work.
  using Rest = std::optional<std::chrono::milliseconds>;
  // Called by the store thread when nothing waits: due checkpoints, the witness, rows that are too
  // old, pages to give back. Returns soon.
  virtual Result<Rest> idle() = 0;
  // Checkpoint, synced witness with `clean` set, close.
  virtual Result<void> close() = 0;

  // Called on the store thread, inside commit() after the disk has it, when an app's queue leaves
  // empty, grows past another `events_step` or `bytes_step`, or gets an urgent row.
  using QueueObserver = std::function<void(const QueueChange&)>;
  virtual void observe_queue(QueueObserver observer,
                             std::uint64_t events_step,
                             std::uint64_t bytes_step) = 0;
};

// Opens or creates the store: lock, type and owner checks, pragmas (verified), schema, witness,
// epoch. A store of ours that cannot be read is set aside, and a new one opened in its place.
// kFailedPrecondition: another daemon has it (the message names its pid), or it belongs to a
// newer version.
[[nodiscard]] Result<std::unique_ptr<Store>> open_sqlite_store(const Options& options,
                                                               const Clock& clock);

}  // namespace telemetryd::store
