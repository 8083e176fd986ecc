#include "base/clock.h"

#include <ctime>

namespace telemetryd {
namespace {

std::int64_t read_ms(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace

UnixMs SystemClock::unix_ms() const {
  return read_ms(CLOCK_REALTIME);
}

#ifdef CLOCK_BOOTTIME
BootMs SystemClock::boot_ms() const {
  return read_ms(CLOCK_BOOTTIME);
}
#else
BootMs SystemClock::boot_ms() const {
  return read_ms(CLOCK_MONOTONIC);
}
#endif

}  // namespace telemetryd
