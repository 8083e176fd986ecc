#include "schedule/destination.h"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace telemetryd::schedule {

using nlohmann::json;
using std::chrono::milliseconds;

void Destination::queue_is(std::uint64_t events, std::uint64_t bytes) {
  events_ = events;
  bytes_ = bytes;
  stuck_events_ = std::min(stuck_events_, events);
  stuck_bytes_ = std::min(stuck_bytes_, bytes);
  // The next sync is counted from the first event that waits, not from one that left.
  if (events == 0) next_sync_.reset();
}

void Destination::resume(BootMs now) {
  if (events_ == 0) return;
  const milliseconds within = std::min(timing_.sync_interval, kResumeMax);
  // The first regular sync keeps its random phase in the whole interval.
  next_sync_ = now + uniform(milliseconds(0), within, prng_).count();
}

void Destination::reconsider(BootMs now) {
  stuck_events_ = 0;
  stuck_bytes_ = 0;
  next_sync_.reset();
  if (held_ && next_attempt_) next_attempt_ = now;
}

void Destination::released(BootMs now) {
  if (now < paused_until_) return;
  paused_until_ = now + uniform(milliseconds(0), kReturnMax, prng_).count();
}

void Destination::retry_soon(BootMs now) {
  // One draw for a row of changes, or the smallest of many would be hardly any wait.
  if (!next_attempt_ || *next_attempt_ <= now + kReturnMax.count()) return;
  const BootMs soon = now + uniform(milliseconds(0), kReturnMax, prng_).count();
  next_attempt_ = std::min(*next_attempt_, std::max(soon, not_before_));
}

bool Destination::size_reached() const {
  return events_ - stuck_events_ >= timing_.batch_events_max ||
         bytes_ - stuck_bytes_ >= timing_.batch_bytes_max;
}

BootMs Destination::choose_sync(BootMs now) {
  const milliseconds interval = timing_.sync_interval;
  // The first phase is random, so that machines that booted together do not sync together; the
  // jitter afterwards keeps them from falling into step.
  const milliseconds wait = first_sync_ ? uniform(milliseconds(0), interval, prng_)
                                        : uniform(interval * 9 / 10, interval * 11 / 10, prng_);
  first_sync_ = false;
  return now + wait.count();
}

Action Destination::step(BootMs now) {
  if (sending_) return {};
  if (flush_) return {Action::Kind::kLease};
  if (idle()) return {};
  if (now < paused_until_) return {Action::Kind::kWait, paused_until_};
  if (next_attempt_) {
    if (now < *next_attempt_) return {Action::Kind::kWait, *next_attempt_};
    return {Action::Kind::kLease};
  }
  if (draining_ || urgent_ || size_reached()) return {Action::Kind::kLease};
  if (!next_sync_) next_sync_ = choose_sync(now);
  if (now < *next_sync_) return {Action::Kind::kWait, *next_sync_};
  return {Action::Kind::kLease};
}

void Destination::leasing() {
  sending_ = true;
  draining_ = true;
  flush_ = false;
  urgent_ = false;
  next_sync_.reset();
  next_attempt_.reset();
}

void Destination::drained(BootMs now,
                          std::uint64_t events,
                          std::uint64_t bytes,
                          std::optional<BootMs> due) {
  sending_ = false;
  draining_ = false;
  urgent_ = false;
  stuck_events_ = std::min(events, events_);
  stuck_bytes_ = std::min(bytes, bytes_);
  if (!due) return;
  // Not once for each row that comes of age, and not once for each interval before the first does.
  next_sync_ = std::max(choose_sync(now), *due);
}

void Destination::delivered(UnixMs now_unix) {
  sending_ = false;
  draining_ = true;
  held_ = false;
  unsettled_ = false;
  outage_.end();
  last_success_ = now_unix;
  if (ramp_ && *ramp_ >= timing_.batch_events_max / 2) ramp_.reset();
  if (ramp_) *ramp_ *= 2;
}

void Destination::failed(BootMs now, const Failure& failure) {
  sending_ = false;
  draining_ = false;
  flush_ = false;
  outage_.failed(now, failure.cause, failure.error);
  held_ = failure.hold;
  unsettled_ = failure.unsettled;
  not_before_ = now + std::clamp(failure.retry_after, milliseconds(0), kRetryAfterMax).count();
  if (outage_.was_away()) ramp_ = std::min(kRampEventsFirst, timing_.batch_events_max);
  next_attempt_ =
      now + backoff_delay(timing_.backoff, outage_.failures(), failure.retry_after, prng_).count();
}

bool Destination::remember(const std::string& memory) {
  if (memory == memory_ || memory.size() > kMemoryBytesMax) return false;
  memory_ = memory;
  return true;
}

Destination::State Destination::state() const {
  if (sending_) return State::kSending;
  if (held_) return State::kHeld;
  if (idle()) return State::kIdle;
  return next_attempt_ ? State::kBackoff : State::kWaiting;
}

std::optional<BootMs> Destination::next_attempt() const {
  if (sending_ || idle()) return std::nullopt;
  return next_attempt_ ? next_attempt_ : next_sync_;
}

std::string Destination::persisted(BootMs now, UnixMs now_unix) const {
  json state = {{"v", 1}, {"held", held_}};
  outage_.persist(state, now);
  mutes_.persist(state, now, now_unix);
  if (!memory_.empty()) state["memory"] = memory_;
  if (const std::uint64_t bytes = sent_.today(now); bytes > 0) {
    state["sent_today"] = {{"began_unix_ms", sent_.began_unix_ms(now, now_unix)}, {"bytes", bytes}};
  }
  if (next_attempt_) state["next_attempt_unix_ms"] = now_unix + (*next_attempt_ - now);
  if (last_success_) state["last_success_unix_ms"] = *last_success_;
  return state.dump(-1, ' ', false, json::error_handler_t::replace);
}

void Destination::restore_sent(const json& sent, BootMs now, UnixMs now_unix) {
  if (!sent.is_object()) return;
  const json began = sent.value("began_unix_ms", json());
  const json bytes = sent.value("bytes", json());
  if (!began.is_number_integer() || !bytes.is_number_unsigned()) return;
  sent_ = DailySum::restored(began.get<UnixMs>(), bytes.get<std::uint64_t>(), now, now_unix);
}

bool Destination::restore(std::string_view text, BootMs now, UnixMs now_unix) {
  const json state = json::parse(text, nullptr, false);
  if (!state.is_object() || state.value("v", json()) != 1) return false;
  const json held = state.value("held", json());
  if (!held.is_boolean() || !outage_.restore(state, now)) return false;
  held_ = held.get<bool>();
  mutes_.restore(state, now, now_unix);
  restore_sent(state.value("sent_today", json()), now, now_unix);
  if (const json memory = state.value("memory", json()); memory.is_string()) {
    remember(memory.get<std::string>());
  }
  if (const json at = state.value("last_success_unix_ms", json()); at.is_number_integer()) {
    last_success_ = at.get<UnixMs>();
  }
  if (const json at = state.value("next_attempt_unix_ms", json()); at.is_number_integer()) {
    const milliseconds bound = backoff_bound(timing_.backoff);
    const UnixMs next = at.get<UnixMs>();
    // Compared before subtracting: the number may be anything.
    if (next > now_unix + bound.count()) {
      next_attempt_ = now + uniform(milliseconds(0), timing_.backoff.delay_max, prng_).count();
    } else {
      next_attempt_ = next <= now_unix ? now : now + (next - now_unix);
    }
  }
  return true;
}

std::string_view to_string(Destination::State state) {
  switch (state) {
    case Destination::State::kIdle: return "idle";
    case Destination::State::kWaiting: return "waiting";
    case Destination::State::kSending: return "sending";
    case Destination::State::kBackoff: return "backoff";
    case Destination::State::kHeld: return "held";
  }
  return "idle";
}

}  // namespace telemetryd::schedule
