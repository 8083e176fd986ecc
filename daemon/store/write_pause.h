// store/write_pause.h: how long new events stay away from a disk that refused to write.
//
// The first failure stops acknowledgements; the next try comes with the first event after a pause
// that doubles. Nothing runs in the meantime, and one success ends it.
//
// Thread:  store thread.
// Limits:  a pause is between kWritePauseMin and kWritePauseMax.

#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "store/trouble.h"

namespace telemetryd::store {

inline constexpr BootMs kWritePauseMinMs = 1000;
inline constexpr BootMs kWritePauseMaxMs = 60'000;

class WritePause {
 public:
  void failed(BootMs now, std::string cause) {
    if (pause_ms_ == 0) log::error("disk_failing", {{"cause", cause}});
    pause_ms_ = std::clamp(2 * pause_ms_, kWritePauseMinMs, kWritePauseMaxMs);
    until_boot_ms_ = now + pause_ms_;
    cause_ = std::move(cause);
  }

  void worked() {
    if (pause_ms_ == 0) return;
    log::info("disk_writes_again");
    pause_ms_ = 0;
  }

  // 0: writing may be tried.
  BootMs remaining(BootMs now) const {
    return pause_ms_ == 0 ? 0 : std::max<BootMs>(until_boot_ms_ - now, 0);
  }

  std::optional<Trouble> trouble() const {
    if (pause_ms_ == 0) return std::nullopt;
    return Trouble{std::string(trouble::kDiskFailing),
                   "the disk of the store refuses writes (" + cause_ +
                       "); look at the kernel's log and at how the file system is mounted. New "
                       "events are told to come again later, and writing is tried again with them",
                   true};
  }

 private:
  BootMs pause_ms_ = 0;
  BootMs until_boot_ms_ = 0;
  std::string cause_;
};

}  // namespace telemetryd::store
