// ingest/app_limits.h: what one app of a user may send, beside what the user may send in all.
//
// An app's name is its own word, so this protects a user's apps from one that sends too much by
// mistake. Who makes up names to get around it is held by UidLimits.
//
// Thread:  loop.
// Limits:  kRememberedMax buckets that no connection has; one for each app that is connected.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/clock.h"
#include "ingest/token_bucket.h"

namespace telemetryd::ingest {

class AppLimits {
 public:
  static constexpr std::size_t kRememberedMax = 1024;

  // 0: no limit.
  AppLimits(const Clock& clock, std::uint32_t events_per_second_max)
      : clock_(clock), events_per_second_max_(events_per_second_max) {}

  // For as long as a connection of the app lives; nothing without a limit.
  std::shared_ptr<TokenBucket> bucket(std::uint32_t uid, const std::string& app);

  // Both say how long the app should not be read; zero: read on. The bucket may be nothing.
  std::chrono::milliseconds charge(TokenBucket* bucket, std::uint32_t events) const;

  std::chrono::milliseconds wait(TokenBucket* bucket) const { return charge(bucket, 0); }

  std::size_t size() const { return buckets_.size(); }

 private:
  void forget_the_gone(BootMs now);

  const Clock& clock_;
  const std::uint32_t events_per_second_max_;
  std::map<std::pair<std::uint32_t, std::string>, std::shared_ptr<TokenBucket>> buckets_;
};

}  // namespace telemetryd::ingest
