// ctl/destination_text.h: everything that is known of one destination, a line for each fact.
//
// Thread:  any; no state.

#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace telemetryd::ctl {

// `destination` is one of GET /v1/destinations.
std::string destination_text(const nlohmann::json& destination);

}  // namespace telemetryd::ctl
