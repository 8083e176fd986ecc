// server/acceptor.h: accepts connections and hands them to the HTTP library.
//
// The library's own accepting spins while there is no descriptor, or waits for one of its
// connections to end. This one rests for a moment and looks again, as it does while all places are
// taken; whoever comes meanwhile waits in the socket's queue.
//
// Owns:    the listening socket and a thread that sleeps while nobody comes.
// Thread:  start, stop and destruction from one thread, left() from any.
// Limits:  connections_max inside.
// Fails:   start as the kernel says.

#pragma once

#include <atomic>
#include <functional>
#include <sys/socket.h>
#include <thread>

#include "base/result.h"
#include "base/unique_fd.h"

namespace telemetryd::server {

class Acceptor {
 public:
  // On the thread; false when the connection could not be taken.
  using LetIn = std::function<bool(UniqueFd, const sockaddr*, socklen_t)>;

  Acceptor(UniqueFd listening, unsigned connections_max, LetIn let_in);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  [[nodiscard]] Result<void> start();
  // Lets nobody in any more.
  void stop();

  // A connection that was let in has ended.
  void left() { --inside_; }

 private:
  void run();
  // Rests after what would be the same at once: no descriptor, no memory, no place.
  void accept_one();
  void rest();

  const UniqueFd listening_;
  UniqueFd stopping_;
  const unsigned connections_max_;
  const LetIn let_in_;
  std::atomic<unsigned> inside_ = 0;
  std::thread thread_;
};

}  // namespace telemetryd::server
