// The daemon's half of the conversation.

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "telemetry_core/session.h"
#include "telemetry_core/ticks.h"

namespace telemetryd::client {
namespace {

// A daemon that says "at once" is still given a moment; one that says "in a year" is not believed.
constexpr uint32_t kRetryAfterMinMs = 5;
constexpr uint32_t kRetryAfterMaxMs = 60'000;

// The last doubling of the backoff.
constexpr uint32_t kAttemptsAtCap = 8;

bool ends_for_long(frame::Code code) {
  return code == frame::Code::kVersionUnsupported || code == frame::Code::kProtocol;
}

}  // namespace

bool Session::read_input(uint64_t now) {
  for (;;) {
    const ssize_t got = recv(fd_, input_ + input_size_, sizeof input_ - input_size_, MSG_DONTWAIT);
    if (got == 0) return false;
    if (got < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN;
    }
    input_size_ += static_cast<size_t>(got);
    size_t at = 0;
    while (input_size_ - at >= frame::kHeaderBytes) {
      const frame::Header header = frame::decode_header(input_ + at);
      if (header.length > kInputPayloadMax) return false;
      const size_t whole = frame::kHeaderBytes + header.length;
      if (input_size_ - at < whole) break;
      if (!take_frame(static_cast<uint8_t>(header.type),
                      input_ + at + frame::kHeaderBytes,
                      header.length,
                      now)) {
        return false;
      }
      at += whole;
    }
    input_size_ -= at;
    memmove(input_, input_ + at, input_size_);
  }
}

// False ends the connection.
bool Session::take_frame(uint8_t type, const uint8_t* payload, size_t size, uint64_t now) {
  switch (static_cast<frame::Type>(type)) {
    case frame::Type::kWelcome: return take_welcome(payload, size);
    case frame::Type::kAck: {
      if (size < frame::kAckBytes) return false;
      // What was never sent cannot have been stored.
      const uint64_t number = frame::get_u64(payload);
      settle(number < highest_sent_ ? number : highest_sent_);
      return true;
    }
    case frame::Type::kRefuse:
      if (size < frame::kRefusePrefixBytes) return false;
      return take_refuse(payload, size, now);
    case frame::Type::kMode:
      if (size < frame::kModePrefixBytes) return false;
      take_mode(payload, size);
      return true;
    case frame::Type::kClosing:
      if (size >= frame::kClosingPrefixBytes) take_closing(payload, size);
      return false;
    default: return false;
  }
}

bool Session::take_welcome(const uint8_t* payload, size_t size) {
  Welcome welcome;
  if (!read_welcome(payload, size, welcome)) return false;
  // A daemon that welcomes us and then finds no use for our frames is not asked any faster.
  attempts_ = misorders_;
  welcomed_ = true;
  if (welcome.mode != Collection::kUnspecified) {
    daemon_mode_.known = true;
    daemon_mode_.mode = welcome.mode;
    memcpy(daemon_mode_.rule, welcome.rule, sizeof daemon_mode_.rule);
  }
  event_bytes_max_ = welcome.event_bytes_max;
  frame_bytes_max_ = welcome.frame_bytes_max;
  if (welcome.frames_in_flight_max != 0 && welcome.frames_in_flight_max < in_flight_max_) {
    in_flight_max_ = welcome.frames_in_flight_max;
  }
  settle(welcome.high_water);
  return true;
}

void Session::take_mode(const uint8_t* payload, size_t size) {
  const uint8_t mode = payload[0];
  daemon_mode_.known = true;
  daemon_mode_.mode = mode >= 1 && mode <= 3 ? static_cast<Collection>(mode) : Collection::kOff;
  copy_text(payload + frame::kModePrefixBytes,
            size - frame::kModePrefixBytes,
            daemon_mode_.rule,
            sizeof daemon_mode_.rule);
}

// False ends the connection.
bool Session::take_refuse(const uint8_t* payload, size_t size, uint64_t now) {
  const frame::Refuse refuse = frame::decode_refuse_prefix(payload);
  const size_t index = window_.index_of(refuse.number);
  if (index == window_.size()) return true;
  const bool follows = refuse.code == frame::Code::kOutOfOrder;
  if (!follows || !refuse.retryable) {
    copy_text(payload + frame::kRefusePrefixBytes,
              size - frame::kRefusePrefixBytes,
              last_refusal_,
              sizeof last_refusal_);
  }
  if (!refuse.retryable) {
    refuse_for_good(index);
    if (refuse.number == probe_) probe_ = 0;
    collect();
    return true;
  }
  // Frames behind a refused one are refused as its consequence, and come again with it.
  if (follows && probe_ != 0 && refuse.number > probe_) return true;
  if (follows && oldest_unsettled(index)) {
    // The daemon waits for a number that was settled long ago, as one with an older copy of its
    // database does. Only the next HELLO can tell it where we begin now.
    if (misorders_ < kAttemptsAtCap) ++misorders_;
    attempts_ = misorders_;
    return false;
  }
  send_again_from(follows ? window_.at(0).number : refuse.number, refuse.retry_after_ms, now);
  return true;
}

bool Session::oldest_unsettled(size_t index) {
  for (size_t i = 0; i < index; ++i) {
    if (!window_.at(i).refused && window_.at(i).number > settled_number_) return false;
  }
  return true;
}

void Session::take_closing(const uint8_t* payload, size_t size) {
  copy_text(payload + frame::kClosingPrefixBytes,
            size - frame::kClosingPrefixBytes,
            last_refusal_,
            sizeof last_refusal_);
  if (ends_for_long(static_cast<frame::Code>(frame::get_u16(payload)))) attempts_ = kAttemptsAtCap;
}

void Session::refuse_for_good(size_t index) {
  Frame& frame = window_.at(index);
  if (frame.refused || frame.number <= settled_number_) return;
  frame.refused = true;
  counters_.refused_events += frame.count;
  ++counters_.refused_frames;
}

void Session::send_again_from(uint64_t number, uint32_t retry_after_ms, uint64_t now) {
  if (retry_after_ms < kRetryAfterMinMs) retry_after_ms = kRetryAfterMinMs;
  if (retry_after_ms > kRetryAfterMaxMs) retry_after_ms = kRetryAfterMaxMs;
  if (resume_at_ != 0 && again_from_ <= number) return;
  again_from_ = number;
  probe_ = number;
  resume_at_ = now + retry_after_ms * kNanosPerMilli;
}

void Session::settle(uint64_t number) {
  if (number <= settled_number_) return;
  settled_number_ = number;
  misorders_ = 0;
  if (probe_ != 0 && number >= probe_) probe_ = 0;
  collect();
}

}  // namespace telemetryd::client
