// kit/read_body.h: from the body of a telemetry-kit upload to the events in it that can be
// stored.
//
// One pass over the text, without building objects of it: each event stays the bytes that came,
// only what the table has columns for is read. One bad event costs itself, a body that is no JSON
// of the right shape costs the request.
//
// Thread:  any; no state. Payloads point into the body.
// Limits:  kEventsMax events, kEventBytesMax each, brackets kDepthMax deep, each checked
//          where it is met, before what comes behind it is read.

#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "kit/read_event.h"

namespace telemetryd::kit {

inline constexpr std::uint32_t kEventsMax = 1000;
inline constexpr std::size_t kEventBytesMax = 64u << 10;
inline constexpr std::size_t kDepthMax = 32;

enum class BodyShape : std::uint8_t {
  kObject,  // {"events":[…]}
  kArray,   // […]
};

struct Rejected {
  std::uint32_t index = 0;
  Bytes16 id{};  // zeros when the event has none that can be read
  std::string_view code;
  std::string_view message;
};

struct Body {
  std::vector<ReadEvent> events;
  std::vector<std::string_view> payloads;  // of the same events
  std::vector<Rejected> rejected;
  std::uint32_t total = 0;
};

// Why nothing of a body can be used.
struct BodyFlaw {
  bool too_many = false;  // events; otherwise it is malformed
  std::string message;    // ours, without any of the sender's bytes
};

// `announced` is X-Batch-Size, when it was sent. Too many events are told of as soon as one too
// many begins.
std::expected<Body, BodyFlaw> read_body(std::string_view body,
                                        BodyShape shape,
                                        std::optional<std::uint64_t> announced);

}  // namespace telemetryd::kit
