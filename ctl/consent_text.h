// ctl/consent_text.h: why events are collected or not, in a sentence, and the file that says so.
//
// Thread:  any; no state.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "consent/consent.h"

namespace telemetryd::ctl {

// "Events of my-tool are not collected: nobody has turned collection on. To turn it on: ...".
// `app` empty: all tools.
std::string decision_text(const std::string& app, std::string_view mode, std::string_view rule);

// What a rule means: "DO_NOT_TRACK is set", "the machine's owner turned it off".
std::string rule_text(const std::string& app, std::string_view rule);

// The user's consent file; `state` is "enabled", "local", "disabled" or "unset".
std::string consent_file_text(std::string_view state, std::int64_t decided_unix_seconds);

consent::Record record_of(std::string_view state);
const char* word_of(consent::Record record);

}  // namespace telemetryd::ctl
