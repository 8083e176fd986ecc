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
#include <string>
#include <string_view>

namespace telemetryd::store {

// Takes the next event off the front of `rest`, tag and length included.
std::optional<std::string_view> take_event(std::string_view& rest);

// The event without its tag and length. `framed` comes from take_event.
std::string_view event_body(std::string_view framed);

// The reverse.
std::string framed_event(std::string_view body);

std::optional<std::uint32_t> count_events(std::string_view blob);

// The bytes of events [first, first + count).
std::optional<std::string_view> cut_events(std::string_view blob,
                                           std::uint32_t first,
                                           std::uint32_t count);

// What a row says in columns and nothing but its checksum can vouch for.
struct RowColumns {
  std::uint32_t uid = 0;
  std::int64_t app = 0;
  std::int64_t count = 0;
  std::string_view instance;  // empty: a row of format 1, which has no checksum of columns
  std::uint64_t last_frame = 0;
};

// CRC-32 (gzip's, RFC 1952) over `context` and `blob`.
std::uint32_t content_crc(std::string_view context, std::string_view blob);

// CRC-32 (gzip's, RFC 1952) over the columns, 0 for format 1.
std::uint32_t columns_crc(const RowColumns& columns);

// The column `crc`: that of the columns in the upper half, so that a start can check them without
// reading blobs, and that of the content in the lower.
std::int64_t row_crc(const RowColumns& columns, std::string_view context, std::string_view blob);

// Which half of the column `crc` is right.
bool columns_match(std::int64_t row_crc, const RowColumns& columns);
bool content_matches(std::int64_t row_crc, std::string_view context, std::string_view blob);

}  // namespace telemetryd::store
