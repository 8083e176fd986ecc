// salvage/big_endian.h: SQLite's integers in a page.
//
// Thread:  any; no state.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace telemetryd::salvage {

// `count` bytes at `at`, which must be there; at most 8.
inline std::uint64_t big_endian(std::string_view bytes, std::size_t at, std::size_t count) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; ++i) {
    value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  }
  return value;
}

// SQLite's varint at `at`, which moves behind it. False at the end of `bytes`.
inline bool take_varint(std::string_view bytes, std::size_t& at, std::uint64_t& value) {
  value = 0;
  for (int i = 0; i < 9 && at < bytes.size(); ++i) {
    const auto byte = static_cast<unsigned char>(bytes[at++]);
    if (i == 8) {
      value = value << 8 | byte;
      return true;
    }
    value = value << 7 | (byte & 0x7Fu);
    if ((byte & 0x80u) == 0) return true;
  }
  return false;
}

}  // namespace telemetryd::salvage
