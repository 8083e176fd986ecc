// base/rfc3339.h: points in time as people and logs write them.
//
// Thread:  any; no state.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace telemetryd {

// Nanoseconds since the epoch of "2026-11-20T12:00:00.5+01:00". Nothing for anything else, for
// times before 1970 and after 2261. Digits beyond the ninth are cut off; second 60 is the next
// minute's first.
std::optional<std::uint64_t> parse_rfc3339(std::string_view text);

// "2026-11-20T12:00:00.000000000Z".
std::string rfc3339_nanos(std::uint64_t unix_nano);

// "2026-11-20T12:00:00Z".
std::string rfc3339_seconds(std::int64_t unix_seconds);

}  // namespace telemetryd
