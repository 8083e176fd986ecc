// config/nearest.h: what somebody probably meant by a misspelt key.
//
// Thread:  any; no state.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace telemetryd::config {

// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The candidate nearest to `wrong`, both as "section.key"; empty when none is near enough to be
// worth saying. The same key in another section counts as near.
std::string nearest(std::string_view wrong, const std::vector<std::string>& candidates);

}  // namespace telemetryd::config
