// For systems without sd-bus: nobody says anything about network and power.

#include "forward/system_bus.h"

namespace telemetryd::forward {

struct SystemBus::Impl {
  Facts facts;
};

SystemBus::SystemBus(const Clock&) : impl_(std::make_unique<Impl>()) {}

SystemBus::~SystemBus() = default;

std::optional<pollfd> SystemBus::descriptor() const {
  return std::nullopt;
}

std::optional<BootMs> SystemBus::deadline() const {
  return std::nullopt;
}

void SystemBus::serve() {}

bool SystemBus::settled() const {
  return true;
}

const Facts& SystemBus::facts() const {
  return impl_->facts;
}

}  // namespace telemetryd::forward
