// ctl/event_text.h: one event on one line, for people.
//
// Thread:  any; no state.

#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace telemetryd::ctl {

// "2026-11-20T12:00:00.000Z  my-app  build.finished  success  412 ms  target=all". Nothing in it
// can drive the terminal.
std::string event_text(const nlohmann::json& event);

}  // namespace telemetryd::ctl
