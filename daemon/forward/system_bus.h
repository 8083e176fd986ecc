// forward/system_bus.h: what NetworkManager, ModemManager and UPower say on the D-Bus system bus.
//
// Everything is asked without waiting and asked again when a service tells of a change or comes
// back. None is started for our sake. What a service that went away had said counts for kGrace
// more, so that its restart lets nothing through that it forbade.
//
// Owns:    the connection to the bus.
// Thread:  the forwarder's; nothing here waits.
// Limits:  kAnswerMax for each answer, kMessagesAtOnceMax taken before others have their turn.
// Fails:   never: without a bus, a service or an answer the facts stay unknown.

#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <poll.h>

#include "base/clock.h"
#include "forward/conditions.h"

namespace telemetryd::forward {

class SystemBus {
 public:
  static constexpr std::chrono::milliseconds kAnswerMax{2000};
  static constexpr std::chrono::milliseconds kGrace{5000};
  static constexpr int kMessagesAtOnceMax = 256;

  explicit SystemBus(const Clock& clock);
  ~SystemBus();
  SystemBus(const SystemBus&) = delete;
  SystemBus& operator=(const SystemBus&) = delete;

  // What to wait for; nothing without a bus.
  std::optional<pollfd> descriptor() const;
  // When to call serve() although the descriptor is not ready.
  std::optional<BootMs> deadline() const;
  void serve();

  // Every service has answered, or will not.
  bool settled() const;
  // All but `way_out`.
  const Facts& facts() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace telemetryd::forward
