// config/check.h: relations between keys that each are fine alone.
//
// Thread:  any; no state.

#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace telemetryd::config {

// Where something was written.
struct Place {
  std::filesystem::path file;
  std::uint32_t line = 0;
};

// Keys to places, as in Config::origins, "route.N" for the routes in order and "route.N.app" for
// their keys.
using Places = std::map<std::string, Place>;

// Where one [[destination]] was written, and each of its keys.
struct TablePlace {
  std::filesystem::path file;
  std::uint32_t line = 0;
  std::map<std::string, std::uint32_t, std::less<>> keys;

  // Of the key, or of the table when nobody wrote the key.
  std::uint32_t line_of(std::string_view key) const {
    const auto found = keys.find(key);
    return found == keys.end() ? line : found->second;
  }
};

std::vector<Problem> check_relations(const Config& config, const Places& places);
// One [[destination]], but for its name being unique.
std::vector<Problem> check_destination(const Destination& destination, const TablePlace& place);

}  // namespace telemetryd::config
