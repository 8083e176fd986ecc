#include "server/rate_limiter.h"

#include <string>

namespace telemetryd::server {
namespace {

constexpr std::int64_t kWindowS = 60;

}  // namespace

std::optional<RateState> RateLimiter::take(std::int64_t token, Tier tier, std::int64_t now_s) {
  const auto limit = requests_per_minute(tier);
  if (!limit) return std::nullopt;
  const std::int64_t window = now_s / kWindowS;
  RateState state{.allowed = false, .limit = *limit, .reset_s = (window + 1) * kWindowS};
  const MutexLock lock(mutex_);
  if (window != window_) {
    window_ = window;
    used_.clear();
  }
  if (used_.size() >= kTokensMax && !used_.contains(token)) return state;
  std::uint32_t& used = used_[token];
  state.allowed = used < *limit;
  if (state.allowed) ++used;
  state.remaining = *limit - used;
  return state;
}

void add_rate_headers(Answer& answer, const RateState& state) {
  answer.headers.emplace_back("X-RateLimit-Limit", std::to_string(state.limit));
  answer.headers.emplace_back("X-RateLimit-Remaining", std::to_string(state.remaining));
  answer.headers.emplace_back("X-RateLimit-Reset", std::to_string(state.reset_s));
}

}  // namespace telemetryd::server
