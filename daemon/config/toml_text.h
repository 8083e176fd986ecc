// config/toml_text.h: text as a TOML value.
//
// Thread:  any; no state.

#pragma once

#include <string>
#include <string_view>

namespace telemetryd::config {

// A TOML basic string: in quotes, with quotes, backslashes and control characters escaped.
std::string toml_quoted(std::string_view text);

}  // namespace telemetryd::config
