// store/schema.h: the tables of docs/formats/store.md and the numbers that mark the file as ours.
//
// Thread:  store thread.

#pragma once

#include <cstdint>

#include "base/clock.h"
#include "base/result.h"
#include "store/database.h"

namespace telemetryd::store {

inline constexpr std::uint32_t kApplicationId = 0x544C4D44;  // "TLMD"
inline constexpr std::uint32_t kUserVersion = 2;
inline constexpr std::uint32_t kPageBytes = 8192;
inline constexpr std::uint32_t kWalFrameBytes = kPageBytes + 24;
inline constexpr std::uint32_t kWalHeaderBytes = 32;

// Creates every table, the store's UUID and user_version in one transaction.
[[nodiscard]] Result<void> create_schema(Database& db, const Clock& clock);
// Brings a store of format 1 to this one, in one transaction.
[[nodiscard]] Result<void> upgrade_schema(Database& db);
// kDataLoss when a table or a column is missing: nothing but damage takes them.
[[nodiscard]] Result<void> check_schema(Database& db);

}  // namespace telemetryd::store
