// schedule/scheduler_impl.h: the inside of Scheduler, shared by its sources.
//
// scheduler.cc turns the destinations' decisions into work and keeps timers and flushes;
// scheduler_lease.cc carries one lease from the store to the forwarder and its outcome back;
// scheduler_conditions.cc holds back what may not leave as the machine stands.
//
// Thread:  loop.

#pragma once

#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "schedule/destination.h"
#include "schedule/forwarder_link.h"
#include "schedule/scheduler.h"
#include "schedule/store_job.h"

namespace telemetryd::schedule {

// Rows that are with the forwarder: enough to check its answer and to take them back.
struct OutLease {
  struct Range {
    std::uint32_t first_index = 0;
    std::uint32_t count = 0;
  };

  std::uint64_t message_id = 0;
  store::LeaseId store_lease = 0;
  std::map<store::Seq, Range> rows;
};

// kInvalidArgument when `rejected` names events that were not in the lease, or one twice.
[[nodiscard]] Result<void> check_rejected(const OutLease& lease,
                                          std::vector<store::Rejected> rejected);

struct Scheduler::Impl {
  struct Slot {
    Slot(DestinationSpec spec_arg, const Timing& timing, Prng& prng)
        : spec(std::move(spec_arg)), machine(timing, prng) {}

    DestinationSpec spec;
    Destination machine;
    std::vector<std::string> apps;
    std::optional<OutLease> out;
    // Delivered, but the store could not write it down: tried again before the next lease, so that
    // a full disk does not become duplicates upstream.
    std::optional<store::Settlement> unsettled;
    std::optional<std::int64_t> certificate_expires_unix_s;
    std::uint64_t urged_by = 0;  // the number of the latest urgent notice
    bool busy = false;           // between step() and its answer
    bool removed = false;        // no longer configured; goes when not busy
    // The rule that keeps back what is due; empty: none does.
    std::string_view waits_for;
    bool sent_unsaved = false;  // how much it sent today
    bool day_is_spent = false;  // so the store was asked for no rows
    bool by_hand = false;       // a person asked for what is due now
    bool may_be_urgent = true;  // urgent rows may be queued; after a start nobody knows
    // What is asked of the store, or out, is nothing but urgent rows.
    bool urgent_rows_out = false;
    // The last lease was asked for as such: the others are next.
    bool urgent_had_turn = false;
  };

  struct AppQueue {
    store::QueueInfo info;
    std::uint64_t number = 0;  // of the reading that `info` is
  };

  struct Flush {
    std::set<std::string> waiting;
    std::optional<Error> first_error;
    std::function<void(Result<void>)> done;
    std::unique_ptr<loop::Timer> deadline;
    bool armed = false;  // `waiting` is what it waits for
    bool by_hand = true;
  };

  struct Probe {
    std::string destination;
    std::function<void(Result<std::string>)> done;
    bool sent = false;
  };

  // A lease between the store and the forwarder, waiting for machine IDs, then for the link.
  struct Handover {
    std::string destination;
    store::Lease lease;
    std::map<std::string, std::string> machine_ids;
    std::size_t ids_missing = 0;
  };

  Impl(loop::Loop& loop,
       store::StoreThread& store,
       const Clock& clock,
       const Options& options,
       std::vector<DestinationSpec> destinations,
       Hooks hooks);

  loop::Loop& loop;
  store::StoreThread& store;
  const Clock& clock;
  Options options;
  Timing timing;
  Hooks hooks;
  Prng prng;
  std::map<std::string, std::unique_ptr<Slot>> slots;
  std::map<std::string, AppQueue> apps;
  std::list<std::shared_ptr<Flush>> flushes;
  std::map<std::uint64_t, Probe> probes;
  std::vector<std::shared_ptr<Handover>> for_link;  // complete, until the forwarder has greeted
  std::vector<store::LeaseId> unreleased;           // to be given back with the next job
  std::uint64_t next_id = 1;
  bool started = false;
  bool started_queues = false;  // every app that was in the store at the start is in `apps`
  bool ended = false;           // stop() is past its flush
  bool told_busy = false;
  bool turning = false;
  bool turn_again = false;
  bool reload_owed = false;
  loop::BootTimer wake;
  // As the forwarder says; nothing while none is connected or it has not said yet.
  std::optional<Conditions> conditions;
  loop::Timer no_conditions;
  ForwarderLink link;
  // Answers from other threads look here before they touch us.
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);

  // scheduler.cc
  void start();
  void started_with(StoreAnswer answer);
  void queue_changed(const store::QueueChange& change, std::uint64_t number);
  void reconsider(const std::string& app);
  void look_again(const std::string& app);
  void flush(std::function<void(Result<void>)> done,
             std::chrono::milliseconds deadline,
             bool by_hand);
  void arm_flush(Flush& flush);
  void leave_flushes(const std::string& destination, const std::optional<Error>& error);
  void finish_flushes();
  void reconfigure(std::vector<DestinationSpec> destinations);
  void add_slot(DestinationSpec spec);
  void reroute();
  void take_queues(const StoreAnswer& answer);
  std::map<std::string, store::QueueInfo> known_queues() const;
  void refresh_queue(Slot& slot);
  // Those of its apps whose events the upstream wants now.
  std::vector<std::string> wanted_apps(const Slot& slot) const;
  void serve_mutes(Slot& slot, BootMs now, std::optional<BootMs>& wake_at);
  void probe(const std::string& destination, std::function<void(Result<std::string>)> done);
  void end_probe(std::uint64_t id, Result<std::string> result);
  void status(std::function<void(std::vector<DestinationStatus>)> done);
  DestinationStatus status_of(const Slot& slot,
                              const std::map<std::string, store::QueueInfo>& queues) const;
  void stop(bool sync, std::chrono::milliseconds deadline, std::function<void()> done);
  void turn();
  void turn_once();
  void serve_slots(BootMs now, std::optional<BootMs>& wake_at);
  void serve_link(BootMs now, std::optional<BootMs>& wake_at);
  bool retries_within_an_hour(BootMs now) const;
  void on_link_ready();
  void finish_stop(std::chrono::milliseconds grace, std::function<void()> done);
  void tell_busy();
  bool anything_out() const;
  std::vector<std::string> all_apps() const;

  // scheduler_conditions.cc
  Permission permission_of(const Slot& slot) const;
  Action next_action(Slot& slot, BootMs now);
  Action keep_back(Slot& slot, BootMs now, std::string_view rule, Action until);
  std::uint64_t bytes_left_today(BootMs now) const;
  std::optional<BootMs> spent_until(const Slot& slot, BootMs now) const;
  static bool waits_for_news(const Slot& slot);
  bool urgent_first(const Slot& slot) const;
  void on_conditions(const Conditions& news);
  void on_route_change();
  static bool waits_for_network(const Slot& slot);
  bool anything_waits_for_news() const;
  void take_back(Slot& slot);
  void link_gone();

  // scheduler_lease.cc
  void request_lease(Slot& slot);
  void lease_answered(const std::string& destination, StoreAnswer answer);
  void hand_over(Slot& slot, store::Lease lease);
  void machine_id_is(const std::shared_ptr<Handover>& handover,
                     const std::string& app,
                     const std::string& id);
  Slot* holder_of(const Handover& handover);
  void send_lease(const std::shared_ptr<Handover>& handover);
  void on_outcome(Outcome outcome);
  void take_news(Slot& slot, const Outcome& outcome);
  void on_link_end(const std::string& why);
  void lease_failed(Slot& slot, Failure failure);
  void nothing_asked(Slot& slot);
  void nothing_urgent(Slot& slot, const StoreAnswer& answer);
  void nothing_lent(Slot& slot, const StoreAnswer& answer);
  void slot_free(Slot& slot);
  void give_up(Slot& slot);
  void save_state(Slot& slot);
  Slot* find(const std::string& destination);
  Slot* holder_of(std::uint64_t message_id);
};

}  // namespace telemetryd::schedule
