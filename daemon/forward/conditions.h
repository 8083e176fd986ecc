// forward/conditions.h: how the machine stands to the world, from what its services and kernel say.
//
// NetworkManager knows whether the network is metered, ModemManager whether a modem roams, UPower
// about mains and battery, the kernel whether there is a way out at all. What nobody tells stays
// unspecified.
//
// Thread:  any; values.

#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "telemetry/v1/lease.pb.h"

namespace telemetryd::forward {

namespace v1 = ::telemetry::v1;

// NetworkManager's properties of these names.
struct NetworkFacts {
  std::uint32_t metered = 0;    // NMMetered
  std::string connection_type;  // PrimaryConnectionType: under a VPN that of the way to its server
};

// Of all modems: whoever has several and roams with one counts as roaming.
struct ModemFacts {
  bool roaming = false;
};

struct PowerFacts {
  bool on_battery = false;
};

struct BatteryFacts {
  double percent = 100;
};

struct Facts {
  std::optional<NetworkFacts> network;
  std::optional<ModemFacts> modems;
  std::optional<PowerFacts> power;
  std::optional<BatteryFacts> battery;
  std::optional<bool> way_out;  // any route that leaves the machine
};

v1::Conditions conditions_of(const Facts& facts);

// MMModem3gppRegistrationState.
bool is_roaming(std::uint32_t registration_state);

}  // namespace telemetryd::forward
