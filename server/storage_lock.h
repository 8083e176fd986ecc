// server/storage_lock.h: who may serve, write and checkpoint a database file, between processes.
//
// SQLite before 3.51.3 has a race between one connection that resets the log in a checkpoint and
// another that writes; the versions that distributions ship have it. So only the serving process
// checkpoints, and a checkpoint never runs beside a write of the command line: both hold kWrite.
// kServe keeps a second server from the same file.
//
// Owns:    a lock on one byte of PATH.lock; released with the object, or with the process.
// Thread:  any; blocks up to 10 s for kWrite.
// Fails:   kUnavailable when somebody else keeps it.

#pragma once

#include <filesystem>

#include "base/result.h"
#include "base/unique_fd.h"

namespace telemetryd::server {

class StorageLock {
 public:
  enum class Kind { kServe, kWrite };

  [[nodiscard]] static Result<StorageLock> take(const std::filesystem::path& database, Kind kind);
  // Nothing when it is held: for work that can be done later.
  [[nodiscard]] static Result<StorageLock> try_take(const std::filesystem::path& database,
                                                    Kind kind);

 private:
  explicit StorageLock(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace telemetryd::server
