// server/storage.h: a database of this server, opened with everything that belongs to it.
//
// Thread:  any; the result belongs to one.
// Fails:   kNotFound without a database, kFailedPrecondition for a schema or key that does not fit.

#pragma once

#include <filesystem>

#include "base/result.h"
#include "server/database.h"
#include "server/sealer.h"

namespace telemetryd::server {

enum class StorageMode {
  kRead,    // an existing database of this version
  kWrite,   // the same, to be changed
  kCreate,  // makes and migrates
};

struct Storage {
  Database database;
  Sealer sealer;
};

[[nodiscard]] Result<Storage> open_storage(const std::filesystem::path& path, StorageMode mode);

// "sqlite:PATH" to PATH.
[[nodiscard]] Result<std::filesystem::path> parse_database(std::string_view text);

}  // namespace telemetryd::server
