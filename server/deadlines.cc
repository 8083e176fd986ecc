#include "server/deadlines.h"

#include <sys/socket.h>

namespace telemetryd::server {
namespace {

constexpr std::chrono::milliseconds kSweepInterval{500};

}  // namespace

Deadlines::Deadlines(const Clock& clock) : clock_(clock), thread_([this] { run(); }) {}

Deadlines::~Deadlines() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    wake_.notify_one();
  }
  thread_.join();
}

void Deadlines::set(int fd, std::chrono::milliseconds from_now) {
  const MutexLock lock(mutex_);
  if (due_.empty()) wake_.notify_one();
  due_[fd] = clock_.boot_ms() + from_now.count();
}

void Deadlines::forget(int fd) {
  const MutexLock lock(mutex_);
  due_.erase(fd);
}

void Deadlines::sweep() {
  const MutexLock lock(mutex_);
  const BootMs now = clock_.boot_ms();
  for (auto it = due_.begin(); it != due_.end();) {
    if (it->second > now) {
      ++it;
      continue;
    }
    // The library sees the end of the stream and closes; forget() keeps the number from being
    // somebody else's by now.
    ::shutdown(it->first, SHUT_RDWR);
    it = due_.erase(it);
  }
}

void Deadlines::run() {
  for (;;) {
    {
      MutexLock lock(mutex_);
      while (due_.empty() && !stopping_) wake_.wait(lock.native());
      if (!stopping_) wake_.wait_for(lock.native(), kSweepInterval);
      if (stopping_) return;
    }
    sweep();
  }
}

}  // namespace telemetryd::server
