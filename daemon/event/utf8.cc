#include <cstring>

#include "event/event.h"

namespace telemetryd::event {
namespace {

constexpr std::uint64_t kHighBits = 0x8080808080808080;

std::uint64_t load8(const char* at) {
  std::uint64_t word = 0;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// Almost every string of an event is ASCII; eight bytes at a time tell so. The last step overlaps
// the one before instead of going byte by byte.
bool all_ascii(std::string_view text) {
  if (text.size() < 8) {
    unsigned char bits = 0;
    for (const char c : text)
      bits = static_cast<unsigned char>(bits | static_cast<unsigned char>(c));
    return bits < 0x80;
  }
  std::uint64_t bits = load8(text.data() + text.size() - 8);
  for (std::size_t i = 0; i + 8 < text.size(); i += 8) bits |= load8(text.data() + i);
  return (bits & kHighBits) == 0;
}

struct Lead {
  std::size_t size = 0;  // bytes of the whole sequence, 0 when no sequence starts like this
  unsigned char second_min = 0x80;
  unsigned char second_max = 0xbf;
};

// The second byte's range is what rules out overlong forms, surrogates and values past U+10FFFF
// (RFC 3629, section 4).
Lead lead_of(unsigned char byte) {
  if (byte < 0x80) return {.size = 1};
  if (byte >= 0xc2 && byte <= 0xdf) return {.size = 2};
  if (byte == 0xe0) return {.size = 3, .second_min = 0xa0};
  if (byte == 0xed) return {.size = 3, .second_max = 0x9f};
  if (byte >= 0xe1 && byte <= 0xef) return {.size = 3};
  if (byte == 0xf0) return {.size = 4, .second_min = 0x90};
  if (byte >= 0xf1 && byte <= 0xf3) return {.size = 4};
  if (byte == 0xf4) return {.size = 4, .second_max = 0x8f};
  return {};
}

}  // namespace

bool utf8_valid(std::string_view text) {
  if (all_ascii(text)) return true;
  for (std::size_t i = 0; i < text.size();) {
    const Lead lead = lead_of(static_cast<unsigned char>(text[i]));
    if (lead.size == 0 || lead.size > text.size() - i) return false;
    for (std::size_t k = 1; k < lead.size; ++k) {
      const auto byte = static_cast<unsigned char>(text[i + k]);
      const unsigned char low = k == 1 ? lead.second_min : 0x80;
      const unsigned char high = k == 1 ? lead.second_max : 0xbf;
      if (byte < low || byte > high) return false;
    }
    i += lead.size;
  }
  return true;
}

}  // namespace telemetryd::event
