// forward/world.h: how the machine stands to the world, and news of it, without asking twice.
//
// Puts together what the system bus and the kernel say. The first news comes when both have said
// what they know, at the latest after kFirstMax, so that nothing is sent in ignorance; then one
// whenever something changes.
//
// Owns:    the connections to the bus and to the kernel's route messages.
// Thread:  the forwarder's; nothing here waits.
// Limits:  routes are looked at once per kRoutesPause, however often they change.
// Fails:   never: what cannot be found out is unspecified.

#pragma once

#include <chrono>
#include <optional>
#include <poll.h>
#include <vector>

#include "base/clock.h"
#include "forward/conditions.h"
#include "forward/routes.h"
#include "forward/system_bus.h"

namespace telemetryd::forward {

class World {
 public:
  static constexpr std::chrono::milliseconds kFirstMax{2000};
  static constexpr std::chrono::milliseconds kRoutesPause{1000};

  explicit World(const Clock& clock);

  // Whether a destination is reached by a proxy: one on this machine may have a way where we have
  // no route.
  void by_proxy(bool any);

  // What to wait for now, and until when at most.
  std::vector<pollfd> descriptors() const;
  std::optional<BootMs> deadline() const;
  // After each wait.
  void serve();

  // Conditions that were not told before.
  std::optional<v1::Conditions> news();
  // Whether routes have changed since the last call.
  bool routes_changed();

 private:
  void look_at_routes();

  const Clock& clock_;
  BootMs first_by_;
  std::optional<Routes> routes_;
  SystemBus bus_;
  bool proxy_;
  std::optional<bool> way_out_;
  std::optional<BootMs> routes_again_;  // until then their changes wait
  bool routes_changed_ = false;
  std::optional<v1::Conditions> told_;
};

}  // namespace telemetryd::forward
