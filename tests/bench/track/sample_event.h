// The event that the benchmarks of the client send: a name, a category, an outcome and four
// attributes of different types, or five.

#pragma once

#include <cstddef>

#include "telemetry/telemetry.h"

namespace telemetryd::bench {

class SampleEvent {
 public:
  explicit SampleEvent(std::size_t attributes = 4) {
    attributes_[0] = {.key = "region", .type = TELEMETRY_VALUE_STRING, .value = {"eu-central"}};
    attributes_[1] = {.key = "cached", .type = TELEMETRY_VALUE_BOOL, .value = {.bool_value = 1}};
    attributes_[2] = {.key = "items", .type = TELEMETRY_VALUE_INT, .value = {.int_value = 12345}};
    attributes_[3] = {
        .key = "ratio", .type = TELEMETRY_VALUE_DOUBLE, .value = {.double_value = 0.5}};
    attributes_[4] = {.key = "more", .type = TELEMETRY_VALUE_BOOL, .value = {.bool_value = 0}};
    event_.name = "command_executed";
    event_.category = "usage";
    event_.has = TELEMETRY_HAS_SUCCESS | TELEMETRY_HAS_DURATION;
    event_.success = 1;
    event_.duration_ms = 12.5;
    event_.attributes = attributes_;
    event_.attribute_count = attributes;
  }

  SampleEvent(const SampleEvent&) = delete;
  SampleEvent& operator=(const SampleEvent&) = delete;

  const telemetry_event_t* get() const { return &event_; }

 private:
  telemetry_attribute_t attributes_[5] = {};
  telemetry_event_t event_ = TELEMETRY_EVENT_INIT;
};

}  // namespace telemetryd::bench
