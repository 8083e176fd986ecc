#include "telemetry_core/frame_stream.h"

#include <poll.h>
#include <string.h>
#include <sys/mman.h>

#include "telemetry_core/ticks.h"

namespace telemetryd::client {
namespace {

constexpr size_t kFrameRoom = frame::kHeaderBytes + frame::kFrameBytesMaxDefault;

}  // namespace

FrameStream::FrameStream(size_t window_bytes)
    : window_capacity_(window_bytes < 2 * kFrameRoom ? 2 * kFrameRoom : window_bytes) {}

FrameStream::~FrameStream() {
  session_.shut_down();
  if (window_bytes_ != nullptr) munmap(window_bytes_, window_capacity_);
}

telemetry_status_t FrameStream::connect(const char* path,
                                        const Hello& hello,
                                        uint32_t deadline_ms) {
  if (path == nullptr || !hello_valid(hello)) return TELEMETRY_INVALID;
  if (window_bytes_ == nullptr) {
    void* memory = mmap(nullptr,
                        window_capacity_,
                        PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                        -1,
                        0);
    if (memory == MAP_FAILED) return TELEMETRY_NO_MEMORY;
    window_bytes_ = static_cast<uint8_t*>(memory);
  }
  uint64_t seed = 0;
  if (!fill_random(&seed, sizeof seed)) return TELEMETRY_NO_MEMORY;
  session_.shut_down();
  session_.reset(hello, window_bytes_, window_capacity_, seed);
  path_ = path;
  last_number_ = 0;
  const uint64_t deadline = deadline_after(deadline_ms);
  while (!session_.welcomed()) {
    if (!step(deadline)) return TELEMETRY_TIMEOUT;
  }
  return TELEMETRY_OK;
}

telemetry_status_t FrameStream::send_frame(const OutgoingFrame& frame, uint32_t deadline_ms) {
  const bool fits = frame.size <= frame::kFrameBytesMaxDefault - frame::kEventsPrefixBytes;
  if (path_ == nullptr || frame.number <= last_number_ || frame.count == 0 || !fits ||
      frame.count > frame::kEventsPerFrameMax) {
    return TELEMETRY_INVALID;
  }
  const uint64_t deadline = deadline_after(deadline_ms);
  const size_t whole = Window::kFrameOverhead + frame.size;
  size_t room = 0;
  uint8_t* out = session_.window().open(whole, whole, room);
  while (out == nullptr) {
    session_.request_commit();
    if (!step(deadline)) return TELEMETRY_TIMEOUT;
    out = session_.window().open(whole, whole, room);
  }
  memcpy(out + Window::kFrameOverhead, frame.records, frame.size);
  session_.close_frame({.number = frame.number,
                        .count = frame.count,
                        .persistence_class = frame.persistence_class,
                        .urgency = frame.urgency,
                        .record_bytes = static_cast<uint32_t>(frame.size),
                        .commit_now = frame.commit_now,
                        .mark = frame.number});
  last_number_ = frame.number;
  session_.pump(monotonic_ns());
  return TELEMETRY_OK;
}

telemetry_status_t FrameStream::wait_all(uint32_t deadline_ms) {
  const uint64_t deadline = deadline_after(deadline_ms);
  while (!session_.window().empty()) {
    session_.request_commit();
    if (!step(deadline)) return TELEMETRY_TIMEOUT;
  }
  return TELEMETRY_OK;
}

telemetry_status_t FrameStream::goodbye(uint32_t deadline_ms) {
  const uint64_t deadline = deadline_after(deadline_ms);
  if (!session_.window().empty()) return TELEMETRY_INVALID;
  session_.say_goodbye();
  session_.pump(monotonic_ns());
  while (session_.connected() && session_.wants_write()) {
    if (!step(deadline)) return TELEMETRY_TIMEOUT;
  }
  const bool said = session_.connected();
  session_.shut_down();
  return said ? TELEMETRY_OK : TELEMETRY_TIMEOUT;
}

bool FrameStream::step(uint64_t deadline) {
  uint64_t now = monotonic_ns();
  if (!session_.connected() && now >= session_.retry_at() && !session_.connect(path_, now)) {
    session_.back_off(now);
  }
  const uint64_t progress = session_.progress();
  session_.pump(now);
  if (session_.progress() != progress) return true;
  now = monotonic_ns();
  if (now >= deadline) return false;

  uint64_t until = deadline;
  if (!session_.connected() && session_.retry_at() < until) until = session_.retry_at();
  if (session_.next_timer() < until) until = session_.next_timer();
  pollfd fd{.fd = session_.fd(), .events = POLLIN, .revents = 0};
  if (session_.wants_write()) fd.events |= POLLOUT;
  const uint64_t left = until > now ? until - now : 0;
  timespec timeout{.tv_sec = static_cast<time_t>(left / 1'000'000'000),
                   .tv_nsec = static_cast<long>(left % 1'000'000'000)};
  ppoll(&fd, 1, &timeout, nullptr);
  return true;
}

}  // namespace telemetryd::client
