// store/sqlite_store.h: the Store on SQLite.
//
// One class over several sources, by verb. Every change of rows is a transaction of one shape:
// plan, write, commit, then change what is in memory.
//
// Owns:    the connection, the lock, the leases.
// Thread:  store thread.
// Fails:   as Store; after kUnknownOutcome every call returns it.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "store/books.h"
#include "store/client_cache.h"
#include "store/commit_plan.h"
#include "store/database.h"
#include "store/disk_faults.h"
#include "store/growth_rate.h"
#include "store/old_refusals.h"
#include "store/open_database.h"
#include "store/row_bytes.h"
#include "store/row_parts.h"
#include "store/space.h"
#include "store/state_files.h"
#include "store/statements.h"
#include "store/store.h"
#include "store/unbooked.h"
#include "store/uptime.h"
#include "store/vfs_file.h"
#include "store/witness.h"
#include "store/write_pause.h"

namespace telemetryd::store {

class SqliteStore final : public Store {
 public:
  using Opened = Result<std::unique_ptr<SqliteStore>>;
  [[nodiscard]] static Opened open(const Options& options, const Clock& clock);

  Result<std::vector<Answer>> commit(std::span<const Append> group) override;
  Result<std::optional<std::uint64_t>> high_water(const ClientKey& client) override;
  Result<void> forget(const ClientKey& client) override;
  Result<void> report(const ClientInfo& client,
                      const std::map<std::string, std::uint64_t>& losses_by_reason) override;
  Result<Lease> lease(const LeaseRequest& request) override;
  Result<void> settle(const Settlement& settlement) override;
  void release(LeaseId lease) override;
  Result<Ledger> ledger() override;
  Result<LedgerCheck> check_ledger() override;
  std::vector<std::string> apps() override;
  Result<QueueInfo> queue(const std::string& app) override;
  Result<std::vector<ListedEvent>> list(const EventQuery& query) override;
  Result<DeadPage> dead_letters(const DeadQuery& query) override;
  Result<DeadMoved> replay_dead(const DeadQuery& query) override;
  Result<DeadMoved> drop_dead(const DeadQuery& query) override;
  Result<std::map<std::string, std::string>> destination_states() override;
  Result<void> save_destination_state(const std::string& name, const std::string& state) override;
  Result<std::vector<ConsentRecord>> consents() override;
  Result<void> set_consent(const ConsentRecord& record) override;
  Result<std::uint64_t> erase(std::uint32_t uid, const std::string& app) override;
  Result<std::optional<std::string>> identity(const std::string& key) override;
  Result<void> set_identity(const std::string& key, const std::string& value) override;
  Result<Info> info() override;
  Result<Rest> idle() override;
  Result<void> close() override;
  void observe_queue(QueueObserver observer,
                     std::uint64_t events_step,
                     std::uint64_t bytes_step) override;

 private:
  using Lock = std::shared_ptr<StateLock>;
  SqliteStore(Options options, const Clock& clock, Lock lock, StateFiles files, Database db);

  // sqlite_store_start.cc
  static Opened open_as_it_is(const Options& options, const Clock& clock, const Lock& lock);
  Result<void> start();
  Result<void> prepare_statements();
  Result<void> start_epoch(const UnbookedDamage& damage);
  OldRefusals old_refusals();
  Result<void> take_over(const OldRefusals& refusals);
  Result<void> look_for_lost_consent();
  Result<void> load_partial_rows();
  Result<void> read_epoch();
  std::string mark_of_machine() const;
  Result<void> look_at_machine();
  Result<void> read_witness();
  Correction correction_for(const Gap& gap) const;

  // sqlite_store_verify.cc
  void give_up();
  Result<void> still_there();
  void leave_witness();
  void verify_slice();
  Result<void> verify_next();
  Result<void> verify_table(const std::string& table);
  Result<void> verify_row();

  // sqlite_store_check.cc
  Result<std::map<AppId, CountedRows>> count_rows(const std::set<Seq>& without);
  Result<Moves> follow_rows(const std::set<Seq>& without);
  Result<void> correct_books();
  void inherit_orphans();
  Result<void> write_correction();
  Result<void> recount();

  // sqlite_store.cc
  Result<void> write_witness(bool sync, bool clean);
  Result<void> write_due_witness();
  Result<void> checkpoint();
  Result<void> checkpoint_if_above(std::uint64_t wal_bytes);
  std::uint64_t checkpoint_threshold() const;
  // Rolls back when `write` fails. `write` may run again: with the reserve of pages, which
  // delivery, consent and erasure may use at the quota, and after a checkpoint.
  Result<void> transact(const std::function<Result<void>()>& write);
  enum class Booking { kNow, kLater };
  Result<void> transact_within_quota(const std::function<Result<void>()>& write,
                                     Booking booking = Booking::kNow);
  Result<void> transact_once(const std::function<Result<void>()>& write, Booking booking);
  Result<void> commit_transaction();
  void roll_back();
  Result<void> usable();
  static int on_wal(void* self, sqlite3* db, const char* name, int pages);

  // sqlite_store_book.cc
  Result<void> book(Seq up_to);
  Result<void> book_now();
  Result<void> put_client(const ClientKey& key, std::uint64_t high_water);
  Result<void> forget_oldest_clients();
  Result<UnbookedDamage> load_unbooked();
  Result<void> note_damage(Seq seq, UnbookedDamage& damage);
  Result<void> remove_unbooked(const UnbookedDamage& damage);

  // sqlite_store_commit.cc
  Result<std::optional<std::uint64_t>> look_up_high_water(const ClientKey& client);
  Result<std::vector<Answer>> commit_group(std::span<const Append> group);
  Result<CommitPlan> plan_group(std::span<const Append> group);
  Answer plan_frame(const Append& frame, PlannedClient& client, CommitPlan& plan);
  void plan_stored(const Append& frame, AppId app, PlannedClient& client, CommitPlan& plan);
  Result<void> write_plan(const CommitPlan& plan, Booking booking);
  Result<void> write_row(const PlannedRow& row, Seq seq);
  Result<void> insert_row(Seq seq, const RowColumns& columns, const RowContent& content);
  void apply_plan(const CommitPlan& plan, Booking booking);
  void log_gap(const ClientKey& key, const PlannedClient& client);
  void tell_observer(const CommitPlan& plan);
  void tell_observer_of(AppId app, event::Urgency urgency);

  // sqlite_store_evict.cc
  Result<bool> at_page_limit(std::uint64_t bytes);
  Result<Eviction> plan_eviction(std::uint64_t bytes);
  Result<void> write_eviction(Eviction& eviction);
  Result<void> pass_over(const Result<void>& read, Eviction& eviction);
  Result<void> look_at_older_rows();
  void count_shares_anew();
  void leave_share(Seq seq, const Owner& owner, std::uint64_t blob_bytes);
  Result<Seq> behind_unreadable(const Owner& owner, Seq at, const Error& cause);
  void choose_row(
      Seq seq, AppId app, std::int64_t count, std::int64_t blob_bytes, Eviction& eviction) const;
  Result<bool> choose_rows_of(const Owner& owner,
                              std::uint64_t bytes,
                              Shares& shares,
                              Eviction& eviction);
  Result<void> choose_dead(std::uint64_t bytes, Eviction& eviction);
  void apply_eviction(const Eviction& eviction);

  // sqlite_store_space.cc
  std::optional<Refusal> disk_refusal();
  Result<std::optional<Refusal>> growth_refusal(const CommitPlan& plan);
  Result<bool> grow_file(std::uint64_t pages);
  std::vector<Trouble> troubles();
  bool time_to_give_back(BootMs now);
  BootMs give_back_boot_ms() const;
  Result<void> give_back();

  // sqlite_store_expire.cc
  void expire_due();
  Result<void> expire_rows(BootMs now);
  Result<Expiry> rows_too_old(BootMs now);
  Result<void> remove_wrong_of(std::uint32_t uid, Seq up_to);

  // sqlite_store_lease.cc
  Result<std::optional<StoredRow>> load_row(Seq seq);
  Result<Moves> moves_of_damaged(const std::vector<StoredRow>& rows, const std::set<Seq>& seqs);
  Result<void> remove_damaged(const std::vector<StoredRow>& rows);
  Result<void> remove_wrong(const std::vector<Seq>& seqs);
  bool columns_right(const Rows& rows, int first) const;
  std::optional<BootMs> young_until(const LeaseRequest& request, const Rows& rows) const;
  Result<DueRows> due_rows(const LeaseRequest& request);
  bool readable(Seq from);
  Result<Seq> skip_unreadable(Seq at, const Error& cause);
  void retry_unreadable();
  Seq open_cursors(const LeaseRequest& request, std::map<AppId, Cursor*>& cursors);
  std::optional<LeasedRow> lend(StoredRow& row, const LeaseRequest& request, bool alone);

  // sqlite_store_settle.cc
  Result<void> settle_now(const Settlement& settlement, const std::vector<LeasedPart>& parts);
  Result<void> write_settlement(const Settlement& settlement, const std::vector<LeasedPart>& parts);
  Result<void> settle_part(const LeasedPart& part,
                           const Settlement& settlement,
                           Moves& moves,
                           std::uint64_t& footprint);
  Result<std::uint32_t> park(const LeasedPart& part,
                             const Settlement& settlement,
                             std::uint64_t& footprint);
  Result<void> delete_row(Seq seq);
  void end_lease(LeaseId lease);

  // sqlite_store_erase.cc
  Result<void> load_erasures();
  Result<Erased> erase_rows(const Erasure& erasure);
  Result<void> erase_dead(const Erasure& erasure, Erased& erased);
  Erasure new_erasure(std::uint32_t uid, const std::string& app);
  Result<void> note_erasure(const Erasure& erasure);
  void erase_withdrawn(const Erasure& erasure);
  Result<std::uint64_t> run_erasure(const Erasure& erasure);
  Result<void> finish_erasures();
  bool waits_for_erasure(Seq seq, std::uint32_t uid, std::string_view app) const;
  Result<void> scrub();
  Result<void> scrub_now();

  // sqlite_store_dead.cc
  Result<DeadPage> find_dead(const DeadQuery& query);
  Result<DeadMoved> nothing_moved(const DeadQuery& query);
  Result<void> drop_letters(std::span<const std::int64_t> ids);
  ReplayPlan plan_replay(std::vector<DeadLetter> letters);
  Result<void> write_replayed(const ReplayedRow& row, Seq seq);

  // sqlite_store_admin.cc
  Result<void> list_row(StoredRow row, const EventQuery& query, std::vector<ListedEvent>& events);

  Options options_;
  const Clock& clock_;
  Lock lock_;
  StateFiles files_;
  Database db_;
  Quota quota_;
  std::uint64_t bytes_max_ = 0;  // as configured, before the quarantine takes its part
  bool closed_ = false;
  bool outcome_unknown_ = false;
  bool log_full_ = false;                 // the last commit found no room for the WAL
  std::optional<Witness> found_witness_;  // of the last run, while the store is being opened
  std::optional<Bytes16> succeeded_;      // the store whose place this one takes now
  std::string consent_lost_;              // a sentence for people; empty: none was
  std::string machine_;                   // a hash that only this store on this machine has
  std::optional<Gap> gap_;
  Correction correction_;  // of books that did not balance when they were opened
  Bytes16 store_uuid_{};
  std::uint64_t epoch_ = 0;
  Bytes16 epoch_random_{};
  Seq next_seq_ = 0;

  Books books_;
  ClientCache clients_;
  std::uint32_t clients_put_ = 0;  // since they were counted last
  Unbooked unbooked_;
  std::map<Seq, std::uint32_t> next_indexes_;  // rows delivered in part
  std::map<AppId, Cursor> cursors_;
  Shares shares_;
  // Rows before the first and from the second on are in shares_; somebody looks at those between.
  Seq shares_looked_ = 0;
  Seq shares_added_ = 0;
  UnreadableRows unreadable_;
  std::vector<Seq> wrong_rows_;  // that an eviction met
  bool recount_due_ = false;     // of the rows' bytes
  std::optional<BootMs> recounted_boot_ms_;
  EvictionLog eviction_log_;
  std::uint64_t gaps_ = 0;  // clients ahead of the store since the log last spoke of them
  std::optional<BootMs> gap_logged_boot_ms_;

  LeaseId next_lease_ = 1;
  std::map<LeaseId, std::vector<LeasedPart>> leases_;
  std::unordered_map<Seq, LeaseId> leased_;

  std::vector<Erasure> erasures_;
  std::int64_t next_erasure_ = 1;
  std::map<std::pair<std::uint32_t, std::string>, std::uint64_t> withdrawn_;
  bool scrub_due_ = false;
  std::optional<BootMs> scrubbed_boot_ms_;

  QueueObserver observer_;
  std::uint64_t events_step_ = 0;
  std::uint64_t bytes_step_ = 0;

  SpaceFloor floor_;
  WritePause write_pause_;
  std::uint64_t pages_ahead_ = 0;  // that the database may grow by before its file has to
  std::optional<std::uint64_t>
      freed_seen_;  // of Books::freed_bytes(), when free pages were counted
  bool giving_back_ = false;
  BootMs written_boot_ms_ = 0;  // the last transaction, those that give back apart

  GrowthRate growth_rate_;
  Uptime uptime_;
  BootMs expire_boot_ms_ = 0;       // not before then is any row too old
  std::uint64_t expired_rows_ = 0;  // since the log last spoke of it

  std::optional<VfsFile> witness_file_;
  bool witness_stale_ = false;
  BootMs witness_boot_ms_ = 0;
  Verification verification_;
  std::uint64_t wal_bytes_ = 0;
  CheckpointFailures checkpoint_failures_;
  double flush_us_ = 0;                // smoothed time of a small commit
  std::uint64_t dropped_counter_ = 0;  // sabotaged builds only
  std::string row_buffer_;

  Statements sql_;
};

}  // namespace telemetryd::store
