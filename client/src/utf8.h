// telemetry_core/utf8.h: is this text UTF-8, and how long is it?
//
// Checked in the client, so that one bad string costs one event and not a whole frame.
//
// Thread:  any; no state.

#pragma once

#include <stddef.h>
#include <stdint.h>

namespace telemetryd::client {

struct TextScan {
  size_t size;  // up to the NUL; more than `size_max` when there is none before
  bool ascii;
};

// Finds the end of `text` and whether it is all ASCII in one look at each block.
TextScan scan_text(const char* text, size_t size_max);

// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
bool utf8_valid(const char* text, size_t size);

}  // namespace telemetryd::client
