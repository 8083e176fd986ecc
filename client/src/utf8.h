// telemetry_core/utf8.h: is this text UTF-8, and how long is it?
//
// Checked in the client, so that one bad string costs one event and not a whole frame.
//
// Thread:  any; no state.

#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace telemetryd::client {

// Bytes of `text` up to its NUL; more than `size_max` when there is none before.
struct TextScan {
  size_t size;
  bool ascii;  // false: not looked at to the end, or something above 0x7f is in it
};

TextScan scan_any_text(const char* text, size_t size_max);

// The same, quick for the short ASCII texts that events are made of: both their end and what is not
// ASCII are bytes that are not positive, so one comparison looks for both.
#if defined(__SSE2__)

// Aligned blocks never cross into a page that the text does not touch, so reading around its ends
// is harmless; the sanitizers cannot know that.
__attribute__((no_sanitize("address", "thread"))) inline TextScan scan_text(const char* text,
                                                                            size_t size_max) {
  constexpr unsigned kAll = 0xffff;
  const auto address = reinterpret_cast<uintptr_t>(text);
  const auto* block = reinterpret_cast<const __m128i*>(address & ~uintptr_t{15});
  const unsigned skip = address & 15;
  const __m128i zero = _mm_setzero_si128();
  unsigned stops =
      (kAll ^ static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpgt_epi8(*block, zero)))) >> skip;
  size_t size = 0;
  if (stops == 0) {
    size -= skip;
    do {
      size += 16;
      if (static_cast<ptrdiff_t>(size) > static_cast<ptrdiff_t>(size_max)) return {size, false};
      ++block;
      stops = kAll ^ static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpgt_epi8(*block, zero)));
    } while (stops == 0);
  }
  size += static_cast<unsigned>(__builtin_ctz(stops));
  if (text[size] != '\0') return scan_any_text(text, size_max);
  return {size, true};
}

#else

inline TextScan scan_text(const char* text, size_t size_max) {
  return scan_any_text(text, size_max);
}

#endif

// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
bool utf8_valid(const char* text, size_t size);

}  // namespace telemetryd::client
