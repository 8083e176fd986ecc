// store/space.h: the room on the file system that belongs to others.
//
// A telemetry daemon must not be what fills a disk. Below the floor new events are refused until
// there is room again; what is stored is still delivered and erased. Nothing here runs by itself:
// the file system is asked when events come, and the senders' own retries find the room.
//
// Thread:  store thread.
// Limits:  one question per second of work or 8 MiB of events; while the answer is no, one per
//          group of frames.
// Fails:   never; a file system that cannot be asked is taken for one with room, and the write
//          itself tells.

#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "base/clock.h"
#include "base/result.h"
#include "store/trouble.h"

namespace telemetryd::store {

// The database file grows in steps of this.
inline constexpr std::uint64_t kGrowthBytes = 256u << 10;

struct FreeSpace {
  std::uint64_t bytes = 0;
  std::optional<std::uint64_t> files;  // that can still be made; nothing where that has no bound
};

[[nodiscard]] Result<FreeSpace> free_space(const std::filesystem::path& folder);

// Of `bytes` that would be written only to be there later: all, or none when the room after that
// would be below `bytes_min` or as small as they are.
std::uint64_t affordable(const std::filesystem::path& folder,
                         std::uint64_t bytes_min,
                         std::uint64_t bytes);

class SpaceFloor {
 public:
  // A bound of 0 is none.
  SpaceFloor(std::filesystem::path folder, std::uint64_t bytes_min, std::uint64_t files_min);

  // Whether new events may be stored.
  bool admits(BootMs now);

  void note_stored(std::uint64_t bytes) { stored_bytes_ += bytes; }

  // Asks the file system now.
  void look(BootMs now);
  // The file system gives our files no more room, whatever it says of itself, or does again.
  void note_growth(bool possible);

  bool low() const { return low_ || !growth_; }

  std::optional<Trouble> trouble() const;

 private:
  void tell(bool was_low) const;

  std::filesystem::path folder_;
  std::uint64_t bytes_min_;
  std::uint64_t files_min_;
  FreeSpace free_;
  std::optional<BootMs> looked_boot_ms_;
  std::uint64_t stored_bytes_ = 0;  // since then
  bool low_ = false;
  bool growth_ = true;
};

}  // namespace telemetryd::store
