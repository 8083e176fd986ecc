// app/hangups.h: makes a few reloads of many SIGHUPs.
//
// The first one reloads at once. Whatever comes within the interval behind a reload becomes one
// reload at its end, which reads everything that was written before the last signal.
//
// Owns:    a timer that runs for one interval after a reload.
// Thread:  loop.

#pragma once

#include <chrono>
#include <functional>

#include "loop/loop.h"

namespace telemetryd::app {

inline constexpr std::chrono::milliseconds kReloadsAtMostEvery{1000};

class Hangups {
 public:
  Hangups(loop::Loop& loop, std::chrono::milliseconds interval, std::function<void()> reload);

  void heard();

 private:
  void rested();

  const std::chrono::milliseconds interval_;
  const std::function<void()> reload_;
  bool heard_since_ = false;
  loop::Timer rest_;
};

}  // namespace telemetryd::app
