#include "store/space.h"

#include <cerrno>
#include <string>
#include <sys/statvfs.h>

#include "base/io.h"
#include "base/log.h"

namespace telemetryd::store {
namespace {

constexpr BootMs kLookIntervalMs = 1000;
constexpr std::uint64_t kLookBytes = 8u << 20;

}  // namespace

Result<FreeSpace> free_space(const std::filesystem::path& folder) {
  struct statvfs info{};
  if (::statvfs(folder.c_str(), &info) != 0) {
    return fail(error_from_errno(errno, "asking for the free space of " + folder.native()));
  }
  FreeSpace free{.bytes = std::uint64_t{info.f_bavail} * info.f_frsize};
  // File systems without a table of inodes say 0 of 0.
  if (info.f_files != 0) free.files = info.f_favail;
  return free;
}

std::uint64_t affordable(const std::filesystem::path& folder,
                         std::uint64_t bytes_min,
                         std::uint64_t bytes) {
  const auto free = free_space(folder);
  return !free || free->bytes >= bytes_min + 2 * bytes ? bytes : 0;
}

SpaceFloor::SpaceFloor(std::filesystem::path folder,
                       std::uint64_t bytes_min,
                       std::uint64_t files_min)
    : folder_(std::move(folder)), bytes_min_(bytes_min), files_min_(files_min) {}

bool SpaceFloor::admits(BootMs now) {
  const bool due = low_ || stored_bytes_ >= kLookBytes || !looked_boot_ms_ ||
                   now - *looked_boot_ms_ >= kLookIntervalMs;
  if (due) look(now);
  return !low_;
}

void SpaceFloor::look(BootMs now) {
  if (bytes_min_ == 0 && files_min_ == 0) return;
  looked_boot_ms_ = now;
  stored_bytes_ = 0;
  const auto free = free_space(folder_);
  if (!free) return;
  const bool was_low = low();
  free_ = *free;
  low_ = free_.bytes < bytes_min_ || (free_.files && *free_.files < files_min_);
  tell(was_low);
}

void SpaceFloor::note_growth(bool possible) {
  if (possible == growth_) return;
  const bool was_low = low();
  growth_ = possible;
  if (auto free = free_space(folder_)) free_ = *free;
  tell(was_low);
}

void SpaceFloor::tell(bool was_low) const {
  if (low() == was_low) return;
  if (low()) {
    log::error("disk_low", {{"free_bytes", free_.bytes}, {"free_bytes_min", bytes_min_}});
  } else {
    log::info("disk_has_room", {{"free_bytes", free_.bytes}});
  }
}

std::optional<Trouble> SpaceFloor::trouble() const {
  if (!low()) return std::nullopt;
  const std::string bytes = std::to_string(free_.bytes);
  const std::string where = " where " + folder_.native() + " lies";
  std::string text;
  if (free_.bytes < bytes_min_) {
    text = bytes + " bytes are free" + where + ", fewer than store.free_disk_bytes_min (" +
           std::to_string(bytes_min_) + "); make room there or lower that key";
  } else if (low_) {
    text = "only " + std::to_string(free_.files.value_or(0)) + " files can still be made" + where +
           "; remove files there";
  } else {
    text = "the file system gives the store no more room" + where + " (" + bytes +
           " bytes free); make room there or raise the disk quota of the daemon's user";
  }
  return Trouble{
      std::string(trouble::kDiskLow),
      text + ". Until then new events are told to come again later, and delivery goes on",
      true};
}

}  // namespace telemetryd::store
