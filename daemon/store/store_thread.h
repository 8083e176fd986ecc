// store/store_thread.h: the one thread that runs the Store, and the two doors to it.
//
// submit() is the frame path: frames wait in a bounded queue, are taken as a group, committed, and
// answered on this thread through their AckSink without a further hand-over. post() is for
// everything else and runs between groups.
//
// Owns:    the Store and the thread "tlm-store".
// Thread:  submit and post from any thread; sinks and functions run on the store thread.
// Limits:  Options::queue_bytes_max of waiting events; posts_max of waiting functions.
// Fails:   kResourceExhausted when a queue is full: stop reading and try again when `on_room` is
// called.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/result.h"
#include "store/store.h"

namespace telemetryd::store {

// Takes the answers for one connection's frames. Outlives its last pending frame by shared
// ownership.
class AckSink {
 public:
  virtual ~AckSink() = default;
  // Store thread. Every frame up to `number` is settled.
  virtual void acknowledge(std::uint64_t number) noexcept = 0;
  virtual void refuse(std::uint64_t number, const Refusal& refusal) noexcept = 0;
  // The commit's outcome is unknown; say nothing about frames and close.
  virtual void abandon() noexcept = 0;
};

struct StoreThreadOptions {
  std::uint64_t queue_bytes_max = 16u << 20;
  std::uint32_t queue_frames_max = 16384;
  std::uint32_t posts_max = 1024;
  // A commit may wait this long for company, unless somebody waits for it.
  std::chrono::milliseconds commit_delay_max{200};
  // And this long while events trickle on; see commit_pace.h.
  std::chrono::milliseconds trickle_delay_max{30'000};
  // This many bytes or frames of one client waiting end the delay: its window is full.
  std::uint64_t commit_bytes = 256u << 10;
  std::uint32_t commit_frames_per_client = 32;
};

class StoreThread {
 public:
  // `on_room`: store thread; a queue that was full has room again. `on_fatal`: store thread, once,
  // after which nothing is acknowledged any more; the process should exit with 74.
  struct Hooks {
    std::function<void()> on_room;
    std::function<void(const Error&)> on_fatal;
  };

  StoreThread(std::unique_ptr<Store> store, const StoreThreadOptions& options, Hooks hooks);
  // Stops without waiting for the queue when stop() was not called.
  ~StoreThread();

  StoreThread(const StoreThread&) = delete;
  StoreThread& operator=(const StoreThread&) = delete;

  enum class Commit { kMayDelay, kNow };

  // Takes the frame over, or returns kResourceExhausted and leaves it untouched, or kCancelled when
  // stopping.
  [[nodiscard]] Result<void> submit(Append&& frame, std::shared_ptr<AckSink> sink, Commit when);

  // While one lives, what is submitted wakes the thread at its end, once: the frames of one read
  // become one group instead of two, and reading does not compete with the commit it has started.
  // Keep it short; it holds up everybody's frames.
  class Burst {
   public:
    explicit Burst(StoreThread& thread);
    ~Burst();
    Burst(const Burst&) = delete;
    Burst& operator=(const Burst&) = delete;

   private:
    StoreThread& thread_;
  };

  // FLUSH, GOODBYE: ends the commit delay of what waits now.
  void commit_now();

  // Runs `work` on the store thread, after every frame submitted before it was committed.
  [[nodiscard]] Result<void> post(std::function<void(Store&)> work);

  // Commits what waits, then closes the store. Blocks until done.
  [[nodiscard]] Result<void> stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace telemetryd::store
