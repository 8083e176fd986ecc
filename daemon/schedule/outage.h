// schedule/outage.h: what has failed in a row at one destination: how often, since when, with which
// words.
//
// Durations are in boot time, so a wall clock that jumps neither ends an outage nor makes it older;
// across a restart the time so far is kept and goes on.
//
// Thread:  loop; a value.
// Limits:  kErrorBytesMax of each error's text.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/clock.h"
#include "schedule/lease_codec.h"

namespace telemetryd::schedule {

class Outage {
 public:
  static constexpr std::size_t kErrorBytesMax = 512;
  // After so long of nothing but the upstream's own errors, single events may be what it stumbles
  // over.
  static constexpr std::chrono::milliseconds kSuspectAfter{std::chrono::hours(24)};
  // From so many failures on the upstream was away, and is taken up again gently.
  static constexpr std::uint32_t kAwayFailures = 3;

  void failed(BootMs now, Cause cause, std::string_view error);

  void end() { *this = {}; }

  std::uint32_t failures() const { return failures_; }

  // Of the last failure.
  Cause cause() const { return cause_; }

  const std::string& first_error() const { return first_error_; }

  const std::string& last_error() const { return last_error_; }

  // How long ago the first failure was; nothing while all is well.
  std::optional<std::chrono::milliseconds> lasted(BootMs now) const;

  bool suspect_events(BootMs now) const;

  // The upstream, or the way to it, was away: not merely busy, and not refusing what we send.
  bool was_away() const;

  // Adds its members to a destination's persisted state.
  void persist(nlohmann::json& state, BootMs now) const;
  // False: not understood, nothing changed.
  bool restore(const nlohmann::json& state, BootMs now);

 private:
  std::uint32_t failures_ = 0;
  Cause cause_ = Cause::kUnspecified;
  std::string first_error_;
  std::string last_error_;
  std::optional<BootMs> since_;
  std::optional<BootMs> server_since_;  // since then it said nothing but Cause::kServer
};

}  // namespace telemetryd::schedule
