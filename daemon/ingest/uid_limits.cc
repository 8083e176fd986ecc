#include "ingest/uid_limits.h"

#include <algorithm>
#include <cmath>

namespace telemetryd::ingest {

UidLimits::Admission UidLimits::admit(std::uint32_t uid) {
  const Admission admission = admit_gateway();
  if (admission != Admission::kAdmitted) return admission;
  const Admission counted = count_for(uid);
  if (counted != Admission::kAdmitted) leave_gateway();
  return counted;
}

UidLimits::Admission UidLimits::admit_gateway() {
  if (connections_ >= options_.connections_max) return Admission::kTooMany;
  ++connections_;
  return Admission::kAdmitted;
}

UidLimits::Admission UidLimits::count_for(std::uint32_t uid) {
  forget_the_gone();
  const auto [entry, fresh] = uids_.try_emplace(uid);
  if (fresh) {
    entry->second.tokens = options_.events_per_second_per_uid_max;
    entry->second.filled_boot_ms = clock_.boot_ms();
  }
  if (entry->second.connections >= options_.connections_per_uid_max) {
    return Admission::kTooManyOfUid;
  }
  ++entry->second.connections;
  return Admission::kAdmitted;
}

void UidLimits::leave(std::uint32_t uid) {
  const auto entry = uids_.find(uid);
  if (entry == uids_.end() || entry->second.connections == 0) return;
  --entry->second.connections;
  leave_gateway();
}

void UidLimits::leave_gateway() {
  if (connections_ > 0) --connections_;
}

std::chrono::milliseconds UidLimits::wait(std::uint32_t uid) {
  return charge(uid, 0);
}

std::chrono::milliseconds UidLimits::charge(std::uint32_t uid, std::uint32_t events) {
  using std::chrono::milliseconds;
  const auto entry = uids_.find(uid);
  if (options_.events_per_second_per_uid_max == 0 || entry == uids_.end()) return milliseconds(0);
  refill(entry->second);
  entry->second.tokens -= events;
  if (entry->second.tokens >= 0) return milliseconds(0);
  const double seconds = -entry->second.tokens / options_.events_per_second_per_uid_max;
  return milliseconds(static_cast<std::int64_t>(std::ceil(seconds * 1000)));
}

double UidLimits::level(const Uid& uid) const {
  const double rate = options_.events_per_second_per_uid_max;
  const auto passed_ms = static_cast<double>(clock_.boot_ms() - uid.filled_boot_ms);
  return std::min(rate, uid.tokens + rate * passed_ms / 1000);
}

void UidLimits::refill(Uid& uid) const {
  uid.tokens = level(uid);
  uid.filled_boot_ms = clock_.boot_ms();
}

// Reconnecting must not fill a bucket, so an entry outlives its connections until it is full again.
void UidLimits::forget_the_gone() {
  std::erase_if(uids_, [this](const auto& each) {
    return each.second.connections == 0 &&
           level(each.second) >= options_.events_per_second_per_uid_max;
  });
}

}  // namespace telemetryd::ingest
