// telemetry_core/encoder.h: a telemetry_event_t becomes the bytes that are stored.
//
// Two steps, so that a ring slot can be reserved with the exact size between them: plan_event()
// checks every rule of docs/formats/frame.md and measures; write_event() cannot fail. What is
// written is a *record*: field 1 of EventBatch, so that records put one after another are again a
// valid batch.
//
// Thread:  any; no state, no allocation.
// Limits:  those of docs/formats/frame.md; `event_bytes_max` is the caller's.
// Fails:   TELEMETRY_INVALID an event breaks a rule; TELEMETRY_TOO_LARGE it is above the limit.

#pragma once

#include <stddef.h>
#include <stdint.h>

#include "frame/frame.h"
#include "telemetry/telemetry.h"

namespace telemetryd::client {

constexpr size_t kIdBytes = 16;

// Tag and length in front of an event in a batch.
constexpr size_t kRecordOverheadMax = 1 + 5;

// Lengths found while measuring, used again while writing.
struct EventPlan {
  size_t event_bytes;
  size_t record_bytes;
  bool has_session;
  uint32_t name;
  uint32_t category;
  uint32_t user_id;
  uint32_t error_bytes;  // of the ErrorDetails message; 0 with has_error false means none
  bool has_error;
  uint32_t error[5];  // name, code, id, message, stack

  struct AttributeSizes {
    uint32_t key;
    uint32_t value;
    uint32_t body;  // of the Attribute message; 0: a null string, which is absent
  };

  AttributeSizes attributes[frame::kAttributesMax];
};

// What is not in the event itself. `session` may be null.
struct EventStamp {
  const uint8_t* id;
  const uint8_t* session;
  uint64_t time_unix_nano;
};

telemetry_status_t plan_event(const telemetry_event_t& event,
                              bool has_session,
                              size_t event_bytes_max,
                              EventPlan& plan);

// Writes exactly plan.record_bytes to `out`. `event` and its strings must be unchanged since
// plan_event().
void write_event(const telemetry_event_t& event,
                 const EventPlan& plan,
                 const EventStamp& stamp,
                 uint8_t* out);

// Both steps, for importers: the record goes to `out`, its size to `written`. TOO_LARGE also when
// `out_size` does not suffice.
telemetry_status_t encode_event(const telemetry_event_t& event,
                                const EventStamp& stamp,
                                uint8_t* out,
                                size_t out_size,
                                size_t& written);

}  // namespace telemetryd::client
