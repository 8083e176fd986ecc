#include "telemetry_core/ticks.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace telemetryd::client {
namespace {

constexpr uint64_t kNanosPerSecond = 1'000'000'000;

uint64_t read_clock(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * kNanosPerSecond + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

uint64_t monotonic_ns() {
  return read_clock(CLOCK_MONOTONIC);
}

uint64_t realtime_ns() {
  return read_clock(CLOCK_REALTIME);
}

uint64_t deadline_after(uint32_t deadline_ms) {
  return monotonic_ns() + deadline_ms * kNanosPerMilli;
}

void wait_while_equal(std::atomic<uint32_t>& word, uint32_t seen, uint64_t deadline_ns) {
  const uint64_t now = monotonic_ns();
  if (now >= deadline_ns) return;
  const uint64_t left = deadline_ns - now;
  timespec timeout{};
  timeout.tv_sec = static_cast<time_t>(left / kNanosPerSecond);
  timeout.tv_nsec = static_cast<long>(left % kNanosPerSecond);
  // A relative futex wait runs on the monotonic clock.
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, &timeout, nullptr, 0);
}

void wake_all(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
}

bool ready_fence_all() {
  return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

void fence_all() {
  syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

bool fill_random(void* out, size_t size) {
  auto* at = static_cast<uint8_t*>(out);
  while (size > 0) {
    const ssize_t got = getrandom(at, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    size -= static_cast<size_t>(got);
  }
  return true;
}

}  // namespace telemetryd::client
