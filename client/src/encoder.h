// telemetry_core/encoder.h: a telemetry_event_t becomes the bytes that are stored.
//
// One pass: each text is measured, checked and copied before the next is looked at, so the size is
// known when the last byte is written. track() encodes into a small buffer on its stack and copies
// the result into a ring slot of that size; an event that does not fit there is bounded first and
// encoded in the slot itself. What is written is a *record*: field 1 of EventBatch, so that records
// put one after another are again a valid batch.
//
// Thread:  any; no state, no allocation.
// Limits:  those of docs/formats/frame.md; `event_bytes_max` is the caller's.
// Fails:   TELEMETRY_INVALID an event breaks a rule; TELEMETRY_TOO_LARGE it is above the limit, or
//          above what `out` holds.

#pragma once

#include <stddef.h>
#include <stdint.h>

#include "frame/frame.h"
#include "telemetry/telemetry.h"

namespace telemetryd::client {

constexpr size_t kIdBytes = 16;

// Tag and length in front of an event in a batch.
constexpr size_t kRecordOverheadMax = 1 + 5;

// `out` must be this much larger than the record, so that numbers need no check each.
constexpr size_t kEncodeSlackBytes = 128;

// What is not in the event itself. `session` may be null.
struct EventStamp {
  const uint8_t* session;
  uint64_t time_unix_nano;  // unless the event says
};

struct EncodedEvent {
  uint8_t* record;  // within the first bytes of `out`
  size_t record_bytes;
  size_t event_bytes;
  uint8_t* id;  // 16 bytes; for the caller to fill when the event brings none
};

telemetry_status_t encode_event(const telemetry_event_t& event,
                                const EventStamp& stamp,
                                size_t event_bytes_max,
                                uint8_t* out,
                                size_t out_size,
                                EncodedEvent& encoded);

// What tags, lengths and a number add to an attribute's texts, at most.
constexpr size_t kAttributeOverheadMax = 32;

constexpr size_t encoded_size_bound_max(size_t text_bytes) {
  return text_bytes + frame::kAttributesMax * kAttributeOverheadMax + 2 * kEncodeSlackBytes;
}

// A size of `out` that suffices for `event`, found without looking into its texts.
telemetry_status_t encoded_size_bound(const telemetry_event_t& event,
                                      size_t event_bytes_max,
                                      size_t& bound);

}  // namespace telemetryd::client
