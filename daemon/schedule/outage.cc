#include "schedule/outage.h"

#include <algorithm>
#include <limits>

#include <nlohmann/json.hpp>

namespace telemetryd::schedule {

using nlohmann::json;
using std::chrono::milliseconds;

namespace {

// Longer outages are not told apart; the bound keeps what stands in a damaged state harmless.
constexpr std::int64_t kLastedMaxMs = std::int64_t{10} * 365 * 86400 * 1000;

bool is_absence(Cause cause) {
  switch (cause) {
    case Cause::kNameResolution:
    case Cause::kConnect:
    case Cause::kTimeout:
    case Cause::kConnectionLost:
    case Cause::kProxy:
    case Cause::kCaptivePortal:
    case Cause::kServer: return true;
    default: return false;
  }
}

// The upstream was there and said something else.
bool is_other_answer(Cause cause) {
  switch (cause) {
    case Cause::kAuthentication:
    case Cause::kEndpoint:
    case Cause::kRateLimit:
    case Cause::kSize:
    case Cause::kBadRequest:
    case Cause::kUnexpectedAnswer: return true;
    default: return false;
  }
}

void persist_time(json& state, const char* member, std::optional<BootMs> since, BootMs now) {
  if (since) state[member] = std::max<BootMs>(0, now - *since);
}

std::optional<BootMs> restored_time(const json& state, const char* member, BootMs now) {
  const json lasted = state.value(member, json());
  if (!lasted.is_number_integer()) return std::nullopt;
  return now - std::clamp<std::int64_t>(lasted.get<std::int64_t>(), 0, kLastedMaxMs);
}

std::string restored_text(const json& state, const char* member) {
  const json text = state.value(member, json());
  return text.is_string() ? text.get<std::string>().substr(0, Outage::kErrorBytesMax) : "";
}

}  // namespace

void Outage::failed(BootMs now, Cause cause, std::string_view error) {
  if (failures_ < std::numeric_limits<std::uint32_t>::max() - 1) ++failures_;
  cause_ = cause;
  last_error_ = error.substr(0, kErrorBytesMax);
  if (!since_) {
    since_ = now;
    first_error_ = last_error_;
  }
  // A night without a network says nothing about the upstream.
  if (is_other_answer(cause)) server_since_.reset();
  if (cause == Cause::kServer && !server_since_) server_since_ = now;
}

std::optional<milliseconds> Outage::lasted(BootMs now) const {
  if (!since_) return std::nullopt;
  return milliseconds(std::max<BootMs>(0, now - *since_));
}

bool Outage::suspect_events(BootMs now) const {
  return cause_ == Cause::kServer && server_since_ && now - *server_since_ >= kSuspectAfter.count();
}

bool Outage::was_away() const {
  return failures_ >= kAwayFailures && is_absence(cause_);
}

void Outage::persist(json& state, BootMs now) const {
  state["failures"] = failures_;
  state["last_error"] = last_error_;
  state["first_error"] = first_error_;
  state["cause"] = static_cast<std::uint32_t>(cause_);
  persist_time(state, "failing_for_ms", since_, now);
  persist_time(state, "server_failing_for_ms", server_since_, now);
}

bool Outage::restore(const json& state, BootMs now) {
  const json failures = state.value("failures", json());
  const json error = state.value("last_error", json());
  if (!failures.is_number_unsigned() || !error.is_string()) return false;
  failures_ =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(failures.get<std::uint64_t>(), 1'000'000));
  last_error_ = restored_text(state, "last_error");
  first_error_ = restored_text(state, "first_error");
  const json cause = state.value("cause", json());
  const bool known = cause.is_number_unsigned() &&
                     cause.get<std::uint64_t>() <= std::uint64_t(Cause::kUnexpectedAnswer);
  cause_ = known ? static_cast<Cause>(cause.get<std::uint32_t>()) : Cause::kUnspecified;
  since_ = restored_time(state, "failing_for_ms", now);
  server_since_ = restored_time(state, "server_failing_for_ms", now);
  return true;
}

}  // namespace telemetryd::schedule
