#include "schedule/mutes.h"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace telemetryd::schedule {

using nlohmann::json;
using std::chrono::milliseconds;

void Mutes::mute(const std::string& app, milliseconds duration, BootMs now) {
  const auto known = until_.find(app);
  if (duration <= milliseconds(0)) {
    if (known != until_.end()) until_.erase(known);
    return;
  }
  if (known == until_.end() && until_.size() >= kAppsMax) return;
  until_[app] = now + std::min(duration, kMuteMax).count();
}

bool Mutes::contains(std::string_view app, BootMs now) const {
  const auto found = until_.find(app);
  return found != until_.end() && now < found->second;
}

bool Mutes::expire(BootMs now) {
  return std::erase_if(until_, [now](const auto& mute) { return now >= mute.second; }) > 0;
}

std::optional<BootMs> Mutes::next_end() const {
  std::optional<BootMs> next;
  for (const auto& [app, end] : until_) next = std::min(next.value_or(end), end);
  return next;
}

void Mutes::persist(json& state, BootMs now, UnixMs now_unix) const {
  if (until_.empty()) return;
  json mutes = json::object();
  for (const auto& [app, end] : until_) mutes[app] = now_unix + (end - now);
  state["mutes_until_unix_ms"] = std::move(mutes);
}

void Mutes::restore(const json& state, BootMs now, UnixMs now_unix) {
  const json mutes = state.value("mutes_until_unix_ms", json());
  if (!mutes.is_object()) return;
  for (const auto& [app, end] : mutes.items()) {
    if (!end.is_number_integer()) continue;
    const auto until = end.get<UnixMs>();
    if (until <= now_unix) continue;
    // Further away than any mute can be is the work of a wall clock that jumped. Compared before
    // subtracting: the number may be anything.
    const bool far = until > now_unix + kMuteMax.count();
    mute(app, far ? kMuteMax : milliseconds(until - now_unix), now);
  }
}

}  // namespace telemetryd::schedule
