#include "gateway/upstream.h"

#include <algorithm>
#include <utility>

#include <protozero/pbf_writer.hpp>

#include "base/log.h"
#include "event/wire.h"
#include "frame/frame.h"

namespace telemetryd::gateway {
namespace {

// telemetry/v1/frame.proto.
enum : protozero::pbf_tag_type {
  kHelloInstance = 1,
  kHelloContext = 2,
  kHelloFirstFrame = 4,
  kHelloPeerUid = 8,
};

constexpr std::uint32_t kWelcomeHighWater = event::tag_of(3, event::kVarint);

const std::uint8_t* bytes_of(std::string_view text) {
  return reinterpret_cast<const std::uint8_t*>(text.data());
}

std::uint8_t* bytes_of(std::string& text) {
  return reinterpret_cast<std::uint8_t*>(text.data());
}

std::string frame_of(frame::Type type, std::string_view payload = {}) {
  std::string bytes(frame::kHeaderBytes, '\0');
  frame::encode_header(
      {.length = static_cast<std::uint32_t>(payload.size()), .type = type, .flags = 0},
      bytes_of(bytes));
  bytes += payload;
  return bytes;
}

std::string hello_frame(const Upstream::Sender& sender) {
  std::string message;
  protozero::pbf_writer writer(message);
  writer.add_bytes(kHelloInstance,
                   reinterpret_cast<const char*>(sender.instance.data()),
                   sender.instance.size());
  writer.add_message(kHelloContext, sender.context);
  writer.add_uint64(kHelloFirstFrame, sender.first_frame);
  writer.add_uint32(kHelloPeerUid, sender.peer_uid);
  std::string payload(frame::kHelloPrefixBytes, '\0');
  frame::encode_hello_prefix(bytes_of(payload));
  return frame_of(frame::Type::kHello, payload + message);
}

// Nothing that the daemon says is quoted without a bound.
std::string bounded(std::string_view text) {
  return std::string(text.substr(0, frame::kTextBytesMax));
}

}  // namespace

Upstream::Upstream(loop::Loop& loop, UniqueFd connected, Sender sender, OnChange on_change)
    : sender_(std::move(sender)),
      on_change_(std::move(on_change)),
      timer_(loop, [this] { on_timer(); }),
      stream_(std::make_unique<loop::Stream>(
          loop,
          std::move(connected),
          loop::Stream::Hooks{
              .on_data = [this](std::span<const std::uint8_t> bytes) { read(bytes); },
              .on_end = [this] { end(unavailable("telemetryd closed the connection")); }})) {
  stream_->write(hello_frame(sender_));
  timer_.start_once(kAnswerDeadline);
}

// Forgetting the instance is said only when nothing of it can come again.
Upstream::~Upstream() {
  if (!closed_ && !sender_.own_numbers && idle()) {
    stream_->write(frame_of(frame::Type::kGoodbye));
  }
  close(unavailable("the gateway is stopping"));
}

void Upstream::submit(Submission submission) {
  if (!welcomed_ && !closed_) {
    waiting_.push_back(std::move(submission));
    return;
  }
  place(std::move(submission));
}

void Upstream::flush() {
  if (closed_) return;
  // What waits for the WELCOME is meant as well, and is committed only when it has been sent.
  if (!welcomed_) {
    flush_waits_ = true;
  } else if (!in_flight_.empty()) {
    stream_->write(frame_of(frame::Type::kFlush));
  }
}

bool Upstream::needs_new_hello(const Submission& submission) const {
  return welcomed_ && submission.number > next_ && submission.oldest_number > next_ && idle();
}

void Upstream::place(Submission submission) {
  const auto waiter = submission.waiter.lock();
  if (closed_) {
    if (waiter) waiter->lost(unavailable("the connection to telemetryd was lost"));
    return;
  }
  if (!sender_.own_numbers) {
    // A number is free again after a retryable refusal, while later ones are still out.
    if (in_flight_.contains(next_)) {
      waiting_.push_back(std::move(submission));
      return;
    }
    submission.number = next_;
    set_number(submission.frame, next_);
    send(std::move(submission));
    return;
  }
  if (submission.number <= settled_) {
    if (waiter) waiter->settled(submission.number, settled_);
    return;
  }
  const auto found = in_flight_.find(submission.number);
  if (found != in_flight_.end() && found->second.waiter.expired()) {
    // The sender gave the first call up and asks again: the answer is for the new one.
    found->second.waiter = submission.waiter;
    // The frame that is out may be one that nobody waited for.
    flush();
    return;
  }
  if (found != in_flight_.end()) {
    refuse_here(submission,
                "number " + std::to_string(submission.number) + " is on its way already");
    return;
  }
  if (submission.number != next_) {
    refuse_here(submission,
                "number " + std::to_string(submission.number) + " leaves a gap; expected number " +
                    std::to_string(next_));
    return;
  }
  send(std::move(submission));
}

void Upstream::refuse_here(const Submission& submission, const std::string& text) const {
  const auto waiter = submission.waiter.lock();
  if (!waiter) return;
  waiter->refused({.number = submission.number,
                   .code = frame::Code::kOutOfOrder,
                   .retryable = true,
                   .retry_after = kRetryAfterDefault,
                   .text = text},
                  settled_);
}

void Upstream::send(Submission submission) {
  const bool was_idle = in_flight_.empty();
  in_flight_[submission.number] = {.waiter = std::move(submission.waiter),
                                   .held = std::move(submission.held)};
  next_ = submission.number + 1;
  stream_->write(std::move(submission.frame));
  if (was_idle) arm_timer();
}

void Upstream::send_waiting() {
  std::deque<Submission> waiting;
  waiting.swap(waiting_);
  for (Submission& submission : waiting) place(std::move(submission));
}

void Upstream::read(std::span<const std::uint8_t> bytes) {
  const auto tell = on_change_;  // it may destroy this
  const std::size_t before = requests();
  input_.append(as_text(bytes));
  std::string_view rest = input_;
  while (!closed_ && rest.size() >= frame::kHeaderBytes) {
    const frame::Header header = frame::decode_header(bytes_of(rest));
    if (header.length > kFrameBytesMax) {
      log::warn("daemon_frame_too_large", {{"bytes", header.length}});
      close(unavailable("telemetryd sent a frame that is too large"));
      break;
    }
    const std::size_t whole = frame::kHeaderBytes + header.length;
    if (rest.size() < whole) break;
    const std::string_view payload = rest.substr(frame::kHeaderBytes, header.length);
    rest.remove_prefix(whole);
    if (!take(static_cast<std::uint8_t>(header.type), payload)) {
      log::warn("daemon_frame_malformed", {{"type", static_cast<int>(header.type)}});
      close(unavailable("telemetryd sent a malformed frame"));
    }
  }
  input_.erase(0, input_.size() - rest.size());
  if (!closed_) arm_timer();
  const bool answered = requests() < before;
  // What came while these were committed was gathered, and somebody may wait for it.
  if (answered) flush();
  tell(answered ? Change::kAnswered : Change::kNothingAnswered);
}

bool Upstream::take(std::uint8_t type, std::string_view payload) {
  switch (static_cast<frame::Type>(type)) {
    case frame::Type::kWelcome:
      if (welcomed_ || payload.size() < frame::kWelcomePrefixBytes) return false;
      return take_welcome(payload.substr(frame::kWelcomePrefixBytes));
    case frame::Type::kAck:
      if (!welcomed_ || payload.size() < frame::kAckBytes) return false;
      take_ack(frame::get_u64(bytes_of(payload)));
      return true;
    case frame::Type::kRefuse:
      if (!welcomed_ || payload.size() < frame::kRefusePrefixBytes) return false;
      take_refuse(payload);
      return true;
    case frame::Type::kClosing:
      if (payload.size() < frame::kClosingPrefixBytes) return false;
      take_closing(payload);
      return true;
    case frame::Type::kMode: return true;  // the daemon refuses what it does not take
    default: return false;
  }
}

bool Upstream::take_welcome(std::string_view message) {
  event::Cursor cursor(message);
  std::uint64_t high_water = 0;
  while (!cursor.at_end()) {
    std::uint32_t tag = 0;
    if (!cursor.tag(tag)) return false;
    if (!(tag == kWelcomeHighWater ? cursor.varint(high_water) : cursor.skip(tag))) return false;
  }
  welcomed_ = true;
  settled_ = std::max(high_water, sender_.first_frame - 1);
  next_ = settled_ + 1;
  send_waiting();
  if (std::exchange(flush_waits_, false)) flush();
  return true;
}

void Upstream::take_ack(std::uint64_t number) {
  settled_ = std::max(settled_, number);
  while (!in_flight_.empty() && in_flight_.begin()->first <= settled_) {
    const auto first = in_flight_.extract(in_flight_.begin());
    if (const auto waiter = first.mapped().waiter.lock()) waiter->settled(first.key(), settled_);
  }
  send_waiting();
}

void Upstream::take_refuse(std::string_view payload) {
  const frame::Refuse refuse = frame::decode_refuse_prefix(bytes_of(payload));
  // Everything before a refusal for good was answered before it, and it uses its number up.
  if (refuse.retryable) {
    next_ = std::min(next_, std::max(refuse.number, settled_ + 1));
  } else {
    settled_ = std::max(settled_, refuse.number);
  }
  const auto found = in_flight_.extract(refuse.number);
  if (found) {
    if (const auto waiter = found.mapped().waiter.lock()) {
      waiter->refused({.number = refuse.number,
                       .code = refuse.code,
                       .retryable = refuse.retryable,
                       .retry_after = std::chrono::milliseconds(refuse.retry_after_ms),
                       .text = bounded(payload.substr(frame::kRefusePrefixBytes))},
                      settled_);
    }
  }
  send_waiting();
}

void Upstream::take_closing(std::string_view payload) {
  const auto code = static_cast<frame::Code>(frame::get_u16(bytes_of(payload)));
  const std::string reason = bounded(payload.substr(frame::kClosingPrefixBytes));
  // The daemon does not take us for its gateway, or speaks another version: somebody has to look.
  if (code == frame::Code::kProtocol || code == frame::Code::kVersionUnsupported) {
    gateway_refused_ = std::string(frame::code_name(code)) + ": " + reason;
  }
  Status status = status_of({.number = 0,
                             .code = code,
                             .retryable = true,
                             .retry_after = std::chrono::milliseconds(0),
                             .text = "telemetryd closed the connection: " + reason});
  close(status);
}

void Upstream::arm_timer() {
  timer_.start_once(idle() ? kIdleMax : kAnswerDeadline);
}

void Upstream::on_timer() {
  if (!idle() || !welcomed_) log::warn("daemon_silent", {{"requests", requests()}});
  if (idle() && welcomed_ && !sender_.own_numbers) {
    stream_->write(frame_of(frame::Type::kGoodbye));
  }
  end(unavailable("telemetryd did not answer in time"));
}

void Upstream::end(const Status& status) {
  const auto tell = on_change_;  // it may destroy this
  const Change change = idle() ? Change::kNothingAnswered : Change::kAnswered;
  close(status);
  tell(change);
}

void Upstream::close(const Status& status) {
  if (closed_) return;
  closed_ = true;
  timer_.stop();
  stream_->pause();
  const auto in_flight = std::exchange(in_flight_, {});
  const auto waiting = std::exchange(waiting_, {});
  for (const auto& [number, each] : in_flight) {
    if (const auto waiter = each.waiter.lock()) waiter->lost(status);
  }
  for (const Submission& each : waiting) {
    if (const auto waiter = each.waiter.lock()) waiter->lost(status);
  }
}

}  // namespace telemetryd::gateway
