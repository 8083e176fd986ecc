// store/quarantine.h: damaged stores, set aside whole and kept for telemetryd-salvage.
//
// A store that SQLite cannot read is never repaired in place and never deleted: database, WAL and
// journal belong together and are renamed together, with a copy of the witness, into a folder of
// their own. The first step leaves a note on disk; whoever finds the note ends the move, so a crash
// at any step leads to the same end.
//
// Owns:    STATE_DIR/quarantine.
// Thread:  store thread, or before it starts; the caller holds the StateLock.
// Limits:  kQuarantinedMax stores, and bytes as the caller says; the one that held most always
//          stays.
// Fails:   kUnavailable, kResourceExhausted as the disk says; kFailedPrecondition when something
//          else lies at the folder's path.

#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "store/state_files.h"
#include "store/witness.h"

namespace telemetryd::store {

inline constexpr std::size_t kQuarantinedMax = 8;

struct QuarantinedStore {
  std::filesystem::path folder;
  std::uint64_t bytes = 0;
  // As its witness says; without one, from the size of its files.
  std::uint64_t held_events = 0;  // queued or parked
  std::optional<Witness> witness;
};

// The stores that were set aside, oldest first: by epoch, which no wall clock moves. What cannot be
// read is left out, and so is everything whose name set_aside_condemned() did not give.
std::vector<QuarantinedStore> quarantined(const std::filesystem::path& state_dir);

// What they take of the disk; part of `bytes_max`.
std::uint64_t quarantined_bytes(const std::filesystem::path& state_dir);

// The note that the store is to be set aside, durable at return. The store may go on being read
// until the process ends; the next start moves it.
[[nodiscard]] Result<void> condemn(const StateFiles& files, const std::string& reason);

// Moves the store that condemn() spoke of; without a note, only makes sure of what was moved
// before. True: moved.
[[nodiscard]] Result<bool> set_aside_condemned(const StateFiles& files, UnixMs now);

enum class Bound { kCount, kCountAndBytes };

// Removes the stores that held least, the oldest of equals first, while there are more than
// kQuarantinedMax or, if `bound` says so, more than `bytes_max` or several that held nothing; and
// logs each. Their events have been counted as lost since they were set aside. A start that has set
// a store aside bounds the count alone: a disk that spoils one store after the other shall not cost
// what was there before somebody could look.
void bound_quarantine(const std::filesystem::path& state_dir, std::uint64_t bytes_max, Bound bound);

}  // namespace telemetryd::store
