#include "app/api_json.h"

#include <array>
#include <ctime>

#include <fmt/format.h>

#include "event/event.h"

namespace telemetryd::app {
namespace {

namespace account = store::account;

Json by_reason(const store::Accounts& accounts, std::string_view name) {
  Json reasons = Json::object();
  for (const auto& [key, value] : accounts.all()) {
    if (key.first == name && !key.second.empty() && value != 0) reasons[key.second] = value;
  }
  reasons["total"] = accounts.total(name);
  return reasons;
}

template <typename T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

}  // namespace

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json to_json(const store::Accounts& accounts) {
  Json json = Json::object();
  for (const std::string_view name : {account::kAccepted,
                                      account::kQueued,
                                      account::kDelivered,
                                      account::kParked,
                                      account::kErased,
                                      account::kExported,
                                      account::kDuplicates}) {
    json[std::string(name)] = accounts.total(name);
  }
  for (const std::string_view name : {account::kExpired,
                                      account::kEvicted,
                                      account::kDropped,
                                      account::kLost,
                                      account::kRefused,
                                      account::kLostByClient}) {
    json[std::string(name)] = by_reason(accounts, name);
  }
  json["balanced"] = accounts.imbalance() == 0;
  return json;
}

Json to_json(const schedule::DestinationStatus& destination) {
  return {{"name", destination.name},
          {"kind", destination.kind},
          {"state", destination.state},
          {"waiting_for", or_null(destination.waiting_for)},
          {"apps", destination.apps},
          {"queued_events", destination.queued_events},
          {"queued_bytes", destination.queued_bytes},
          {"oldest_age_s", or_null(destination.oldest_age_s)},
          {"next_attempt_s", or_null(destination.next_attempt_s)},
          {"attempts", destination.attempts},
          {"failing_s", or_null(destination.failing_s)},
          {"cause", or_null(destination.cause)},
          {"first_error", or_null(destination.first_error)},
          {"last_error", or_null(destination.last_error)},
          {"last_success",
           destination.last_success_unix_ms ? Json(rfc3339(*destination.last_success_unix_ms))
                                            : Json(nullptr)},
          {"muted_s", destination.muted_s},
          {"certificate_expires",
           destination.certificate_expires_unix_s
               ? Json(rfc3339(*destination.certificate_expires_unix_s * 1000))
               : Json(nullptr)}};
}

Json to_json(const consent::Decision& decision) {
  return {{"mode", consent::mode_name(decision.mode)}, {"rule", decision.rule}};
}

Json to_json(const store::ConsentRecord& record) {
  return {{"app", record.app},
          {"state", to_word(record.state)},
          {"decided_unix_ms", record.decided_unix_ms}};
}

Result<Json> to_json(const store::ListedEvent& event, const std::string& machine_id) {
  TELEMETRYD_ASSIGN(Json json, event::to_json(event.event, event.context));
  json["seq"] = event.row.seq;
  json["index"] = event.index;
  json["uid"] = event.row.uid;
  json["state"] = event.state;
  json["accepted_unix_ms"] = event.row.accepted_unix_ms;
  // What a relay said about where the event was recorded stands in its context.
  if (!machine_id.empty() && !json.contains("machine_id")) json["machine_id"] = machine_id;
  return json;
}

const char* to_word(store::Consent state) {
  switch (state) {
    case store::Consent::kUnset: return "unset";
    case store::Consent::kEnabled: return "enabled";
    case store::Consent::kLocal: return "local";
    case store::Consent::kDisabled: return "disabled";
  }
  return "unset";
}

std::string rfc3339(UnixMs unix_ms) {
  const std::time_t seconds = unix_ms / 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  const std::size_t size = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return {text.data(), size};
}

std::string place_text(store::Seq seq, std::uint32_t index) {
  return fmt::format("{}.{}", seq, index);
}

}  // namespace telemetryd::app
