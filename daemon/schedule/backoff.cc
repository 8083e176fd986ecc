#include "schedule/backoff.h"

#include <algorithm>

namespace telemetryd::schedule {

using std::chrono::milliseconds;

namespace {

constexpr int kRetryAfterSpread = 5;

}  // namespace

milliseconds uniform(milliseconds from, milliseconds to, Prng& prng) {
  if (to <= from) return from;
  std::uniform_int_distribution<std::int64_t> spread(from.count(), to.count());
  return milliseconds(spread(prng));
}

milliseconds backoff_cap(const BackoffLimits& limits, std::uint32_t failures) {
  milliseconds cap = limits.delay_min;
  // Doubling stops at the limit, so it cannot overflow however long the outage is.
  for (std::uint32_t n = 1; n < failures && cap < limits.delay_max; ++n) cap *= 2;
  return std::min(cap, limits.delay_max);
}

milliseconds backoff_bound(const BackoffLimits& limits) {
  return std::max(limits.delay_max, kRetryAfterMax + kRetryAfterMax / kRetryAfterSpread);
}

milliseconds backoff_delay(const BackoffLimits& limits,
                           std::uint32_t failures,
                           milliseconds retry_after,
                           Prng& prng) {
  const milliseconds own = uniform(milliseconds(0), backoff_cap(limits, failures), prng);
  const milliseconds asked = std::clamp(retry_after, milliseconds(0), kRetryAfterMax);
  if (own >= asked) return own;
  return uniform(asked, asked + asked / kRetryAfterSpread, prng);
}

}  // namespace telemetryd::schedule
