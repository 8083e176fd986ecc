// forward/bus_message.h: reads the few shapes of D-Bus answers that system_bus.cc asks for.
//
// Thread:  any; no state.
// Fails:   false or nothing for a message of another shape.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <variant>

#include <systemd/sd-bus.h>

namespace telemetryd::forward {

using BusValue = std::variant<bool, std::uint32_t, double, std::string>;
using BusProperties = std::map<std::string, BusValue>;

// a{sv}; values of types other than b, u, d and s are left out.
[[nodiscard]] bool read_properties(sd_bus_message* message, BusProperties& properties);

// a{oa{sa{sv}}}, the answer of GetManagedObjects: `each` gets the properties of every object's
// `interface`.
[[nodiscard]] bool read_objects(sd_bus_message* message,
                                const std::string& interface,
                                const std::function<void(const BusProperties&)>& each);

template <typename T>
const T* find(const BusProperties& properties, const std::string& name) {
  const auto found = properties.find(name);
  return found == properties.end() ? nullptr : std::get_if<T>(&found->second);
}

}  // namespace telemetryd::forward
