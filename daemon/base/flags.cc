#include "base/flags.h"

#include <algorithm>
#include <charconv>

#include "base/log.h"

namespace telemetryd {
namespace {

constexpr unsigned kDescriptorMax = 1'000'000;

}  // namespace

Result<CommonFlags> parse_flags(
    std::span<const char* const> arguments,
    std::span<const std::string_view> known,
    const std::function<Result<void>(std::string_view flag, const std::string& value)>& apply) {
  CommonFlags parsed;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    std::string flag = arguments[i];
    if (flag == "--help" || flag == "-h") {
      parsed.help = true;
      continue;
    }
    if (flag == "--version") {
      parsed.version = true;
      continue;
    }
    std::optional<std::string> value;
    if (const std::size_t equals = flag.find('='); equals != std::string::npos) {
      value = flag.substr(equals + 1);
      flag.resize(equals);
    }
    if (std::ranges::find(known, flag) == known.end()) {
      return fail(ErrorCode::kInvalidArgument, "unknown argument " + log::quoted(flag));
    }
    if (!value && i + 1 < arguments.size()) value = arguments[++i];
    if (!value || value->empty()) {
      return fail(ErrorCode::kInvalidArgument, flag + " needs a value");
    }
    TELEMETRYD_TRY(apply(flag, *value));
  }
  return parsed;
}

std::optional<unsigned> parse_number(std::string_view text) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return number;
}

Result<int> parse_descriptor(std::string_view flag, std::string_view value) {
  const auto number = parse_number(value);
  if (number && *number <= kDescriptorMax) return static_cast<int>(*number);
  return fail(ErrorCode::kInvalidArgument,
              std::string(flag) + ": not a descriptor: " + log::quoted(value));
}

}  // namespace telemetryd
