// admin/door.h: accepts on the admin socket, for the HTTP library.
//
// The library's own accepting spins while there is no descriptor, and with an open stream it does
// not begin again afterwards. This one rests for a moment and looks again, as it does while all
// places are taken; whoever comes meanwhile waits in the socket's queue.
//
// Owns:    the listening socket.
// Thread:  the loop; left() from any.
// Limits:  connections_max inside.

#pragma once

#include <atomic>
#include <functional>

#include "base/unique_fd.h"
#include "loop/loop.h"

namespace telemetryd::admin {

class Door {
 public:
  // `let_in` is false when the connection could not be taken.
  Door(loop::Loop& loop,
       UniqueFd listening,
       unsigned connections_max,
       std::function<bool(UniqueFd)> let_in);

  // A connection that was let in has ended.
  void left() { --inside_; }

 private:
  void accept_some();
  bool accept_one();

  void watch() { poll_.start(loop::Poll::Until::kReadable); }

  void rest();

  const UniqueFd listening_;
  const unsigned connections_max_;
  const std::function<bool(UniqueFd)> let_in_;
  std::atomic<unsigned> inside_ = 0;
  loop::Poll poll_;
  loop::Timer rested_;
};

}  // namespace telemetryd::admin
