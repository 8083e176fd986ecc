// config/check.h: relations between keys that each are fine alone.
//
// Thread:  any; no state.

#pragma once

#include <vector>

#include "config/config.h"

namespace telemetryd::config {

// Where something was written.
struct Place {
  std::filesystem::path file;
  std::uint32_t line = 0;
};

// Keys to places, as in Config::origins, and "route.N" for the routes in order.
using Places = std::map<std::string, Place>;

std::vector<Problem> check_relations(const Config& config, const Places& places);
// One [[destination]], but for its name being unique.
std::vector<Problem> check_destination(const Destination& destination, const Place& place);

}  // namespace telemetryd::config
