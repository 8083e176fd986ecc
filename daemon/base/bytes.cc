#include "base/bytes.h"

#include <sys/random.h>

#include "base/check.h"

namespace telemetryd {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

constexpr bool hyphen_at(std::size_t position) {
  return position == 8 || position == 13 || position == 18 || position == 23;
}

}  // namespace

void fill_random(std::span<std::uint8_t> out) {
  while (!out.empty()) {
    const ssize_t got = getrandom(out.data(), out.size(), 0);
    TELEMETRYD_CHECK(got > 0);
    out = out.subspan(static_cast<std::size_t>(got));
  }
}

Bytes16 random_bytes16() {
  Bytes16 bytes{};
  fill_random(bytes);
  return bytes;
}

std::string to_hex(std::span<const std::uint8_t> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::optional<std::string> from_hex(std::string_view text) {
  if (text.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  bytes.reserve(text.size() / 2);
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int high = hex_value(text[i]);
    const int low = hex_value(text[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    bytes += static_cast<char>(high * 16 + low);
  }
  return bytes;
}

std::string uuid_text(std::span<const std::uint8_t, 16> bytes) {
  const std::string hex = to_hex(bytes);
  std::string text;
  text.reserve(36);
  for (const char digit : hex) {
    if (hyphen_at(text.size())) text += '-';
    text += digit;
  }
  return text;
}

std::optional<Bytes16> parse_uuid(std::string_view text) {
  std::string hex;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.size() == 36 && hyphen_at(i)) {
      if (text[i] != '-') return std::nullopt;
      continue;
    }
    hex += text[i];
  }
  const auto raw = hex.size() == 32 ? from_hex(hex) : std::nullopt;
  if (!raw) return std::nullopt;
  Bytes16 bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>((*raw)[i]);
  return bytes;
}

}  // namespace telemetryd
