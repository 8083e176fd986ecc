#include "ingest/uid_limits.h"

#include <algorithm>
#include <cmath>

namespace telemetryd::ingest {

UidLimits::Admission UidLimits::admit(std::uint32_t uid) {
  if (connections_ >= options_.connections_max) return Admission::kTooMany;
  const Admission counted = count_for(uid);
  if (counted == Admission::kAdmitted) ++connections_;
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
    const BootMs now = clock_.boot_ms();
    const double rate = options_.events_per_second_per_uid_max;
    entry->second.events = TokenBucket(rate, rate, now);
    entry->second.bytes = TokenBucket(kSharedBytesPerSecond, kSharedBytesBurst, now);
  }
  if (entry->second.connections >= options_.connections_per_uid_max) {
    return Admission::kTooManyOfUid;
  }
  if (entry->second.connections++ == 0) ++connected_uids_;
  return Admission::kAdmitted;
}

void UidLimits::leave(std::uint32_t uid) {
  const auto entry = uids_.find(uid);
  if (entry == uids_.end() || entry->second.connections == 0) return;
  if (--entry->second.connections == 0) --connected_uids_;
  leave_gateway();
}

void UidLimits::leave_gateway() {
  if (connections_ > 0) --connections_;
}

std::chrono::milliseconds UidLimits::wait(std::uint32_t uid) {
  const auto entry = uids_.find(uid);
  if (options_.events_per_second_per_uid_max == 0 || entry == uids_.end()) {
    return std::chrono::milliseconds(0);
  }
  const BootMs now = clock_.boot_ms();
  entry->second.events.refill(now);
  entry->second.bytes.refill(now);
  return owed(uid, entry->second, now);
}

std::chrono::milliseconds UidLimits::charge(std::uint32_t uid,
                                            std::uint32_t events,
                                            std::uint64_t bytes) {
  const auto entry = uids_.find(uid);
  if (options_.events_per_second_per_uid_max == 0 || entry == uids_.end()) {
    return std::chrono::milliseconds(0);
  }
  Uid& of = entry->second;
  // Read once: this is done for every frame.
  const BootMs now = clock_.boot_ms();
  of.events.refill(now);
  of.bytes.refill(now);
  note_sender(uid, now);
  of.events.take(events);
  of.bytes.take(static_cast<double>(bytes));
  // Who is alone owes nobody; but what was sent then is no credit either.
  if (!others_send(uid, now)) of.bytes.forgive();
  return owed(uid, of, now);
}

std::chrono::milliseconds UidLimits::owed(std::uint32_t uid, const Uid& of, BootMs now) const {
  double seconds = of.events.owed_s();
  if (others_send(uid, now)) seconds = std::max(seconds, of.bytes.owed_s());
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(seconds * 1000)));
}

void UidLimits::note_sender(std::uint32_t uid, BootMs now) {
  if (last_sender_.any && last_sender_.uid != uid) sender_before_ = last_sender_;
  last_sender_ = {.uid = uid, .sent_boot_ms = now, .any = true};
}

bool UidLimits::others_send(std::uint32_t uid, BootMs now) const {
  const Sender& other = last_sender_.uid == uid ? sender_before_ : last_sender_;
  return other.any && now - other.sent_boot_ms < kOthersSendFor.count();
}

void UidLimits::keep(std::uint32_t uid, std::uint64_t before, std::uint64_t after) {
  const auto move = [&](std::uint64_t& bytes) { bytes = bytes - std::min(bytes, before) + after; };
  move(kept_bytes_);
  if (const auto entry = uids_.find(uid); entry != uids_.end()) move(entry->second.kept_bytes);
}

std::uint64_t UidLimits::room(std::uint32_t uid) const {
  const auto left = [](std::uint64_t max, std::uint64_t used) { return max - std::min(max, used); };
  const std::uint64_t of_all = left(options_.kept_bytes_max, kept_bytes_);
  const auto entry = uids_.find(uid);
  if (entry == uids_.end()) return of_all;
  return std::min(of_all, left(options_.kept_bytes_per_uid_max, entry->second.kept_bytes));
}

std::shared_ptr<StoreShare> UidLimits::share(std::uint32_t uid,
                                             const std::shared_ptr<ShareWaker>& waker) {
  const auto entry = uids_.find(uid);
  if (entry == uids_.end()) return nullptr;
  if (!entry->second.share) entry->second.share = std::make_shared<StoreShare>(waker);
  return entry->second.share;
}

// Reconnecting must not fill a bucket, so an entry outlives its connections until it is full again.
void UidLimits::forget_the_gone() {
  std::erase_if(uids_, [now = clock_.boot_ms()](const auto& each) {
    return each.second.connections == 0 && each.second.events.full(now) &&
           each.second.bytes.level(now) >= 0;
  });
}

}  // namespace telemetryd::ingest
