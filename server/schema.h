// server/schema.h: the tables, and how a file of an older version becomes one of this version.
//
// Each migration is one transaction together with the number it leaves in user_version, so a crash
// leaves the file before or after it. A file of another program or of a newer version is refused:
// guessing would lose data.
//
// Fails:   kFailedPrecondition, naming what was found and what to do.

#pragma once

#include "base/result.h"
#include "server/database.h"

namespace telemetryd::server {

inline constexpr std::int64_t kSchemaVersion = 4;
inline constexpr std::int64_t kApplicationId = 0x746c6d73;  // "tlms"

// Brings the file to kSchemaVersion; returns the version that was found. 0 is an empty file.
[[nodiscard]] Result<std::int64_t> migrate(Database& database);

// The file is exactly of this version.
[[nodiscard]] Result<void> check_schema(Database& database);

}  // namespace telemetryd::server
