// server/batch.h: from the body of a native upload to the events in it that can be stored.
//
// Events stay the bytes that came; only what the table has columns for is read from them. One bad
// event costs itself, a body that cannot be followed costs the request.
//
// Thread:  any; no state. Everything points into the body.
// Limits:  kEventsPerBatchMax events, kEventBytesMax each, kContextBytesMax per context.

#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "server/answer.h"
#include "server/event_store.h"

namespace telemetryd::server {

inline constexpr std::uint32_t kEventsPerBatchMax = 10'000;
// The largest that a daemon can be configured to accept, so that no daemon's event is refused here.
inline constexpr std::uint32_t kEventBytesMax = 1u << 20;
inline constexpr std::size_t kContextBytesMax = 8192;

struct DecodedBatch {
  std::vector<NewEvent> events;
  std::vector<RejectedEvent> rejected;
  std::uint32_t total = 0;
};

// `announced` is X-Batch-Size, which must be the count inside.
std::expected<DecodedBatch, Answer> decode_batch(std::string_view body, std::uint64_t announced);

}  // namespace telemetryd::server
