#include "telemetry_core/client.h"

#include <limits.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "telemetry_core/ticks.h"

namespace telemetryd::client {

// The hot path. Everything in it is bounded: no allocation, no lock, no system call while the
// sender is awake.
telemetry_status_t Client::put(const telemetry_event_t& event) {
  Block& block = *block_;
  ring_.prefetch();
  uint8_t buffer[kSmallEventBytes];
  const uint64_t now = realtime_ns();
  const uint64_t session[2] = {block.session_id[0].load(std::memory_order_relaxed),
                               block.session_id[1].load(std::memory_order_relaxed)};
  const EventStamp stamp{.session = reinterpret_cast<const uint8_t*>(session),
                         .time_unix_nano = now};
  const size_t bytes_max = block.event_bytes_max.load(std::memory_order_relaxed);
  EncodedEvent encoded;
  const telemetry_status_t status =
      encode_event(event, stamp, bytes_max, buffer, sizeof buffer, encoded);
  if (status == TELEMETRY_TOO_LARGE) return put_large(event, stamp);
  if (status != TELEMETRY_OK) return status;
  Ring::Slot slot;
  if (!ring_.reserve(encoded.record_bytes, slot)) {
    wake_if_resting(ring_bytes_);
    return TELEMETRY_QUEUE_FULL;
  }
  if (event.id == nullptr) make_id(slot, now, encoded.id);
  memcpy(slot.data, encoded.record, encoded.record_bytes);
  publish(event, slot, encoded.record_bytes);
  return TELEMETRY_OK;
}

// Whatever other threads do to the texts in between, what is left of the room can be told.
static_assert(encoded_size_bound_max(frame::kEventBytesMaxDefault) <= Ring::kSlackMax);

// Too large for the stack: bounded first, then encoded where it will stay.
telemetry_status_t Client::put_large(const telemetry_event_t& event, const EventStamp& stamp) {
  const size_t bytes_max = block_->event_bytes_max.load(std::memory_order_relaxed);
  size_t bound = 0;
  telemetry_status_t status = encoded_size_bound(event, bytes_max, bound);
  if (status != TELEMETRY_OK) return status;
  Ring::Slot slot;
  if (!ring_.reserve(bound, slot)) {
    wake_if_resting(ring_bytes_);
    return TELEMETRY_QUEUE_FULL;
  }
  EncodedEvent encoded;
  status = encode_event(event, stamp, bytes_max, slot.data, bound, encoded);
  if (status != TELEMETRY_OK) {
    ring_.abandon(slot);
    return status;
  }
  if (event.id == nullptr) make_id(slot, stamp.time_unix_nano, encoded.id);
  memmove(slot.data, encoded.record, encoded.record_bytes);
  publish(event, slot, encoded.record_bytes);
  return TELEMETRY_OK;
}

// The slot's position is unique within the instance, so the ID needs no counter of its own.
void Client::make_id(const Ring::Slot& slot, uint64_t now, uint8_t* id) const {
  const uint64_t random = mix64(slot.position + block_->seed[0].load(std::memory_order_relaxed)) ^
                          block_->seed[1].load(std::memory_order_relaxed);
  make_uuid7(now, random, id);
}

void Client::publish(const telemetry_event_t& event, const Ring::Slot& slot, size_t record_bytes) {
  // Counted first: a locked instruction behind the slot's stores would wait until other processors
  // have given up its cache lines.
  block_->ring.accepted.fetch_add(1, std::memory_order_relaxed);
  ring_.publish(slot,
                record_bytes,
                static_cast<uint8_t>(event.persistence_class),
                static_cast<uint8_t>(event.urgency));
  // Publish, then look: see Sender::must_not_sleep().
  if (block_->fence_yourself.load(std::memory_order_relaxed) != 0) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
  } else {
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  wake_if_resting(slot.used);
}

void Client::wake_if_resting(uint64_t ring_used) {
  const Rest rest = block_->rest.load(std::memory_order_relaxed);
  if (rest == Rest::kBusy) return;
  if (rest == Rest::kLingering && ring_used <= ring_bytes_ / 2) return;
  // One producer wakes it, the others see that somebody did.
  if (block_->rest.exchange(Rest::kBusy, std::memory_order_relaxed) != Rest::kBusy) wake();
}

void Client::wake() {
  wake_sender(*block_, wake_write_, pipe_inode_);
}

void Client::count_drop(telemetry_status_t status) {
  Block& block = *block_;
  switch (status) {
    case TELEMETRY_QUEUE_FULL: block.dropped_queue_full.fetch_add(1); break;
    case TELEMETRY_TOO_LARGE: block.dropped_too_large.fetch_add(1); break;
    case TELEMETRY_INVALID: block.dropped_invalid.fetch_add(1); break;
    case TELEMETRY_DISABLED: block.dropped_disabled.fetch_add(1); break;
    case TELEMETRY_OK:
    case TELEMETRY_TIMEOUT:
    case TELEMETRY_CLOSED:
    case TELEMETRY_NO_MEMORY: break;
  }
}

telemetry_status_t Client::pass_gate() {
  for (;;) {
    switch (block_->gate.load(std::memory_order_acquire)) {
      case Gate::kOpen: return TELEMETRY_OK;
      case Gate::kDisabled: return TELEMETRY_DISABLED;
      case Gate::kClosing: return TELEMETRY_CLOSED;
      case Gate::kStarting: sched_yield(); break;
      case Gate::kForked: {
        const telemetry_status_t status = revive();
        if (status != TELEMETRY_OK) return status;
        break;
      }
    }
  }
}

telemetry_status_t Client::track(const telemetry_event_t& event) {
  if (block_ == nullptr) {
    dropped_while_off_.fetch_add(1, std::memory_order_relaxed);
    return TELEMETRY_DISABLED;
  }
  if (block_->gate.load(std::memory_order_acquire) != Gate::kOpen) {
    const telemetry_status_t status = pass_gate();
    if (status != TELEMETRY_OK) {
      count_drop(status);
      return status;
    }
  }
  const telemetry_status_t status = put(event);
  if (status != TELEMETRY_OK) count_drop(status);
  return status;
}

telemetry_status_t Client::send(const telemetry_event_t& event, uint32_t deadline_ms) {
  if (block_ == nullptr) return track(event);
  telemetry_status_t status = pass_gate();
  if (status == TELEMETRY_OK) status = put(event);
  if (status == TELEMETRY_QUEUE_FULL) status = wait_for_room(event, deadline_after(deadline_ms));
  count_drop(status);
  return status;
}

telemetry_status_t Client::wait_for_room(const telemetry_event_t& event, uint64_t deadline) {
  Block& block = *block_;
  block.room_waiters.fetch_add(1, std::memory_order_acq_rel);
  telemetry_status_t status = TELEMETRY_TIMEOUT;
  for (;;) {
    const uint32_t seen = block.room_word.load(std::memory_order_acquire);
    status = pass_gate();
    if (status == TELEMETRY_OK) status = put(event);
    if (status != TELEMETRY_QUEUE_FULL) break;
    if (monotonic_ns() >= deadline) {
      status = TELEMETRY_TIMEOUT;
      break;
    }
    wait_while_equal(block.room_word, seen, deadline);
  }
  block.room_waiters.fetch_sub(1, std::memory_order_acq_rel);
  return status;
}

bool Client::wait_until_settled(uint64_t mark, uint64_t deadline) {
  Block& block = *block_;
  if (block.settled_mark.load(std::memory_order_acquire) >= mark) return true;
  // Only upwards: another thread may be waiting for more.
  uint64_t asked = block.flush_mark.load(std::memory_order_relaxed);
  while (asked < mark && !block.flush_mark.compare_exchange_weak(asked, mark)) continue;
  block.settled_waiters.fetch_add(1, std::memory_order_acq_rel);
  wake();
  bool settled = false;
  for (;;) {
    const uint32_t seen = block.settled_word.load(std::memory_order_acquire);
    settled = block.settled_mark.load(std::memory_order_acquire) >= mark;
    if (settled || monotonic_ns() >= deadline) break;
    wait_while_equal(block.settled_word, seen, deadline);
  }
  block.settled_waiters.fetch_sub(1, std::memory_order_acq_rel);
  return settled;
}

telemetry_status_t Client::flush(uint32_t deadline_ms) {
  if (block_ == nullptr || block_->gate.load() == Gate::kForked) return TELEMETRY_OK;
  const uint64_t mark = ring_.head();
  return wait_until_settled(mark, deadline_after(deadline_ms)) ? TELEMETRY_OK : TELEMETRY_TIMEOUT;
}

void Client::stats(telemetry_stats_t& stats) const {
  const size_t size = stats.size;
  stats = telemetry_stats_t{};
  stats.size = size;
  stats.dropped_disabled = dropped_while_off_.load();
  if (block_ == nullptr) return;
  // Settled before accepted, so that `queued` never comes out negative while threads are at work.
  stats.acknowledged = block_->acknowledged.load();
  stats.refused = block_->refused.load();
  stats.lost_shutdown = block_->lost_shutdown.load();
  stats.accepted = block_->ring.accepted.load();
  const uint64_t settled = stats.acknowledged + stats.refused + stats.lost_shutdown;
  stats.queued = stats.accepted > settled ? stats.accepted - settled : 0;
  stats.dropped_queue_full = block_->dropped_queue_full.load();
  stats.dropped_too_large = block_->dropped_too_large.load();
  stats.dropped_invalid = block_->dropped_invalid.load();
  stats.dropped_disabled += block_->dropped_disabled.load();
  stats.frames_sent = block_->frames_sent.load();
  stats.frames_resent = block_->frames_resent.load();
  const uint64_t connections = block_->connections.load();
  stats.reconnects = connections > 0 ? connections - 1 : 0;
}

telemetry_mode_t Client::mode(char* rule, size_t rule_size) {
  char words[kRuleBytesMax];
  strncpy(words, decision_.rule, sizeof words - 1);
  words[sizeof words - 1] = '\0';
  auto mode = static_cast<telemetry_mode_t>(TELEMETRY_MODE_OFF);
  if (block_ != nullptr) {
    pthread_mutex_lock(&block_->mode_mutex);
    // The numbers of Collection and telemetry_mode_t are the same on purpose.
    mode = static_cast<telemetry_mode_t>(block_->mode);
    if (mode != TELEMETRY_MODE_UNDECIDED) memcpy(words, block_->rule, sizeof words);
    pthread_mutex_unlock(&block_->mode_mutex);
  }
  if (rule != nullptr && rule_size > 0) {
    strncpy(rule, words, rule_size - 1);
    rule[rule_size - 1] = '\0';
  }
  return mode;
}

}  // namespace telemetryd::client
