// store/state_files.h: what is true of the files before SQLite may see them.
//
// SQLite follows whatever lies at its path, repairs it and writes to it. These checks come first,
// so that a link, another program's database or a second daemon's store stays untouched.
//
// Owns:    the lock on the state folder, as long as StateLock lives.
// Thread:  any; before the store thread starts.
// Fails:   kFailedPrecondition  another daemon, a foreign or newer database, a wrong type or owner.
//          kDataLoss            a store of ours, and not readable: no database, an empty one or one
//                               without header, beside a WAL or a witness that knows better.

#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace telemetryd::store {

class StateLock {
 public:
  // Takes `state_dir`/lock and leaves the process ID in it.
  [[nodiscard]] static Result<StateLock> take(const std::filesystem::path& state_dir);

 private:
  explicit StateLock(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

struct StateFiles {
  std::filesystem::path database;
  std::filesystem::path wal;
  std::filesystem::path journal;
  std::filesystem::path witness;

  static StateFiles in(const std::filesystem::path& state_dir);
};

// Types, owners, links, and the header of the database; creates an empty database file when there
// is none and syncs the folder.
[[nodiscard]] Result<void> check_and_create(const StateFiles& files,
                                            const std::filesystem::path& state_dir);

// Refuses numbers that are not ours; `where` names the file.
[[nodiscard]] Result<void> judge_identity(std::uint32_t application_id,
                                          std::uint32_t user_version,
                                          const std::filesystem::path& where);

}  // namespace telemetryd::store
