// server/version.h: the version of this build.

#pragma once

#include <string_view>

namespace telemetryd::server {

std::string_view version();

}  // namespace telemetryd::server
