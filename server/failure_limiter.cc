#include "server/failure_limiter.h"

namespace telemetryd::server {
namespace {

constexpr std::int64_t kWindowS = 60;

}  // namespace

std::optional<std::int64_t> FailureLimiter::wait_s(const Sender& sender, std::int64_t now_s) {
  const MutexLock lock(mutex_);
  turn(now_s);
  const auto found = failures_.find(sender);
  if (found == failures_.end() || found->second < kPerMinuteMax) return std::nullopt;
  return (window_ + 1) * kWindowS - now_s;
}

void FailureLimiter::count(const Sender& sender, std::int64_t now_s) {
  const MutexLock lock(mutex_);
  turn(now_s);
  const auto found = failures_.find(sender);
  if (found != failures_.end()) {
    ++found->second;
  } else if (failures_.size() < kPairsMax) {
    failures_.emplace(sender, 1);
  }
}

void FailureLimiter::turn(std::int64_t now_s) {
  const std::int64_t window = now_s / kWindowS;
  if (window == window_) return;
  window_ = window;
  failures_.clear();
}

}  // namespace telemetryd::server
