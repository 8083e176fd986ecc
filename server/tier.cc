#include "server/tier.h"

#include <array>

namespace telemetryd::server {
namespace {

struct Row {
  Tier tier;
  std::string_view name;
  std::optional<std::uint32_t> requests_per_minute;
};

constexpr std::array kRows = {Row{Tier::kFree, "free", 10},
                              Row{Tier::kPro, "pro", 100},
                              Row{Tier::kBusiness, "business", 1000},
                              Row{Tier::kEnterprise, "enterprise", std::nullopt}};

constexpr const Row& row_of(Tier tier) {
  return kRows[static_cast<std::size_t>(tier)];
}

}  // namespace

std::optional<std::uint32_t> requests_per_minute(Tier tier) {
  return row_of(tier).requests_per_minute;
}

std::string_view tier_name(Tier tier) {
  return row_of(tier).name;
}

std::optional<Tier> parse_tier(std::string_view name) {
  for (const Row& row : kRows) {
    if (row.name == name) return row.tier;
  }
  return std::nullopt;
}

}  // namespace telemetryd::server
