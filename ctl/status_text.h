// ctl/status_text.h: the daemon's status as sentences that answer "is it working, and if not why?".
//
// Thread:  any; no state.

#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "ctl/text.h"

namespace telemetryd::ctl {

// What to type for a first destination, with everything that it needs.
inline constexpr const char* kAddDestination =
    "telemetryctl destination add NAME --kind native --url URL --org ORG --app APP --token-file "
    "FILE "
    "--secret-file FILE";

// `status` is the answer of GET /v1/status.
std::string status_text(const nlohmann::json& status, const Style& style);

// One destination in a few words: "delivers", "waits 12 s after 3 attempts: connection refused".
std::string destination_state_text(const nlohmann::json& destination);

// The table of `queue show`: apps, where their events go and how many wait.
std::string queue_text(const nlohmann::json& status);

}  // namespace telemetryd::ctl
