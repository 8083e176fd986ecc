// gateway/watchdog.h: ends the process when its loop hangs, so that another one can take its place.
//
// A gateway that hangs still holds the listening socket, and whoever connects waits in the kernel
// for an accept that does not come. Its parent sees a living child, and the service manager a
// running service. So the loop moves an alarm of the kernel forward while there is something that
// could hang; not moved in time, SIGALRM ends the process, which both know what to do about.
//
// What is lost was acknowledged to nobody. A stop by a debugger or a freezer counts as a hang.
//
// Owns:    ITIMER_REAL and the default action of SIGALRM, of the whole process.
// Thread:  loop. From the constructor to the first turn of the loop it watches the start.
// Limits:  hang_max, moved forward three times in it; no timer runs while nothing is watched.

#pragma once

#include <chrono>
#include <functional>

#include "loop/loop.h"

namespace telemetryd::gateway {

class Watchdog {
 public:
  static constexpr std::chrono::milliseconds kHangMax{30'000};

  // `needed`: whether anything is there that a hang would keep waiting.
  Watchdog(loop::Loop& loop,
           std::function<bool()> needed,
           std::chrono::milliseconds hang_max = kHangMax);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Something came that may hang.
  void watch();

 private:
  void beat();

  const std::function<bool()> needed_;
  const std::chrono::milliseconds hang_max_;
  loop::Timer timer_;
};

}  // namespace telemetryd::gateway
