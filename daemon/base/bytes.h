// base/bytes.h: hex, UUIDs and randomness from the kernel.
//
// Thread:  any.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace telemetryd {

using Bytes16 = std::array<std::uint8_t, 16>;

// Fills `out` from getrandom(2). Ends the process when the kernel has none, which Linux never
// lacks.
void fill_random(std::span<std::uint8_t> out);
Bytes16 random_bytes16();

// Lower-case hex.
std::string to_hex(std::span<const std::uint8_t> bytes);
// Accepts both cases; nothing for odd lengths or other characters.
std::optional<std::string> from_hex(std::string_view text);

// 8-4-4-4-12, lower case.
std::string uuid_text(std::span<const std::uint8_t, 16> bytes);
// Accepts 32 hex digits with or without the four hyphens in their places.
std::optional<Bytes16> parse_uuid(std::string_view text);

inline std::span<const std::uint8_t> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

inline std::string_view as_text(std::span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace telemetryd
