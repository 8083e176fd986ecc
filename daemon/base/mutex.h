// base/mutex.h: std::mutex with the annotations that clang's -Wthread-safety reads.
//
// libstdc++'s own types carry none. g++ ignores all of it.

#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define TELEMETRYD_ANNOTATE(x) __attribute__((x))
#else
#define TELEMETRYD_ANNOTATE(x)
#endif

#define TELEMETRYD_GUARDED_BY(m) TELEMETRYD_ANNOTATE(guarded_by(m))
#define TELEMETRYD_REQUIRES(...) TELEMETRYD_ANNOTATE(requires_capability(__VA_ARGS__))

namespace telemetryd {

class TELEMETRYD_ANNOTATE(capability("mutex")) Mutex {
 public:
  void lock() TELEMETRYD_ANNOTATE(acquire_capability()) { mutex_.lock(); }

  void unlock() TELEMETRYD_ANNOTATE(release_capability()) { mutex_.unlock(); }

  std::mutex& native() { return mutex_; }

 private:
  std::mutex mutex_;
};

class TELEMETRYD_ANNOTATE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) TELEMETRYD_ANNOTATE(acquire_capability(mutex))
      : lock_(mutex.native()) {}

  ~MutexLock() TELEMETRYD_ANNOTATE(release_capability()) = default;

  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  std::unique_lock<std::mutex>& native() { return lock_; }

 private:
  std::unique_lock<std::mutex> lock_;
};

}  // namespace telemetryd
