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

// How `Options::bytes_max` is split: the WAL may use `wal`, the database has `pages` pages.
struct Quota {
  std::uint64_t wal_bytes = 0;
  std::uint64_t wal_pregrow_bytes = 0;
  std::uint64_t pages = 0;
};

Quota split_quota(const Options& options);

// An open, configured database with the current schema.
[[nodiscard]] Result<Database> open_database(const Options& options,
                                             const StateFiles& files,
                                             const Clock& clock);

// Writes zeros over an empty WAL so that commits overwrite blocks. A non-empty one is left alone.
[[nodiscard]] Result<void> pregrow_wal(const std::string& wal,
                                       const std::string& vfs,
                                       std::uint64_t bytes);

}  // namespace telemetryd::store
