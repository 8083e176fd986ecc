#include "server/mutes.h"

#include <algorithm>
#include <map>

namespace telemetryd::server {
namespace {

constexpr std::int64_t kToldSecondsMax = 86'400;

// What an sf-string of RFC 8941 can hold.
bool name_fits(std::string_view name) {
  return !name.empty() && name.size() <= kMuteAppBytesMax &&
         std::ranges::all_of(name, [](char c) { return c >= ' ' && c <= '~'; });
}

std::string quoted(std::string_view name) {
  std::string text = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text += '"';
}

std::int64_t seconds_left(const Mute& mute, UnixMs now) {
  return std::clamp<std::int64_t>((mute.until - now + 999) / 1000, 0, kToldSecondsMax);
}

}  // namespace

Result<void> Mutes::mute(std::int64_t application,
                         std::string_view client_app,
                         std::chrono::seconds duration,
                         UnixMs now) {
  if (!client_app.empty() && !name_fits(client_app)) {
    return fail(ErrorCode::kInvalidArgument,
                "--client-app takes the name of an app as daemons know it: 1 to 64 letters, "
                "digits and signs of ASCII");
  }
  if (duration < std::chrono::seconds(1) || duration > kMuteMax) {
    return fail(ErrorCode::kInvalidArgument, "--for takes one second to 365 days");
  }
  TELEMETRYD_ASSIGN(Statement forget, database_.prepare("DELETE FROM mutes WHERE until <= ?1"));
  TELEMETRYD_TRY(forget.bind(1, now).run());
  TELEMETRYD_ASSIGN(Statement put,
                    database_.prepare("INSERT INTO mutes (application, client_app, until) "
                                      "VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET "
                                      "until = excluded.until, ended = 0"));
  const UnixMs until = now + std::chrono::milliseconds(duration).count();
  TELEMETRYD_TRY(put.bind(1, application).bind_text(2, client_app).bind(3, until).run());
  TELEMETRYD_ASSIGN(const std::vector<Mute> all, of(application, now));
  if (static_cast<std::int64_t>(all.size()) <= kMutesMax) return {};
  return fail(ErrorCode::kResourceExhausted,
              "an application can have 64 mutes, because a daemon heeds no more; end one with "
              "`telemetry-server app unmute`, or mute all with no --client-app");
}

Result<void> Mutes::unmute(std::int64_t application, std::string_view client_app, UnixMs now) {
  TELEMETRYD_ASSIGN(
      Statement end,
      database_.prepare("UPDATE mutes SET ended = 1 WHERE application = ?1 AND until > ?2 AND "
                        "ended = 0 AND (?3 = '' OR client_app = ?3)"));
  TELEMETRYD_TRY(end.bind(1, application).bind(2, now).bind_text(3, client_app).run());
  if (database_.changes() > 0) return {};
  return fail(ErrorCode::kNotFound,
              "nothing of it is muted; `telemetry-server app list` shows what is");
}

Result<std::vector<Mute>> Mutes::of(std::int64_t application, UnixMs now) {
  TELEMETRYD_ASSIGN(Statement select, database_.prepare(kSelectMutes));
  return read_mutes(select, application, now);
}

Result<std::vector<Mute>> read_mutes(Statement& select, std::int64_t application, UnixMs now) {
  std::vector<Mute> all;
  select.bind(1, application).bind(2, now);
  for (;;) {
    const auto more = select.step();
    if (!more || !*more) {
      // Without this the open read would keep the log from ever being emptied.
      select.reset();
      if (!more) return fail(more.error());
      return all;
    }
    all.push_back({.client_app = select.column_text(0),
                   .until = select.column_int(1),
                   .ended = select.column_int(2) != 0});
  }
}

std::string mute_list(const std::vector<Mute>& mutes,
                      const std::set<std::string_view>& uploaded,
                      UnixMs now) {
  std::map<std::string_view, std::int64_t> seconds;
  for (const Mute& mute : mutes) {
    if (mute.client_app.empty()) continue;
    seconds[mute.client_app] = mute.ended ? 0 : seconds_left(mute, now);
  }
  for (const Mute& mute : mutes) {
    if (!mute.client_app.empty() || mute.ended) continue;
    for (const std::string_view app : uploaded) {
      if (!name_fits(app)) continue;
      std::int64_t& told = seconds[app];
      told = std::max(told, seconds_left(mute, now));
    }
  }
  std::string list;
  std::int64_t entries = 0;
  for (const auto& [app, left] : seconds) {
    if (++entries > kMutesMax) break;
    if (!list.empty()) list += ", ";
    list += quoted(app) + ";s=" + std::to_string(left);
  }
  return list;
}

}  // namespace telemetryd::server
