#include "server/endpoint.h"

#include <algorithm>

namespace telemetryd::server {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

bool same_header_name(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

std::optional<std::string_view> only_header(const RequestHead& head, std::string_view name) {
  std::optional<std::string_view> found;
  for (const auto& [key, value] : head.headers) {
    if (!same_header_name(key, name)) continue;
    if (found) return std::nullopt;
    found = value;
  }
  return found;
}

bool has_header(const RequestHead& head, std::string_view name) {
  return std::ranges::any_of(
      head.headers, [&](const auto& header) { return same_header_name(header.first, name); });
}

}  // namespace telemetryd::server
