// server/deadlines.h: closes connections that take too long, however they keep themselves alive.
//
// The HTTP library knows only "nothing arrived for a while", which a byte every few seconds
// satisfies for ever. Here each connection has a moment by which its current part must be over.
//
// Owns:    a thread that sleeps while there are no connections.
// Thread:  any; a lock inside. forget() must run before the descriptor is closed.

#pragma once

#include <chrono>
#include <condition_variable>
#include <thread>
#include <unordered_map>

#include "base/clock.h"
#include "base/mutex.h"

namespace telemetryd::server {

class Deadlines {
 public:
  explicit Deadlines(const Clock& clock);
  ~Deadlines();
  Deadlines(const Deadlines&) = delete;
  Deadlines& operator=(const Deadlines&) = delete;

  // Replaces the one that the connection had.
  void set(int fd, std::chrono::milliseconds from_now);
  // No deadline: the connection waits for us.
  void forget(int fd);

  // Shuts down what is overdue; the thread calls it twice a second.
  void sweep();

 private:
  void run();

  const Clock& clock_;
  Mutex mutex_;
  std::condition_variable wake_;
  std::unordered_map<int, BootMs> due_ TELEMETRYD_GUARDED_BY(mutex_);
  bool stopping_ TELEMETRYD_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace telemetryd::server
