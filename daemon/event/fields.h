// event/fields.h: field tags of proto/telemetry/v1/event.proto, and the check of one message.
//
// Thread:  any; no state.

#pragma once

#include <cstdint>
#include <string_view>

#include "event/wire.h"

namespace telemetryd::event {

namespace tag {
// In one byte: rows of the store are cut at it.
constexpr std::uint8_t kBatchEvents = tag_of(1, kBytes);

constexpr std::uint32_t kId = tag_of(1, kBytes);
constexpr std::uint32_t kKind = tag_of(2, kVarint);
constexpr std::uint32_t kName = tag_of(3, kBytes);
constexpr std::uint32_t kCategory = tag_of(4, kBytes);
constexpr std::uint32_t kTime = tag_of(5, kFixed64);
constexpr std::uint32_t kSeverity = tag_of(6, kVarint);
constexpr std::uint32_t kUrgency = tag_of(7, kVarint);
constexpr std::uint32_t kClass = tag_of(8, kVarint);
constexpr std::uint32_t kSessionId = tag_of(9, kBytes);
constexpr std::uint32_t kUserId = tag_of(10, kBytes);
constexpr std::uint32_t kSuccess = tag_of(11, kVarint);
constexpr std::uint32_t kDuration = tag_of(12, kFixed64);
constexpr std::uint32_t kExitCode = tag_of(13, kVarint);
constexpr std::uint32_t kAttributes = tag_of(14, kBytes);
constexpr std::uint32_t kError = tag_of(15, kBytes);
constexpr std::uint32_t kSource = tag_of(16, kBytes);
constexpr std::uint32_t kEventFieldMax = 16;

constexpr std::uint32_t kKey = tag_of(1, kBytes);
constexpr std::uint32_t kString = tag_of(2, kBytes);
constexpr std::uint32_t kBool = tag_of(3, kVarint);
constexpr std::uint32_t kInt = tag_of(4, kVarint);
constexpr std::uint32_t kDouble = tag_of(5, kFixed64);
constexpr std::uint32_t kBytesValue = tag_of(6, kBytes);
constexpr std::uint32_t kAttributeFieldMax = 6;

// Error details and the context are strings only.
constexpr std::uint32_t kErrorFieldMax = 5;
constexpr std::uint32_t kContextMachineId = tag_of(7, kBytes);
constexpr std::uint32_t kContextFieldMax = 7;
}  // namespace tag

// The next event's bytes, without tag and length. A batch is events and nothing else: rows of the
// store are concatenations of batches cut anywhere between events, so there is no place for a field
// that speaks of the whole. Whoever looks for the borders of events uses this, or what one reader
// accepts another cannot read.
bool next_event(Cursor& cursor, std::string_view& event);

// What the check of an event saw on its way; of a repeated field the last one counts.
struct EventFacts {
  std::string_view id;
  std::uint64_t time_unix_nano = 0;
  std::uint64_t persistence_class = 0;
  std::uint64_t urgency = 0;
  std::uint32_t attributes = 0;
  bool named = false;
};

// The broken rule in words for the sender, or null when all hold. The words are ours: nothing of
// the event is quoted.
const char* check_event(std::string_view event, EventFacts& facts);
// A message whose fields 1 to `field_max` are strings: ErrorDetails, Context.
const char* check_strings(std::string_view message, std::uint32_t field_max);

// The first 48 bits of a UUIDv7.
std::uint64_t id_ms(std::string_view id);

}  // namespace telemetryd::event
