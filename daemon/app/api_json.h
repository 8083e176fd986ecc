// app/api_json.h: our types in the JSON of docs/admin-api.md.
//
// Thread:  any; no state.

#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/result.h"
#include "consent/consent.h"
#include "schedule/scheduler.h"
#include "store/store.h"

namespace telemetryd::app {

using Json = nlohmann::json;

// One line; text that is not UTF-8 is replaced, not refused.
std::string dump(const Json& json);

Json to_json(const store::Accounts& accounts);
Json to_json(const schedule::DestinationStatus& destination);
Json to_json(const consent::Decision& decision);
Json to_json(const store::ConsentRecord& record);
// EVENT: docs/formats/event-json.md plus seq, index, uid, state, accepted_unix_ms.
Result<Json> to_json(const store::ListedEvent& event, const std::string& machine_id);

const char* to_word(store::Consent state);

// RFC 3339 in UTC, whole seconds.
std::string rfc3339(UnixMs unix_ms);

// "SEQ.INDEX".
std::string place_text(store::Seq seq, std::uint32_t index);

}  // namespace telemetryd::app
