#include "ingest/app_limits.h"

#include <algorithm>
#include <cmath>

namespace telemetryd::ingest {

std::shared_ptr<TokenBucket> AppLimits::bucket(std::uint32_t uid, const std::string& app) {
  if (events_per_second_max_ == 0) return nullptr;
  const BootMs now = clock_.boot_ms();
  forget_the_gone(now);
  auto& bucket = buckets_[{uid, app}];
  const double rate = events_per_second_max_;
  if (!bucket) bucket = std::make_shared<TokenBucket>(rate, rate, now);
  return bucket;
}

std::chrono::milliseconds AppLimits::charge(TokenBucket* bucket, std::uint32_t events) const {
  if (bucket == nullptr) return std::chrono::milliseconds(0);
  bucket->refill(clock_.boot_ms());
  bucket->take(events);
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(bucket->owed_s() * 1000)));
}

// Reconnecting must not fill a bucket, so it outlives its connections until it is full again.
void AppLimits::forget_the_gone(BootMs now) {
  const auto gone = [](const auto& each) { return each.second.use_count() == 1; };
  std::erase_if(buckets_, [&](const auto& each) { return gone(each) && each.second->full(now); });
  if (std::ranges::count_if(buckets_, gone) >= static_cast<std::ptrdiff_t>(kRememberedMax)) {
    std::erase_if(buckets_, gone);
  }
}

}  // namespace telemetryd::ingest
