// schedule/mutes.h: the apps whose events an upstream does not want for some time.
//
// Their rows stay queued and are not lent until the time is over; other apps go on. Times are boot
// time; across a restart the wall clock bridges the gap.
//
// Thread:  loop; a value.
// Limits:  kMuteMax for one, kAppsMax apps; more are not muted, because sending on is the safe
//          side.

#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/clock.h"

namespace telemetryd::schedule {

class Mutes {
 public:
  static constexpr std::chrono::milliseconds kMuteMax{std::chrono::hours(24)};
  static constexpr std::size_t kAppsMax = 256;

  // A later word replaces an earlier one; no duration ends it.
  void mute(const std::string& app, std::chrono::milliseconds duration, BootMs now);

  bool contains(std::string_view app, BootMs now) const;

  // Forgets those that are over; true when there were any.
  bool expire(BootMs now);

  // When the next one is over.
  std::optional<BootMs> next_end() const;

  // By app, until when.
  const std::map<std::string, BootMs, std::less<>>& until() const { return until_; }

  // Adds its member to a destination's persisted state.
  void persist(nlohmann::json& state, BootMs now, UnixMs now_unix) const;
  void restore(const nlohmann::json& state, BootMs now, UnixMs now_unix);

 private:
  std::map<std::string, BootMs, std::less<>> until_;
};

}  // namespace telemetryd::schedule
