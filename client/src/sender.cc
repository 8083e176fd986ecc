#include "telemetry_core/sender.h"

#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "telemetry_core/descriptor.h"
#include "telemetry_core/ticks.h"

namespace telemetryd::client {
namespace {

// What GOODBYE may cost a process that wants to exit.
constexpr uint64_t kGoodbyeNs = 20 * kNanosPerMilli;

// How often a sender looks that nobody can wake any more.
constexpr uint64_t kDeafLookNs = 50 * kNanosPerMilli;

// A quarter of the ring or a whole frame: less would leave as many small frames.
size_t least_worth_draining(const Ring& ring, uint32_t frame_bytes_target) {
  const size_t quarter = ring.capacity() / 4;
  return quarter < frame_bytes_target ? quarter : frame_bytes_target;
}

}  // namespace

void wake_sender(Block& block, int wake_fd, uint64_t wake_inode) {
  block.rest.store(Rest::kBusy, std::memory_order_relaxed);
  // When the app closed the pipe, the sender looks by itself now and then.
  if (!still_has_inode(wake_fd, S_IFIFO, wake_inode)) return;
  const uint8_t byte = 0;
  // A full pipe is a wake-up already.
  [[maybe_unused]] const ssize_t wrote = write(wake_fd, &byte, 1);
}

void Sender::reset(const Parts& parts) {
  *this = Sender{};
  parts_ = parts;
}

void Sender::run() {
  while (parts_.block->stop.load(std::memory_order_acquire) == 0) {
    const uint64_t now = monotonic_ns();
    connect_if_due(now);
    const bool drained = fill_window();
    const uint64_t flush_mark = parts_.block->flush_mark.load(std::memory_order_acquire);
    if (blocked_ || flush_mark > parts_.session->settled_mark()) {
      parts_.session->request_commit();
    }
    const Block& block = *parts_.block;
    parts_.session->set_losses({.queue_full = block.dropped_queue_full.load(),
                                .too_large = block.dropped_too_large.load(),
                                .shutdown = block.lost_shutdown.load(),
                                .disabled = block.dropped_disabled.load(),
                                .invalid = block.dropped_invalid.load()});
    parts_.session->pump(now);
    publish();
    rest(drained);
  }
  finish();
}

bool Sender::pending() const {
  return !parts_.session->window().empty() || parts_.ring->used() != 0;
}

void Sender::connect_if_due(uint64_t now) {
  Session& session = *parts_.session;
  if (session.connected() || off_ || !pending() || now < session.retry_at()) return;
  for (size_t i = 0; i < parts_.surroundings->socket_count; ++i) {
    const consent::Decision decision = decide_at(*parts_.surroundings, i);
    if (decision.mode == consent::Mode::kOff) return switch_off(decision.rule);
    if (decision.mode == consent::Mode::kUndecided) continue;
    session.set_consent(
        decision.mode == consent::Mode::kLocal ? Collection::kLocal : Collection::kOn,
        decision.rule);
    if (session.connect(parts_.surroundings->sockets[i], now)) return;
  }
  session.back_off(now);
}

// The machine's policy turned out to be off, or opt-in with nobody having opted in: what was
// recorded in the meantime must not leave this process.
void Sender::switch_off(const char* rule) {
  Block& block = *parts_.block;
  off_ = true;
  Gate open = Gate::kOpen;
  block.gate.compare_exchange_strong(open, Gate::kDisabled);
  pthread_mutex_lock(&block.mode_mutex);
  block.mode = static_cast<uint32_t>(Collection::kOff);
  copy_text(reinterpret_cast<const uint8_t*>(rule), strlen(rule), block.rule, sizeof block.rule);
  pthread_mutex_unlock(&block.mode_mutex);
  parts_.session->refuse_all();
  drop_ring();
}

void Sender::drop_ring() {
  Ring::Record record;
  while (parts_.ring->peek(record)) {
    parts_.session->count_refused(1);
    parts_.ring->consume(record);
  }
  parts_.ring->release();
  parts_.session->set_settled_mark(parts_.ring->cursor());
}

// Without a connection, only what makes a whole frame; the rest stays where it packs best.
bool Sender::worth_draining() {
  const uint64_t used = parts_.ring->used();
  if (used == 0 || parts_.session->window().full()) return false;
  return parts_.session->connected() ||
         used >= least_worth_draining(*parts_.ring, parts_.frame_bytes_target);
}

bool Sender::fill_window() {
  if (off_) {
    drop_ring();
    return false;
  }
  bool drained = false;
  blocked_ = false;
  while (worth_draining() && fill_one_frame()) {
    drained = true;
    parts_.session->pump(monotonic_ns());
  }
  return drained;
}

// Takes records of one class and urgency. False when nothing was ready or nothing fits.
bool Sender::fill_one_frame() {
  Ring& ring = *parts_.ring;
  Session& session = *parts_.session;
  Ring::Record record;
  if (!ring.peek(record)) return false;
  const size_t least = Window::kFrameOverhead + record.size;
  size_t most = parts_.frame_bytes_target + frame::kHeaderBytes;
  const uint32_t daemon_max = session.frame_bytes_max();
  if (daemon_max != 0 && most > daemon_max + frame::kHeaderBytes) {
    most = daemon_max + frame::kHeaderBytes;
  }
  size_t room = 0;
  uint8_t* out = session.window().open(least, least > most ? least : most, room);
  if (out == nullptr) {
    blocked_ = true;
    return false;
  }

  const Ring::Record first = record;
  size_t used = Window::kFrameOverhead;
  uint32_t count = 0;
  bool more = true;
  while (more && record.persistence_class == first.persistence_class &&
         record.urgency == first.urgency && used + record.size <= room &&
         count < frame::kEventsPerFrameMax) {
    memcpy(out + used, record.data, record.size);
    used += record.size;
    ++count;
    ring.consume(record);
    more = ring.peek(record);
  }
  ring.release();
  const uint64_t mark = ring.cursor();
  const bool last_of_flush =
      !more && parts_.block->flush_mark.load(std::memory_order_acquire) >= mark;
  const bool last_slot = session.window().size() + 1 == Window::kFramesMax;
  session.close_frame({.count = count,
                       .persistence_class = first.persistence_class,
                       .urgency = first.urgency,
                       .record_bytes = static_cast<uint32_t>(used - Window::kFrameOverhead),
                       .commit_now = last_of_flush || last_slot,
                       .mark = mark});
  Block& block = *parts_.block;
  // Pairs with the count in wait_for_room(): either it sees the room or we see it waiting.
  if (block.room_waiters.fetch_add(0, std::memory_order_acq_rel) != 0) {
    block.room_word.fetch_add(1, std::memory_order_release);
    wake_all(block.room_word);
  }
  return true;
}

void Sender::publish() {
  Block& block = *parts_.block;
  const SessionCounters& counters = parts_.session->counters();
  block.acknowledged.store(counters.acknowledged_events, std::memory_order_relaxed);
  block.refused.store(counters.refused_events, std::memory_order_relaxed);
  block.frames_sent.store(counters.frames_sent, std::memory_order_relaxed);
  block.frames_resent.store(counters.frames_resent, std::memory_order_relaxed);
  block.connections.store(counters.connections, std::memory_order_relaxed);
  const uint32_t daemon_max = parts_.session->event_bytes_max();
  const bool smaller = daemon_max != 0 && daemon_max < frame::kEventBytesMaxDefault;
  block.event_bytes_max.store(smaller ? daemon_max : frame::kEventBytesMaxDefault,
                              std::memory_order_relaxed);
  publish_mode();
  if (block.settled_mark.load(std::memory_order_relaxed) == parts_.session->settled_mark()) return;
  block.settled_mark.store(parts_.session->settled_mark(), std::memory_order_release);
  if (block.settled_waiters.fetch_add(0, std::memory_order_acq_rel) != 0) {
    block.settled_word.fetch_add(1, std::memory_order_release);
    wake_all(block.settled_word);
  }
}

// The daemon's word holds while it is connected. Afterwards the gate opens again, so that the next
// event may find out whether people have changed their mind.
void Sender::publish_mode() {
  if (off_) return;
  Block& block = *parts_.block;
  const DaemonMode& mode = parts_.session->daemon_mode();
  const bool off = mode.known && mode.mode == Collection::kOff;
  Gate expected = off ? Gate::kOpen : Gate::kDisabled;
  block.gate.compare_exchange_strong(expected, off ? Gate::kDisabled : Gate::kOpen);
  pthread_mutex_lock(&block.mode_mutex);
  if (mode.known) {
    block.mode = static_cast<uint32_t>(mode.mode);
    memcpy(block.rule, mode.rule, sizeof block.rule);
  } else if (block.mode == static_cast<uint32_t>(Collection::kOff)) {
    block.mode = static_cast<uint32_t>(Collection::kUnspecified);
  }
  pthread_mutex_unlock(&block.mode_mutex);
}

void Sender::rest(bool drained) {
  Session& session = *parts_.session;
  uint64_t deadline = session.next_timer();
  Rest kind = Rest::kAsleep;
  if (!session.connected() && pending() && !off_) {
    deadline = session.retry_at();
    kind = blocked_ || session.window().full() ? Rest::kBusy : Rest::kLingering;
  } else if (blocked_ || session.window().full()) {
    kind = Rest::kBusy;
  } else {
    // From the last event that was found; an ACK that comes meanwhile must not end it, or a busy
    // app would pay for a wake-up after every ACK.
    const uint64_t now = monotonic_ns();
    if (drained) linger_until_ = now + kLingerNs;
    if (now < linger_until_) {
      kind = Rest::kLingering;
      if (linger_until_ < deadline) deadline = linger_until_;
    }
  }
  parts_.block->rest.store(kind, std::memory_order_relaxed);
  if (!must_not_sleep(kind)) poll_until(deadline);
  parts_.block->rest.store(Rest::kBusy, std::memory_order_relaxed);
}

// Producers publish, then look whether the sender rests; here it is the other way round, and with a
// barrier between the two on both sides one of them sees the other. Producers are many and quick,
// so the sender, before it sleeps, makes their barrier too.
bool Sender::must_not_sleep(Rest kind) {
  if (kind != Rest::kAsleep) return false;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (parts_.block->fence_yourself.load(std::memory_order_relaxed) == 0) fence_all();
  Ring::Record record;
  return parts_.ring->peek(record);
}

void Sender::poll_until(uint64_t deadline_ns) {
  Session& session = *parts_.session;
  pollfd fds[2] = {};
  fds[0] = {.fd = parts_.wake_fd, .events = POLLIN, .revents = 0};
  fds[1] = {.fd = session.fd(), .events = POLLIN, .revents = 0};
  if (session.wants_write()) fds[1].events |= POLLOUT;
  if (parts_.wake_fd < 0 && deadline_ns == kNever) deadline_ns = monotonic_ns() + kDeafLookNs;
  timespec timeout{};
  if (deadline_ns != kNever) {
    const uint64_t now = monotonic_ns();
    const uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    timeout.tv_sec = static_cast<time_t>(left / 1'000'000'000);
    timeout.tv_nsec = static_cast<long>(left % 1'000'000'000);
  }
  const int ready = ppoll(fds, 2, deadline_ns == kNever ? nullptr : &timeout, nullptr);
  if (ready > 0 && fds[0].revents != 0) take_wake_up();
}

// The app may have closed one or both ends of the pipe and opened something else under their
// numbers. Looking now and then is what is left then.
void Sender::take_wake_up() {
  uint8_t bytes[64];
  if (!still_has_inode(parts_.wake_fd, S_IFIFO, parts_.wake_inode) ||
      read(parts_.wake_fd, bytes, sizeof bytes) == 0) {
    parts_.wake_fd = -1;
  }
}

// Events that never left this process are certainly lost; those in flight may well arrive, and the
// daemon counts them itself.
void Sender::finish() {
  Session& session = *parts_.session;
  Block& block = *parts_.block;
  uint64_t never_sent = session.unsent_events();
  Ring::Record record;
  while (parts_.ring->peek(record)) {
    ++never_sent;
    parts_.ring->consume(record);
  }
  session.set_losses({.queue_full = block.dropped_queue_full.load(),
                      .too_large = block.dropped_too_large.load(),
                      .shutdown = never_sent,
                      .disabled = block.dropped_disabled.load(),
                      .invalid = block.dropped_invalid.load()});
  session.stop_sending();
  session.pump(monotonic_ns());
  if (session.window().empty()) session.say_goodbye();
  const uint64_t deadline = monotonic_ns() + kGoodbyeNs;
  do {
    session.pump(monotonic_ns());
    if (session.wants_write()) poll_until(deadline);
  } while (session.wants_write() && monotonic_ns() < deadline);
  publish();
  session.shut_down();
  block.stopped.store(1, std::memory_order_release);
}

}  // namespace telemetryd::client
