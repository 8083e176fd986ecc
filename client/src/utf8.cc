#include "telemetry_core/utf8.h"

#include <string.h>

namespace telemetryd::client {
namespace {

constexpr uint64_t kHighBits = 0x8080808080808080u;

// Bytes of the sequence at `text`, 0 when it is none. Second bytes have their own range, which is
// where overlong forms and surrogates are caught.
size_t sequence_size(const uint8_t* text, size_t left) {
  const uint8_t first = text[0];
  if (first < 0x80) return 1;
  size_t size = 0;
  uint8_t low = 0x80;
  uint8_t high = 0xbf;
  if (first >= 0xc2 && first <= 0xdf) {
    size = 2;
  } else if (first >= 0xe0 && first <= 0xef) {
    size = 3;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
  } else if (first >= 0xf0 && first <= 0xf4) {
    size = 4;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
  } else {
    return 0;
  }
  if (size > left || text[1] < low || text[1] > high) return 0;
  for (size_t i = 2; i < size; ++i) {
    if ((text[i] & 0xc0) != 0x80) return 0;
  }
  return size;
}

bool ascii(const uint8_t* text, size_t size) {
  uint64_t seen = 0;
  uint64_t word = 0;
  if (size >= 8) {
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
      memcpy(&word, text + i, 8);
      seen |= word;
    }
    memcpy(&word, text + size - 8, 8);
    return ((seen | word) & kHighBits) == 0;
  }
  for (size_t i = 0; i < size; ++i) seen |= text[i];
  return (seen & 0x80) == 0;
}

}  // namespace

TextScan scan_any_text(const char* text, size_t size_max) {
  const size_t size = strnlen(text, size_max + 1);
  return {size, ascii(reinterpret_cast<const uint8_t*>(text), size)};
}

bool utf8_valid(const char* text, size_t size) {
  const auto* at = reinterpret_cast<const uint8_t*>(text);
  if (ascii(at, size)) return true;
  const uint8_t* end = at + size;
  while (at < end) {
    const size_t step = sequence_size(at, static_cast<size_t>(end - at));
    if (step == 0) return false;
    at += step;
  }
  return true;
}

}  // namespace telemetryd::client
