// salvage/carve.h: rows of events, taken from single pages.
//
// A row is believed when its checksums are right, whatever the pages around it look like. Its place
// in the B-tree is of no interest.
//
// Thread:  one.
// Limits:  a row of kRowBytesMax; its overflow pages are followed so far and no further.

#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "event/event.h"
#include "salvage/page_file.h"

namespace telemetryd::salvage {

// A frame of the largest size that telemetryd takes, its context and its columns.
inline constexpr std::uint64_t kRowBytesMax = 9u << 20;

struct CarvedRow {
  std::uint32_t page = 0;
  std::uint64_t seq = 0;
  std::uint32_t uid = 0;
  std::uint32_t count = 0;
  event::Class persistence_class{};
  event::Urgency urgency{};
  std::int64_t crc = 0;
  std::string context;
  std::string blob;
};

// One entry of the table of rows that were delivered in part.
struct CarvedProgress {
  std::uint64_t seq = 0;
  std::uint32_t next_index = 0;
};

struct Carver {
  std::function<Result<void>(CarvedRow)> on_row;
  std::function<void(CarvedProgress)> on_progress;  // may be empty
  std::uint64_t damaged_rows = 0;  // had the shape of a row and a wrong checksum, or a missing part
  std::uint64_t damaged_pages = 0;  // cannot be read, or not as what the pointer map calls them
};

// Every page once, in their order in the file.
[[nodiscard]] Result<void> carve(PageFile& file, Carver& carver);
// The rows of one page.
[[nodiscard]] Result<void> carve_page(PageFile& file, std::uint32_t page, Carver& carver);

}  // namespace telemetryd::salvage
