#include "ctl/attribute.h"

#include <charconv>
#include <cmath>

#include <fmt/format.h>

namespace telemetryd::ctl {
namespace {

template <typename Number>
bool parse_number(std::string_view text, Number& number) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stop == end && !text.empty();
}

}  // namespace

Result<TypedAttribute> parse_attribute(std::string_view text) {
  const auto wrong = [&](std::string_view why) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("--attr {}: {}", text, why));
  };
  const auto equals = text.find('=');
  if (equals == std::string_view::npos) return wrong("it must be KEY=VALUE or KEY:TYPE=VALUE");
  std::string_view key = text.substr(0, equals);
  const std::string_view value = text.substr(equals + 1);
  std::string_view type = "string";
  if (const auto colon = key.rfind(':'); colon != std::string_view::npos) {
    type = key.substr(colon + 1);
    key = key.substr(0, colon);
  }
  if (key.empty()) return wrong("the key is empty");

  TypedAttribute out{std::string(key), std::string(value)};
  if (type == "string") return out;
  if (type == "bool") {
    if (value != "true" && value != "false") return wrong("a bool is true or false");
    out.value = value == "true";
    return out;
  }
  if (type == "int") {
    std::int64_t number = 0;
    if (!parse_number(value, number)) return wrong("an int is a whole number of 64 bits");
    out.value = number;
    return out;
  }
  if (type == "double") {
    double number = 0;
    if (!parse_number(value, number) || std::isnan(number)) return wrong("a double is a number");
    out.value = number;
    return out;
  }
  return wrong("a type is string, bool, int or double");
}

}  // namespace telemetryd::ctl
