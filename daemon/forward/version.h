// forward/version.h: how this program names itself to upstreams and to telemetryd.

#pragma once

#include <string_view>

namespace telemetryd::forward {

inline constexpr std::string_view kVersion = TELEMETRYD_VERSION;
inline constexpr std::string_view kSender = "telemetryd/" TELEMETRYD_VERSION;

}  // namespace telemetryd::forward
