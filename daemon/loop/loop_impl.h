// loop/loop_impl.h: what the other sources of this folder share of a Loop.
//
// Thread:  loop; `mutex` guards what post() and stop() touch from elsewhere.

#pragma once

#include <atomic>
#include <functional>
#include <span>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "loop/handle.h"
#include "loop/loop.h"

namespace telemetryd::loop {

struct Loop::Impl {
  // All streams read into the same bytes: an idle connection costs no buffer. The pages become
  // real when somebody first sends.
  static constexpr std::size_t kReadBytes = 256u << 10;

  Impl();

  void drain();
  std::span<std::uint8_t> read_buffer();

  uv_loop_t uv{};
  BoxPtr<uv_async_t, Impl> wake;
  std::atomic<std::thread::id> thread;
  std::unique_ptr<std::uint8_t[]> read_bytes;

  Mutex mutex;
  std::vector<std::function<void()>> posts TELEMETRYD_GUARDED_BY(mutex);
  bool stopped TELEMETRYD_GUARDED_BY(mutex) = false;
};

}  // namespace telemetryd::loop
