// ingest/store_share.h: what of one user waits for the store, so that nobody's frames wait behind
// all of another's.
//
// The store commits everything that waits in one group. How long a group takes is decided by
// whoever sends most, and everybody in it waits as long. So the bytes of one user that are on their
// way through the store are bounded as soon as somebody else is there to wait for them.
//
// Thread:  take() and untake() on the loop; give_back() on any.
// Limits:  the caller's.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/mutex.h"
#include "loop/loop.h"

namespace telemetryd::ingest {

// Called on the loop when somebody who was refused may try again. The server empties it when it
// goes, because answers may still come then.
struct ShareWaker {
  loop::Loop& loop;
  std::function<void()> wake;  // loop only
};

class StoreShare {
 public:
  explicit StoreShare(std::shared_ptr<ShareWaker> waker) : waker_(std::move(waker)) {}

  // False when `bytes_max` are on their way already; the waker is called when half of them have
  // come back. A frame of any size may be the last that fits, so that large ones do not starve
  // beside small ones.
  [[nodiscard]] bool take(std::uint64_t bytes, std::uint64_t bytes_max);
  // Loop. The store did not take them, and whoever waits hears from the store.
  void untake(std::uint64_t bytes);
  void give_back(std::uint64_t bytes) noexcept;

  std::uint64_t bytes() const;

 private:
  const std::shared_ptr<ShareWaker> waker_;
  mutable Mutex mutex_;
  std::uint64_t bytes_ TELEMETRYD_GUARDED_BY(mutex_) = 0;
  std::uint64_t wake_at_ TELEMETRYD_GUARDED_BY(mutex_) = 0;
  bool wanted_ TELEMETRYD_GUARDED_BY(mutex_) = false;
};

}  // namespace telemetryd::ingest
