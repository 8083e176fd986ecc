// salvage/plan.h: what a damaged store still holds, and in which frames it goes back.
//
// Salvage may be repeated, after a crash of either side or on a copy, and must then change nothing.
// So frames follow from the rows alone: rows of one user and one context are a sender of its own,
// whose instance is a hash of who it is and of what its rows are, and frames count from 1.
//
// Thread:  one.
// Limits:  about 64 bytes of memory a row; frames of kFrameBytesMax or one row.

#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/result.h"
#include "event/event.h"
#include "salvage/page_file.h"

namespace telemetryd::salvage {

inline constexpr std::size_t kFrameBytesMax = 256u << 10;
inline constexpr std::uint32_t kFrameEventsMax = 1000;

struct PlacedRow {
  std::uint32_t page = 0;
  std::uint32_t next_index = 0;  // events before it were delivered
  std::uint32_t count = 0;       // of all its events
  std::int64_t crc = 0;
};

// Rows by seq.
using Sender = std::map<std::uint64_t, PlacedRow>;
// By uid and context.
using Senders = std::map<std::pair<std::uint32_t, std::string>, Sender>;

struct Plan {
  Senders senders;
  std::uint64_t rows = 0;
  std::uint64_t events = 0;  // not delivered
  std::uint64_t damaged_rows = 0;
  std::uint64_t damaged_pages = 0;
};

struct Frame {
  std::uint64_t number = 0;  // from 1
  std::uint32_t count = 0;
  event::Class persistence_class{};
  event::Urgency urgency{};
  std::string batch;  // encoded EventBatch
};

[[nodiscard]] Result<Plan> make_plan(PageFile& file);

Bytes16 instance_of(std::uint32_t uid, const std::string& context, const Sender& sender);

// The sender's frames in their order. `visit` ends it by returning an error.
[[nodiscard]] Result<void> for_each_frame(PageFile& file,
                                          const Sender& sender,
                                          const std::function<Result<void>(const Frame&)>& visit);

}  // namespace telemetryd::salvage
