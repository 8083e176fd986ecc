#include "ingest/ack_channel.h"

#include <algorithm>
#include <cerrno>
#include <sys/socket.h>

#include "ingest/control.h"

namespace telemetryd::ingest {

void AckChannel::attach(Owner* owner) {
  owner_ = owner;
  const MutexLock lock(mutex_);
  owned_ = true;
}

void AckChannel::detach() {
  owner_ = nullptr;
  const MutexLock lock(mutex_);
  owned_ = false;
  if (blocked_) break_off();
}

bool AckChannel::reserve(std::uint64_t number, std::uint64_t bytes, std::uint64_t share_bytes_max) {
  const MutexLock lock(mutex_);
  if (in_flight_.size() >= frame::kFramesInFlightMax) {
    wants_room_ = true;
    return false;
  }
  // Its place first: without memory for it nothing is taken.
  in_flight_.push_back({number, bytes});
  if (!share_ || share_->take(bytes, share_bytes_max)) return true;
  in_flight_.pop_back();
  return false;
}

void AckChannel::unreserve(std::uint64_t number) {
  const MutexLock lock(mutex_);
  if (!in_flight_.empty() && in_flight_.back().number == number) {
    if (share_) share_->untake(in_flight_.back().bytes);
    in_flight_.pop_back();
  }
  note_answers();
}

void AckChannel::give_back(std::uint64_t bytes) noexcept {
  if (share_ && bytes > 0) share_->give_back(bytes);
}

void AckChannel::send_frame(std::string frame) {
  const MutexLock lock(mutex_);
  queue_frame(frame);
  settle_output();
}

void AckChannel::close_after_answers(frame::Code code, std::string_view text) {
  const MutexLock lock(mutex_);
  if (finished_ || last_queued_ || !closing_.empty()) return;
  closing_ = closing_frame(code, text);
  note_answers();
  settle_output();
}

bool AckChannel::blocked() {
  const MutexLock lock(mutex_);
  return blocked_;
}

void AckChannel::flush() {
  const MutexLock lock(mutex_);
  blocked_ = false;
  settle_output();
}

bool AckChannel::finished() {
  const MutexLock lock(mutex_);
  return finished_;
}

void AckChannel::acknowledge(std::uint64_t number) noexcept {
  std::uint64_t bytes = 0;
  {
    const MutexLock lock(mutex_);
    // Frames go through the store in the order they were sent, so what is acknowledged is in front.
    const auto unanswered = std::ranges::find_if(
        in_flight_, [&](const InFlight& each) { return each.number > number; });
    for (auto each = in_flight_.begin(); each != unanswered; ++each) bytes += each->bytes;
    in_flight_.erase(in_flight_.begin(), unanswered);
    ack_ = std::max(ack_, number);
    note_answers();
    settle_output();
  }
  give_back(bytes);
}

void AckChannel::refuse(std::uint64_t number, const store::Refusal& refusal) noexcept {
  std::uint64_t bytes = 0;
  {
    const MutexLock lock(mutex_);
    const auto refused = std::ranges::find(in_flight_, number, &InFlight::number);
    if (refused != in_flight_.end()) {
      bytes = refused->bytes;
      in_flight_.erase(refused);
    }
    queue_frame(refuse_frame({.number = number,
                              .code = refusal.code,
                              .retryable = refusal.retryable,
                              .retry_after_ms = refusal.retry_after_ms},
                             refusal.text));
    note_answers();
    settle_output();
  }
  give_back(bytes);
}

// What is abandoned stays in the share: nothing is acknowledged any more, by nobody.
void AckChannel::abandon() noexcept {
  const MutexLock lock(mutex_);
  if (finished_) return;
  in_flight_.clear();
  closing_ = closing_frame(frame::Code::kUnknownOutcome,
                           "the outcome of a commit is unknown; send again after reconnecting");
  note_answers();
  settle_output();
  break_off();
}

// Whatever is not an acknowledgement comes behind the acknowledgement that came before it.
void AckChannel::queue_frame(std::string_view frame) {
  if (finished_ || last_queued_) return;
  queue_ack();
  waiting_ += frame;
  if (waiting_.size() - sent_ > kWaitingBytesMax) break_off();
}

void AckChannel::queue_ack() {
  if (ack_ != 0) waiting_ += ack_frame(std::exchange(ack_, 0));
}

// After an answer: the connection may be waiting for room, or for the last answer to end on.
void AckChannel::note_answers() {
  if (wants_room_ && in_flight_.size() <= frame::kFramesInFlightMax / 2) {
    wants_room_ = false;
    tell_owner();
  }
  if (!closing_.empty() && in_flight_.empty()) {
    queue_frame(std::exchange(closing_, {}));
    last_queued_ = !finished_;
  }
}

void AckChannel::settle_output() {
  if (finished_ || blocked_) return;
  while (send_waiting()) {
    if (ack_ == 0) {
      if (last_queued_) break_off();
      return;
    }
    queue_ack();
  }
}

// True when nothing waits any more. A peer that is gone ends nothing here: what it sent before is
// still being read, and the end of the stream follows behind it.
bool AckChannel::send_waiting() {
  while (!deaf_ && sent_ < waiting_.size()) {
    const ssize_t sent = ::send(
        fd_.get(), waiting_.data() + sent_, waiting_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      sent_ += static_cast<std::size_t>(sent);
    } else if (errno == EAGAIN && owned_) {
      waiting_.erase(0, std::exchange(sent_, 0));
      blocked_ = true;
      tell_owner();
      return false;
    } else if (errno == EAGAIN) {
      break_off();
      return false;
    } else {
      deaf_ = errno != EINTR;
    }
  }
  sent_ = 0;
  waiting_.clear();
  if (waiting_.capacity() > 1024) waiting_.shrink_to_fit();
  return true;
}

void AckChannel::break_off() {
  if (finished_) return;
  finished_ = true;
  blocked_ = false;
  sent_ = 0;
  ack_ = 0;
  waiting_.clear();
  closing_.clear();
  ::shutdown(fd_.get(), SHUT_RDWR);
  tell_owner();
}

void AckChannel::tell_owner() {
  if (!owned_ || told_) return;
  told_ = true;
  const auto posted = loop_.post([self = shared_from_this()] {
    {
      const MutexLock lock(self->mutex_);
      self->told_ = false;
    }
    if (self->owner_ != nullptr) self->owner_->channel_changed();
  });
  // The loop has stopped, or tens of thousands of functions wait for it; the client must not be
  // left hanging on a connection that nobody serves.
  if (!posted) ::shutdown(fd_.get(), SHUT_RDWR);
}

}  // namespace telemetryd::ingest
