// kit/list_event.h: a stored telemetry-kit event as listings show it.
//
// The shape is docs/formats/event-json.md. What that has no member for becomes an attribute under
// its path, with nested values as their JSON text; what only concerned the transmission is left
// out.
//
// Thread:  any; no state.
// Fails:   kDataLoss for bytes that are no such event, which the server would not have stored.

#pragma once

#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"

namespace telemetryd::kit {

[[nodiscard]] Result<nlohmann::json> list_event(std::string_view stored);

}  // namespace telemetryd::kit
