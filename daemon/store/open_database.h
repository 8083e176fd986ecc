// store/open_database.h: the open sequence, with every setting read back.
//
// The order matters: exclusive locking before WAL keeps the index on the heap and foreign
// checkpointers out, page size and vacuum mode must stand before the first page is written, and the
// WAL is grown before the first commit needs it.
//
// Thread:  store thread, or before it starts.

#pragma once

#include <cstdint>

#include "base/clock.h"
#include "base/result.h"
#include "store/database.h"
#include "store/state_files.h"
#include "store/store.h"

namespace telemetryd::store {

// How `Options::bytes_max` is split.
struct Quota {
  std::uint64_t wal_bytes = 0;
  std::uint64_t wal_pregrow_bytes = 0;
  std::uint64_t pages = 0;          // of the database, as far as ingest goes
  std::uint64_t pages_reserve = 0;  // on top, for everything that is not ingest
};

Quota split_quota(const Options& options);

// An open, configured database with the current schema.
[[nodiscard]] Result<Database> open_database(const Options& options,
                                             const StateFiles& files,
                                             const Clock& clock);

// The bound on the database's pages. One below what is there stays at what is there.
[[nodiscard]] Result<void> limit_pages(Database& db, std::uint64_t pages_max);

// Writes zeros over an empty WAL so that commits overwrite blocks. A non-empty one is left alone.
[[nodiscard]] Result<void> pregrow_wal(const std::string& wal,
                                       const std::string& vfs,
                                       std::uint64_t bytes);

}  // namespace telemetryd::store
