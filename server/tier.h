// server/tier.h: how many requests a minute a token may send.
//
// Thread:  any; a value.

#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace telemetryd::server {

enum class Tier : std::uint8_t { kFree, kPro, kBusiness, kEnterprise };

// Nothing: as many as it likes.
std::optional<std::uint32_t> requests_per_minute(Tier tier);

// "free", "pro", "business", "enterprise": on the command line and in the database.
std::string_view tier_name(Tier tier);
std::optional<Tier> parse_tier(std::string_view name);

}  // namespace telemetryd::server
