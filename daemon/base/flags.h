// base/flags.h: the command line of a program that another one starts: flags with values, --help
// and --version, nothing else.
//
// telemetryctl and telemetry-server are used by people and have CLI11; these programs should start
// fast and need no more than this.
//
// Thread:  any.
// Fails:   kInvalidArgument, in words for whoever typed it.

#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace telemetryd {

struct CommonFlags {
  bool help = false;
  bool version = false;
};

// `--flag VALUE` and `--flag=VALUE` of the `known` are given to `apply`, in order.
[[nodiscard]] Result<CommonFlags> parse_flags(
    std::span<const char* const> arguments,
    std::span<const std::string_view> known,
    const std::function<Result<void>(std::string_view flag, const std::string& value)>& apply);

// Digits and nothing else.
std::optional<unsigned> parse_number(std::string_view text);

[[nodiscard]] Result<int> parse_descriptor(std::string_view flag, std::string_view value);

}  // namespace telemetryd
