// store/growth_rate.h: how fast the queue grows, and so when the store will be full.
//
// Thread:  store thread.

#pragma once

#include <cstdint>
#include <optional>

#include "base/clock.h"

namespace telemetryd::store {

// Over the last 10 to 20 minutes that had any work in them, and at least 10 seconds.
class GrowthRate {
 public:
  void note(BootMs now, std::int64_t queued_bytes) {
    const Mark here{now, queued_bytes};
    if (!from_) from_ = here;
    if (!next_) next_ = here;
    now_ = here;
    if (now - next_->boot_ms < kIntervalMs) return;
    from_ = next_;
    next_ = here;
  }

  // Nothing while the queue does not grow.
  std::optional<std::uint64_t> seconds_to(std::uint64_t more_bytes) const {
    if (!from_) return std::nullopt;
    const BootMs took = now_.boot_ms - from_->boot_ms;
    const std::int64_t grown = now_.queued_bytes - from_->queued_bytes;
    if (took < kMeasureMs || grown <= 0) return std::nullopt;
    const double bytes_per_ms = static_cast<double>(grown) / static_cast<double>(took);
    return static_cast<std::uint64_t>(static_cast<double>(more_bytes) / bytes_per_ms / 1000);
  }

 private:
  static constexpr BootMs kIntervalMs = 600'000;
  static constexpr BootMs kMeasureMs = 10'000;

  struct Mark {
    BootMs boot_ms = 0;
    std::int64_t queued_bytes = 0;
  };

  std::optional<Mark> from_;
  std::optional<Mark> next_;
  Mark now_;
};

}  // namespace telemetryd::store
