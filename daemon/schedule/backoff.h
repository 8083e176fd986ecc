// schedule/backoff.h: how long to wait after a failure, so that a fleet does not come back at once.
//
// Full jitter: any delay between nothing and an exponentially growing cap is equally likely. What
// the upstream asks for is a lower bound, and itself bounded, so that a broken header cannot park a
// queue; above it a fifth more is drawn at random, because everybody was told the same time.
//
// Thread:  any; no state but the generator handed in.
// Limits:  kRetryAfterMax.

#pragma once

#include <chrono>
#include <cstdint>
#include <random>

namespace telemetryd::schedule {

using Prng = std::mt19937_64;

struct BackoffLimits {
  std::chrono::milliseconds delay_min{1000};
  std::chrono::milliseconds delay_max{300000};
};

// The longest wait an upstream can impose.
inline constexpr std::chrono::milliseconds kRetryAfterMax{3600000};

// Uniform in [from, to]; `from` when the range is empty.
std::chrono::milliseconds uniform(std::chrono::milliseconds from,
                                  std::chrono::milliseconds to,
                                  Prng& prng);

// The top of the jitter after `failures` failures in a row: min(delay_max, delay_min * 2^(n-1)).
std::chrono::milliseconds backoff_cap(const BackoffLimits& limits, std::uint32_t failures);

// What no delay exceeds.
std::chrono::milliseconds backoff_bound(const BackoffLimits& limits);

// The delay before the next attempt; at least min(retry_after, kRetryAfterMax).
std::chrono::milliseconds backoff_delay(const BackoffLimits& limits,
                                        std::uint32_t failures,
                                        std::chrono::milliseconds retry_after,
                                        Prng& prng);

}  // namespace telemetryd::schedule
