// ctl/attribute.h: `--attr key=value` and `--attr key:type=value`.
//
// Thread:  any; no state.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"

namespace telemetryd::ctl {

struct TypedAttribute {
  std::string key;
  std::variant<std::string, bool, std::int64_t, double> value;
};

// Types: string (also without a type), bool, int, double. Fails with kInvalidArgument.
[[nodiscard]] Result<TypedAttribute> parse_attribute(std::string_view text);

}  // namespace telemetryd::ctl
