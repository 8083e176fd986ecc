// forward/routes.h: whether a way leads out of this machine, and when that may have changed.
//
// The kernel tells of every change of routes and links over a netlink socket, so nobody has to ask
// again and again.
//
// Owns:    the socket.
// Thread:  the forwarder's; nothing here waits.
// Fails:   open: as the system does, for example where a sandbox knows no netlink.

#pragma once

#include <optional>

#include "base/result.h"
#include "base/unique_fd.h"

namespace telemetryd::forward {

class Routes {
 public:
  [[nodiscard]] static Result<Routes> open();

  // Readable when something changed.
  int fd() const { return fd_.get(); }

  // Takes what waits; true when there was anything.
  bool take_changes();

  // Whether there is a unicast route, in any table, over anything but the loopback interface, that
  // leads further than the link. Nothing: the kernel does not say.
  static std::optional<bool> way_out();

 private:
  explicit Routes(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace telemetryd::forward
