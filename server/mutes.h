// server/mutes.h: the apps whose events an application does not want for some time, as its
// administrator said (docs/formats/native.md, "Muting apps").
//
// A mute names one app, or all: then the apps of each upload are named in its answer, because the
// server knows them from nowhere else. One that was ended early stays until its time would have
// been over, so that the daemons that were told of it are told of its end.
//
// Thread:  as the Database; mute_list() any.
// Limits:  kMutesMax for one application, kMuteAppBytesMax for a name, kMuteMax for the time.
//          A sender is told a day at most, and asks again after it.
// Fails:   kInvalidArgument, kNotFound, kResourceExhausted, or as Database.

#pragma once

#include <chrono>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "server/database.h"

namespace telemetryd::server {

inline constexpr std::int64_t kMutesMax = 64;
inline constexpr std::size_t kMuteAppBytesMax = 64;
inline constexpr std::chrono::seconds kMuteMax{std::chrono::days(365)};

struct Mute {
  std::string client_app;  // empty: all
  UnixMs until = 0;
  bool ended = false;  // before its time
};

class Mutes {
 public:
  explicit Mutes(Database& database) : database_(database) {}

  // A later word replaces an earlier one.
  [[nodiscard]] Result<void> mute(std::int64_t application,
                                  std::string_view client_app,
                                  std::chrono::seconds duration,
                                  UnixMs now);
  // Without a name all of the application's. kNotFound when nothing was muted.
  [[nodiscard]] Result<void> unmute(std::int64_t application,
                                    std::string_view client_app,
                                    UnixMs now);
  // Those whose time is not over, ended ones too, by name.
  [[nodiscard]] Result<std::vector<Mute>> of(std::int64_t application, UnixMs now);

 private:
  Database& database_;
};

// What reads them: bind the application and the time, then take all and reset it.
inline constexpr std::string_view kSelectMutes =
    "SELECT client_app, until, ended FROM mutes WHERE application = ?1 AND until > ?2 "
    "ORDER BY client_app";
[[nodiscard]] Result<std::vector<Mute>> read_mutes(Statement& select,
                                                   std::int64_t application,
                                                   UnixMs now);

// The value of the header `Telemetry-Mute` for an upload with events of these apps; empty when
// there is nothing to say. Names that the header cannot hold are left out.
std::string mute_list(const std::vector<Mute>& mutes,
                      const std::set<std::string_view>& uploaded,
                      UnixMs now);

}  // namespace telemetryd::server
