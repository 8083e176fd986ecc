// base/clock.h: the time, as an argument, so that tests turn it by hand.
//
// Wall time is data: it is stored and shown, and decides nothing. Boot time counts through suspend
// and never jumps; ages, back-offs and deadlines use it.
//
// Thread:  any.

#pragma once

#include <chrono>
#include <cstdint>

namespace telemetryd {

// Milliseconds since the epoch, by the machine's wall clock.
using UnixMs = std::int64_t;
// Milliseconds since this boot, suspend included.
using BootMs = std::int64_t;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual UnixMs unix_ms() const = 0;
  virtual BootMs boot_ms() const = 0;
};

class SystemClock final : public Clock {
 public:
  UnixMs unix_ms() const override;
  BootMs boot_ms() const override;
};

}  // namespace telemetryd
