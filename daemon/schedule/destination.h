// schedule/destination.h: when one destination gets its next lease, as a plain state machine.
//
// It knows how much is queued, when it last failed and what time it is told, and answers one
// question: lease now, wait until, or nothing to do. It owns no timer, no socket and no row, so a
// test turns its clock by hand. Boot time decides; wall time appears only in what is persisted,
// because boot time means nothing after a restart.
//
// After an outage the first lease is small, and each that is delivered doubles the next, so that an
// upstream that just came back is not thrown down again by all who waited.
//
// Thread:  loop.
// Limits:  one lease out; kMemoryBytesMax of memory; those of outage.h and mutes.h.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/clock.h"
#include "base/daily_sum.h"
#include "schedule/backoff.h"
#include "schedule/lease_codec.h"
#include "schedule/mutes.h"
#include "schedule/outage.h"

namespace telemetryd::schedule {

struct Timing {
  std::chrono::milliseconds sync_interval{300000};
  std::uint32_t batch_events_max = 1000;
  std::uint64_t batch_bytes_max = 1u << 20;
  BackoffLimits backoff;
};

struct Action {
  enum class Kind {
    kNothing,  // until the next input
    kLease,    // now
    kWait,     // until `until`
  };
  Kind kind = Kind::kNothing;
  BootMs until = 0;
};

struct Failure {
  bool hold = false;  // a person must act; until then one probe per backoff
  std::chrono::milliseconds retry_after{0};
  std::string error;
  Cause cause = Cause::kUnspecified;
  // What was delivered is not written down yet: there is another lease for that, also when nothing
  // is queued that may leave.
  bool unsettled = false;
};

class Destination {
 public:
  static constexpr std::chrono::milliseconds kResumeMax{30000};
  // So that machines on one network do not all come back at once with it.
  static constexpr std::chrono::milliseconds kReturnMax{5000};
  // Of the first lease after an outage.
  static constexpr std::uint32_t kRampEventsFirst = 16;

  enum class State { kIdle, kWaiting, kSending, kBackoff, kHeld };

  Destination(const Timing& timing, Prng& prng) : timing_(timing), prng_(prng) {}

  // What its apps hold together now, leased rows included.
  void queue_is(std::uint64_t events, std::uint64_t bytes);

  // At start, after queue_is(): what is queued is from before, and may be urgent. It is synced at a
  // random time within kResumeMax, or the interval when that is shorter, but not before a backoff.
  void resume(BootMs now);

  // An urgent row arrived, or rows may leave that waited: due now, but never past a backoff.
  void urge() { urgent_ = true; }

  // Somebody asks by hand: due now, backoff and hold ignored for one lease. It leases even while
  // the queue looks empty, because the store knows better.
  void flush() { flush_ = true; }

  bool flushing() const { return flush_; }

  // The person was told that it is not possible now.
  void refuse_flush() { flush_ = false; }

  // A person changed something: a held destination is tried at once, and rows that were not
  // leasable count again.
  void reconsider(BootMs now);

  // What to do at `now`. Chooses the time of the next sync when there is none yet.
  Action step(BootMs now);

  // The caller took up kLease; nothing else is due until one of the three answers below.
  void leasing();
  // The store had nothing to lend while it held `events` and `bytes`: the cycle ends. Those may not
  // leave (consent, or too young until `due`), and do not count for the size trigger any more; what
  // came since does.
  void drained(BootMs now,
               std::uint64_t events,
               std::uint64_t bytes,
               std::optional<BootMs> due = std::nullopt);

  // What was lent may not leave as the machine stands now, or was not all that is due: due as soon
  // as the caller lets it.
  void postponed() { sending_ = false; }

  // What kept back what is due is gone: at a random time within kReturnMax.
  void released(BootMs now);
  // What made the last attempt fail may be gone: the next one is at a random time within
  // kReturnMax, unless it was to be earlier, and not before the upstream's Retry-After.
  void retry_soon(BootMs now);

  // Delivered and settled. More is due at once, until drained.
  void delivered(UnixMs now_unix);
  void failed(BootMs now, const Failure& failure);

  // The lease's attempt number: 1 for a first try.
  std::uint32_t attempt() const { return outage_.failures() + 1; }

  // How many events the next lease may hold. Whoever looks for the event at which an upstream fails
  // needs others beside it.
  std::uint32_t events_max(BootMs now) const {
    if (outage_.suspect_events(now)) return timing_.batch_events_max;
    return ramp_.value_or(timing_.batch_events_max);
  }

  const Outage& outage() const { return outage_; }

  // The caller leaves rows of these out of queue_is() and of leases.
  const Mutes& mutes() const { return mutes_; }

  Mutes& mutes() { return mutes_; }

  // Bytes of bodies that went out, also with attempts that failed.
  void sent(BootMs now, std::uint64_t bytes) { sent_.add(now, bytes); }

  const DailySum& sent() const { return sent_; }

  // What the forwarder wants to be told with each lease.
  const std::string& memory() const { return memory_; }

  // True when that is news, and so worth saving.
  bool remember(const std::string& memory);

  State state() const;
  std::optional<BootMs> next_attempt() const;

  std::optional<UnixMs> last_success() const { return last_success_; }

  // What must survive a restart, as JSON.
  std::string persisted(BootMs now, UnixMs now_unix) const;
  // Takes it back. A next attempt further away than any backoff can be is the work of a wall clock
  // that jumped, and is drawn again. False: not understood, nothing changed.
  bool restore(std::string_view text, BootMs now, UnixMs now_unix);

 private:
  // Neither an event nor what was delivered waits for anything.
  bool idle() const { return events_ == 0 && !unsettled_; }

  bool size_reached() const;
  BootMs choose_sync(BootMs now);
  void restore_sent(const nlohmann::json& sent, BootMs now, UnixMs now_unix);

  Timing timing_;
  Prng& prng_;
  std::uint64_t events_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t stuck_events_ = 0;  // of these, seen to be not leasable when the last cycle ended
  std::uint64_t stuck_bytes_ = 0;
  bool urgent_ = false;
  bool flush_ = false;
  bool sending_ = false;
  bool draining_ = false;
  bool first_sync_ = true;
  bool held_ = false;
  bool unsettled_ = false;
  Outage outage_;
  Mutes mutes_;
  DailySum sent_;
  std::string memory_;
  std::optional<std::uint32_t> ramp_;  // only after an outage
  std::optional<BootMs> next_sync_;
  std::optional<BootMs> next_attempt_;
  BootMs not_before_ = 0;    // by the upstream's Retry-After
  BootMs paused_until_ = 0;  // by released()
  std::optional<UnixMs> last_success_;
};

std::string_view to_string(Destination::State state);

}  // namespace telemetryd::schedule
