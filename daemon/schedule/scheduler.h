// schedule/scheduler.h: when which destination gets what; drives one forwarder over the lease
// protocol.
//
// Per destination: wait for interval (random phase, jitter), size or urgency; lease; hand over;
// settle or back off with full jitter; drain everything that is due, oldest first with a share for
// urgent rows, one lease out at a time. What may leave as the machine stands schedule/sync_policy.h
// says. What was queued before a restart may be urgent, which the store does not remember, so it
// is due within kResumeMax of the start. The decisions are a plain state machine with time as an
// argument (schedule/destination.h); this class connects it to timers, store and forwarder.
//
// Owns:    the link to the forwarder (child or connected), the destinations' timers. No timer while
// nothing is queued. Thread:  loop.

#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "loop/loop.h"
#include "schedule/sync_policy.h"
#include "store/store_thread.h"

namespace telemetryd::schedule {

struct Options {
  std::chrono::milliseconds sync_interval{300000};
  std::uint32_t batch_events_max = 1000;
  std::uint64_t batch_bytes_max = 1u << 20;
  std::chrono::milliseconds retry_delay_min{1000};
  std::chrono::milliseconds retry_delay_max{300000};
  SyncPolicy policy;
  std::uint64_t network_bytes_per_day_max = 0;  // of bodies, all destinations together; 0: no limit
  std::filesystem::path forward_socket;  // empty: start `forward_command` as a child with fd 3
  std::vector<std::string> forward_command;
};

struct DestinationSpec {
  std::string name;
  std::string kind;
  bool on_this_machine = false;  // what the network costs does not matter
};

// What the status view shows; design.md 9.4 names the JSON members.
struct DestinationStatus {
  std::string name;
  std::string kind;
  std::string state;        // "idle", "waiting", "sending", "backoff", "held"
  std::string waiting_for;  // the rule of schedule/sync_policy.h that keeps back what is due
  std::vector<std::string> apps;
  std::uint64_t queued_events = 0;
  std::uint64_t queued_bytes = 0;
  std::optional<std::int64_t> oldest_age_s;
  std::optional<std::int64_t> next_attempt_s;
  std::uint32_t attempts = 0;             // failures in a row
  std::optional<std::int64_t> failing_s;  // since the first of them
  std::string first_error;
  std::string last_error;
  std::string cause;                            // of the last failure, in one word
  std::map<std::string, std::int64_t> muted_s;  // apps that the upstream wants nothing of, how long
  std::optional<std::int64_t> certificate_expires_unix_s;  // of ours towards this upstream
  std::uint64_t sent_bytes_today = 0;                      // of bodies; see base/daily_sum.h
  std::optional<std::int64_t> last_success_unix_ms;
};

class Scheduler {
 public:
  // Asked when routes or consent may have changed what is due.
  struct Hooks {
    // The destination's name for an app; nothing when unrouted.
    std::function<std::optional<std::string>(const std::string& app)> route;
    std::function<std::set<std::pair<std::uint32_t, std::string>>()> held;
    // How old an event must be before it leaves; may be left out.
    std::function<std::chrono::milliseconds()> min_age = nullptr;
    // The machine ID for an app, derived and persisted by the caller; may answer later, on the
    // loop.
    std::function<void(const std::string& app, std::function<void(std::string)>)> machine_id;
    // Forwarder leases that came and went; for the watchdog: work is outstanding or not.
    std::function<void(bool busy)> on_busy;
  };

  Scheduler(loop::Loop& loop,
            store::StoreThread& store,
            const Clock& clock,
            const Options& options,
            std::vector<DestinationSpec> destinations,
            Hooks hooks);
  ~Scheduler();

  // Reads persisted states and what is queued from the store, then begins.
  void start();
  // From the store's queue observer, posted to the loop; `number` was taken when the observer was
  // called (schedule/queue_number.h). Numbers that an answer has outrun are ignored.
  void queue_changed(const store::QueueChange& change, std::uint64_t number);
  // Somebody's word lets rows of this app leave that waited for it, of all apps when it is empty:
  // they are looked for now, urgent or not, but not past a backoff.
  void reconsider(const std::string& app);
  // `queue flush`: everything is due now, backoff ignored, and so is what the policy leaves to a
  // person; `done` gets nothing left to send, or the first error.
  void flush(std::function<void(Result<void>)> done, std::chrono::milliseconds deadline);
  // Configuration was reloaded: new destinations, new routes; the forwarder is told to read its own
  // again.
  void reconfigure(std::vector<DestinationSpec> destinations);
  void probe(const std::string& destination, std::function<void(Result<std::string>)> done);
  void status(std::function<void(std::vector<DestinationStatus>)> done);
  // Final sync within the deadline when asked, then ends the forwarder. `done` comes once.
  void stop(bool sync, std::chrono::milliseconds deadline, std::function<void()> done);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace telemetryd::schedule
