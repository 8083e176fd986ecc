// event/sample.h: an event that breaks no rule, to be spoilt by tests.

#pragma once

#include <string>

#include "telemetry/v1/event.pb.h"

namespace telemetryd::event {

namespace v1 = ::telemetry::v1;

// UUIDv7 of the millisecond 0x0193a0b1c2d3.
inline std::string sample_id() {
  return std::string("\x01\x93\xa0\xb1\xc2\xd3\x71\x23\x81\x23\x45\x67\x89\xab\xcd\xef", 16);
}

inline v1::Event sample_event() {
  v1::Event event;
  event.set_id(sample_id());
  event.set_name("build.finished");
  event.set_time_unix_nano(1'700'000'000'123'456'789);
  return event;
}

// As an application would send it: about 180 bytes, four attributes of different types.
inline v1::Event typical_event() {
  v1::Event event = sample_event();
  event.set_kind(v1::EVENT_KIND_COMMAND);
  event.set_category("compiler");
  event.set_session_id(sample_id());
  event.set_success(true);
  event.set_duration_ms(12.5);
  event.set_exit_code(-2);
  auto* attribute = event.add_attributes();
  attribute->set_key("target_triple");
  attribute->set_string_value("x86_64-unknown-linux-gnu");
  attribute = event.add_attributes();
  attribute->set_key("cache_hit");
  attribute->set_bool_value(true);
  attribute = event.add_attributes();
  attribute->set_key("object_files");
  attribute->set_int_value(-9'007'199'254'740'993);
  attribute = event.add_attributes();
  attribute->set_key("load_average");
  attribute->set_double_value(0.75);
  return event;
}

inline std::string batch_of(std::initializer_list<v1::Event> events) {
  v1::EventBatch batch;
  for (const v1::Event& event : events) *batch.add_events() = event;
  return batch.SerializeAsString();
}

// A batch around bytes that libprotobuf would not write.
inline std::string batch_of_raw(const std::string& event) {
  std::string batch = "\x0a";
  for (std::size_t size = event.size();; size >>= 7) {
    if (size < 0x80) {
      batch += static_cast<char>(size);
      break;
    }
    batch += static_cast<char>((size & 0x7f) | 0x80);
  }
  return batch + event;
}

}  // namespace telemetryd::event
