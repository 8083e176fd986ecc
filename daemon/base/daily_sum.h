// base/daily_sum.h: how much of something there was in a day.
//
// A day begins with what comes first after the last one is over and lasts 24 hours by the boot
// clock: nobody can end it early by setting a clock, and machines do not begin a new one together.
// Across a restart the wall clock bridges the gap.
//
// Thread:  of the owner; a value.

#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "base/clock.h"

namespace telemetryd {

class DailySum {
 public:
  static constexpr BootMs kDayMs = 24 * 3'600'000;

  void add(BootMs now, std::uint64_t amount) {
    if (amount == 0) return;
    if (over(now)) *this = DailySum(now);
    sum_ += std::min(amount, std::numeric_limits<std::uint64_t>::max() - sum_);
  }

  std::uint64_t today(BootMs now) const { return over(now) ? 0 : sum_; }

  // When the day that is under way is over.
  BootMs ends() const { return began_ + kDayMs; }

  UnixMs began_unix_ms(BootMs now, UnixMs now_unix) const { return now_unix - (now - began_); }

  // As it was when it said `began_unix`. A day that seems to begin later than now, because the wall
  // clock went back, begins now.
  static DailySum restored(UnixMs began_unix, std::uint64_t sum, BootMs now, UnixMs now_unix) {
    DailySum day(now);
    // Compared before subtracting: the number may be anything.
    if (began_unix <= now_unix - kDayMs) return DailySum();
    if (began_unix < now_unix) day.began_ = now - (now_unix - began_unix);
    day.sum_ = sum;
    return day;
  }

  DailySum() = default;

 private:
  explicit DailySum(BootMs began) : began_(began) {}

  bool over(BootMs now) const { return sum_ == 0 || now >= ends(); }

  BootMs began_ = 0;
  std::uint64_t sum_ = 0;
};

}  // namespace telemetryd
