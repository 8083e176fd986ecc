// bench/event_bytes.h: the event that everything here is measured with, encoded by hand: an ID, a
// name, a time and four string attributes in 182 bytes.
//
// The same event wherever numbers are compared, and no encoder of ours in what is counted.

#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace telemetryd::bench {

inline constexpr std::size_t kEventBytes = 182;

inline void put_bytes(std::string& out, unsigned field, std::string_view value) {
  out += static_cast<char>(field << 3 | 2);
  std::size_t size = value.size();
  for (; size >= 0x80; size >>= 7) out += static_cast<char>(size | 0x80);
  out += static_cast<char>(size);
  out += value;
}

inline std::string attribute(std::string_view key, std::string_view value) {
  std::string out;
  put_bytes(out, 1, key);
  put_bytes(out, 2, value);
  return out;
}

// An Event of exactly kEventBytes.
inline std::string make_event(std::string_view id, std::uint64_t time_unix_nano) {
  std::string event;
  put_bytes(event, 1, id);
  put_bytes(event, 3, "command.finished");
  event += static_cast<char>(5 << 3 | 1);
  for (int bit = 0; bit < 64; bit += 8) event += static_cast<char>(time_unix_nano >> bit);
  put_bytes(event, 14, attribute("command", "build"));
  put_bytes(event, 14, attribute("platform", "linux-x86_64"));
  put_bytes(event, 14, attribute("version", "1.24.3"));
  // Tag and length of the attribute; tag and length of key and value; the key.
  const std::size_t left = kEventBytes - event.size() - 2 - 4 - 6;
  put_bytes(event, 14, attribute("target", std::string(left, 'x')));
  if (event.size() != kEventBytes) {
    std::fprintf(stderr, "the event has %zu bytes\n", event.size());
    std::exit(1);
  }
  return event;
}

}  // namespace telemetryd::bench
