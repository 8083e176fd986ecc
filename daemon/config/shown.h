// config/shown.h: what somebody wrote, as it may stand in a message.
//
// Thread:  any; no state.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace telemetryd::config {

// The first `bytes_max` bytes or a little less, so that no character of UTF-8 is cut in two.
std::string_view cut(std::string_view text, std::size_t bytes_max);

// Control characters escaped as TOML does: a message is one line and changes no terminal.
std::string one_line(std::string_view text);

}  // namespace telemetryd::config
