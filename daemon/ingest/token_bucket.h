// ingest/token_bucket.h: a rate that may be overdrawn once and is waited for then.
//
// Thread:  its owner's.

#pragma once

#include <algorithm>

#include "base/clock.h"

namespace telemetryd::ingest {

class TokenBucket {
 public:
  TokenBucket() = default;

  // Full at first.
  TokenBucket(double per_second, double burst, BootMs now)
      : per_second_(per_second), burst_(burst), level_(burst), filled_boot_ms_(now) {}

  double level(BootMs now) const {
    const auto passed_ms = static_cast<double>(now - filled_boot_ms_);
    return std::min(burst_, level_ + per_second_ * passed_ms / 1000);
  }

  void refill(BootMs now) {
    level_ = level(now);
    filled_boot_ms_ = now;
  }

  void take(double tokens) { level_ -= tokens; }

  void forgive() { level_ = std::max(level_, 0.0); }

  bool full(BootMs now) const { return level(now) >= burst_; }

  // Until it is level, as it was refilled last.
  double owed_s() const { return level_ < 0 ? -level_ / per_second_ : 0; }

 private:
  double per_second_ = 0;
  double burst_ = 0;
  double level_ = 0;
  BootMs filled_boot_ms_ = 0;
};

}  // namespace telemetryd::ingest
