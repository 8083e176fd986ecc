#include "admin/door.h"

#include <cerrno>
#include <chrono>
#include <sys/socket.h>

namespace telemetryd::admin {
namespace {

constexpr std::chrono::milliseconds kRest{100};

}  // namespace

Door::Door(loop::Loop& loop,
           UniqueFd listening,
           unsigned connections_max,
           std::function<bool(UniqueFd)> let_in)
    : listening_(std::move(listening)),
      connections_max_(connections_max),
      let_in_(std::move(let_in)),
      poll_(loop, listening_.get(), [this] { accept_some(); }),
      rested_(loop, [this] { watch(); }) {
  watch();
}

void Door::accept_some() {
  // Then the rest of the loop gets its turn; who still waits is seen in the next.
  for (unsigned i = 0; i < connections_max_; ++i) {
    if (inside_ >= connections_max_) return rest();
    if (!accept_one()) return;
  }
}

// False when there is nobody, or no way to take them now.
bool Door::accept_one() {
  UniqueFd connection(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (connection) {
    ++inside_;
    if (!let_in_(std::move(connection))) --inside_;
    return true;
  }
  if (errno == EINTR || errno == ECONNABORTED) return true;
  // Out of descriptors or memory, and still readable: the next turn would find the same.
  if (errno != EAGAIN && errno != EWOULDBLOCK) rest();
  return false;
}

void Door::rest() {
  poll_.stop();
  rested_.start_once(kRest);
}

}  // namespace telemetryd::admin
