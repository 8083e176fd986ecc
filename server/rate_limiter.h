// server/rate_limiter.h: requests of each limited token in the running minute.
//
// All tokens share one window, the minute of the wall clock, because X-RateLimit-Reset is a time of
// that clock; when it turns everything is forgotten at once, which is what bounds the memory. A
// restart forgets too: a limit is for fairness, not for proof.
//
// Thread:  any; a lock inside.
// Limits:  kTokensMax tokens in one minute; those beyond wait for the next.

#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

#include "base/mutex.h"
#include "server/answer.h"
#include "server/tier.h"

namespace telemetryd::server {

// What the X-RateLimit headers say.
struct RateState {
  bool allowed = true;
  std::uint32_t limit = 0;
  std::uint32_t remaining = 0;
  std::int64_t reset_s = 0;  // epoch second at which the window ends
};

class RateLimiter {
 public:
  static constexpr std::size_t kTokensMax = 1u << 16;

  // Counts one request; nothing for a tier without limit.
  std::optional<RateState> take(std::int64_t token, Tier tier, std::int64_t now_s);

 private:
  Mutex mutex_;
  std::int64_t window_ TELEMETRYD_GUARDED_BY(mutex_) = 0;
  std::unordered_map<std::int64_t, std::uint32_t> used_ TELEMETRYD_GUARDED_BY(mutex_);
};

void add_rate_headers(Answer& answer, const RateState& state);

}  // namespace telemetryd::server
