#include "ingest/store_share.h"

#include <algorithm>

namespace telemetryd::ingest {

bool StoreShare::take(std::uint64_t bytes, std::uint64_t bytes_max) {
  const MutexLock lock(mutex_);
  if (bytes_ >= bytes_max) {
    wanted_ = true;
    wake_at_ = bytes_max / 2;
    return false;
  }
  bytes_ += bytes;
  return true;
}

void StoreShare::untake(std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  bytes_ -= std::min(bytes_, bytes);
}

void StoreShare::give_back(std::uint64_t bytes) noexcept {
  {
    const MutexLock lock(mutex_);
    bytes_ -= std::min(bytes_, bytes);
    if (!wanted_ || bytes_ > wake_at_) return;
    wanted_ = false;
  }
  waker_->loop.post_when_room([waker = waker_] {
    if (waker->wake) waker->wake();
  });
}

std::uint64_t StoreShare::bytes() const {
  const MutexLock lock(mutex_);
  return bytes_;
}

}  // namespace telemetryd::ingest
