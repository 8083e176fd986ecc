// store/row_bytes.h: the borders of events inside a row's blob, and the row's checksum.
//
// A blob is a concatenation of length-delimited fields with tag 0x0A; the store cuts rows at those
// borders when it lends or parks a part, and looks no deeper. The borders are those that
// event::validate() saw, by the same reader: a row that was accepted can be taken apart.
//
// Thread:  any; no state.
// Fails:   nothing comes back when the framing is broken or the range is outside.

#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace telemetryd::store {

// Takes the next event off the front of `rest`, tag and length included.
std::optional<std::string_view> take_event(std::string_view& rest);

// The event without its tag and length. `framed` comes from take_event.
std::string_view event_body(std::string_view framed);

std::optional<std::uint32_t> count_events(std::string_view blob);

// The bytes of events [first, first + count).
std::optional<std::string_view> cut_events(std::string_view blob,
                                           std::uint32_t first,
                                           std::uint32_t count);

// zlib's CRC-32 over `context` and `blob`.
std::uint32_t row_crc(std::string_view context, std::string_view blob);

}  // namespace telemetryd::store
