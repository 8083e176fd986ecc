#include "telemetry_core/encoder.h"

#include <string.h>

#include "telemetry_core/protobuf.h"
#include "telemetry_core/utf8.h"

namespace telemetryd::client {
namespace {

// Field numbers of proto/telemetry/v1/event.proto.
namespace field {
constexpr uint32_t kBatchEvents = 1;
constexpr uint32_t kId = 1;
constexpr uint32_t kKind = 2;
constexpr uint32_t kName = 3;
constexpr uint32_t kCategory = 4;
constexpr uint32_t kTime = 5;
constexpr uint32_t kSeverity = 6;
constexpr uint32_t kUrgency = 7;
constexpr uint32_t kClass = 8;
constexpr uint32_t kSession = 9;
constexpr uint32_t kUser = 10;
constexpr uint32_t kSuccess = 11;
constexpr uint32_t kDuration = 12;
constexpr uint32_t kExitCode = 13;
constexpr uint32_t kAttributes = 14;
constexpr uint32_t kError = 15;
constexpr uint32_t kKey = 1;
constexpr uint32_t kString = 2;
constexpr uint32_t kBool = 3;
constexpr uint32_t kInt = 4;
constexpr uint32_t kDouble = 5;
}  // namespace field

constexpr size_t kFixed64FieldBytes = 9;
constexpr uint32_t kSeverityMax = 24;

// Strings above this are too large whatever else the event holds.
constexpr size_t kTextBytesMax = 1u << 20;

// A text measured once: its size, or why it will not do.
struct Measured {
  telemetry_status_t status;
  uint32_t size;
};

inline Measured measure(const char* text) {
  if (text == nullptr) return {TELEMETRY_OK, 0};
  const TextScan scan = scan_text(text, kTextBytesMax);
  if (scan.size > kTextBytesMax) return {TELEMETRY_TOO_LARGE, 0};
  if (!scan.ascii && !utf8_valid(text, scan.size)) return {TELEMETRY_INVALID, 0};
  return {TELEMETRY_OK, static_cast<uint32_t>(scan.size)};
}

Measured measure_sized(const char* text, size_t size) {
  if (size > kTextBytesMax) return {TELEMETRY_TOO_LARGE, 0};
  if (!utf8_valid(text, size)) return {TELEMETRY_INVALID, 0};
  return {TELEMETRY_OK, static_cast<uint32_t>(size)};
}

// Names, categories and keys: short, and too long is a mistake rather than a size.
inline Measured measure_name(const char* text) {
  const Measured measured = measure(text);
  if (measured.status == TELEMETRY_TOO_LARGE || measured.size > frame::kNameBytesMax) {
    return {TELEMETRY_INVALID, 0};
  }
  return measured;
}

inline uint64_t bits_of(double value) {
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

// An enumerator from C may hold any number; it is not read as its type before it has been checked.
template <typename Enum>
unsigned number_of(const Enum& field) {
  static_assert(sizeof(Enum) == sizeof(unsigned));
  unsigned value = 0;
  memcpy(&value, &field, sizeof value);
  return value;
}

bool numbers_valid(const telemetry_event_t& event) {
  const bool has_duration = (event.has & TELEMETRY_HAS_DURATION) != 0;
  return event.size >= sizeof(telemetry_event_t) && number_of(event.kind) <= TELEMETRY_KIND_INIT &&
         number_of(event.urgency) <= TELEMETRY_URGENCY_URGENT &&
         number_of(event.persistence_class) <= TELEMETRY_CLASS_CRITICAL &&
         event.severity <= kSeverityMax && event.attribute_count <= frame::kAttributesMax &&
         (event.attribute_count == 0 || event.attributes != nullptr) &&
         !(has_duration && __builtin_isnan(event.duration_ms));
}

telemetry_status_t plan_attribute(const telemetry_attribute_t& attribute,
                                  EventPlan::AttributeSizes& sizes) {
  const Measured key = measure_name(attribute.key);
  if (key.status != TELEMETRY_OK || key.size == 0) return TELEMETRY_INVALID;
  if (number_of(attribute.type) > TELEMETRY_VALUE_DOUBLE) return TELEMETRY_INVALID;
  sizes.key = key.size;
  const size_t key_bytes = bytes_field_size(key.size);
  size_t value_bytes = 0;
  switch (attribute.type) {
    case TELEMETRY_VALUE_STRING: {
      if (attribute.value.string_value == nullptr) {
        sizes.body = 0;
        return TELEMETRY_OK;
      }
      const char* text = attribute.value.string_value;
      const Measured value =
          attribute.string_size == 0 ? measure(text) : measure_sized(text, attribute.string_size);
      if (value.status != TELEMETRY_OK) return value.status;
      sizes.value = value.size;
      value_bytes = bytes_field_size(value.size);
      break;
    }
    case TELEMETRY_VALUE_BOOL: value_bytes = 2; break;
    case TELEMETRY_VALUE_INT:
      value_bytes = 1 + varint_size(zigzag(attribute.value.int_value));
      break;
    case TELEMETRY_VALUE_DOUBLE: value_bytes = kFixed64FieldBytes; break;
  }
  sizes.body = static_cast<uint32_t>(key_bytes + value_bytes);
  return TELEMETRY_OK;
}

telemetry_status_t plan_error(const telemetry_event_t& event, EventPlan& plan) {
  const char* const texts[5] = {
      event.error_name, event.error_code, event.error_id, event.error_message, event.error_stack};
  plan.has_error = false;
  plan.error_bytes = 0;
  for (size_t i = 0; i < 5; ++i) {
    plan.error[i] = 0;
    if (texts[i] == nullptr) continue;
    plan.has_error = true;
    const Measured text = measure(texts[i]);
    if (text.status != TELEMETRY_OK) return text.status;
    plan.error[i] = text.size;
    if (text.size != 0) plan.error_bytes += static_cast<uint32_t>(bytes_field_size(text.size));
  }
  return TELEMETRY_OK;
}

size_t numbers_size(const telemetry_event_t& event) {
  size_t size = 0;
  if (event.kind != 0) size += 2;
  if (event.severity != 0) size += 2;
  if (event.urgency != 0) size += 2;
  if (event.persistence_class != 0) size += 2;
  if ((event.has & TELEMETRY_HAS_SUCCESS) != 0) size += 2;
  if ((event.has & TELEMETRY_HAS_DURATION) != 0) size += kFixed64FieldBytes;
  if ((event.has & TELEMETRY_HAS_EXIT_CODE) != 0) size += 1 + varint_size(zigzag(event.exit_code));
  return size;
}

uint8_t* write_numbers_before_session(const telemetry_event_t& event, uint8_t* out) {
  if (event.severity != 0) out = put_varint_field(out, field::kSeverity, event.severity);
  if (event.urgency != 0) {
    out = put_varint_field(out, field::kUrgency, static_cast<uint64_t>(event.urgency));
  }
  if (event.persistence_class != 0) {
    out = put_varint_field(out, field::kClass, static_cast<uint64_t>(event.persistence_class));
  }
  return out;
}

uint8_t* write_outcome(const telemetry_event_t& event, uint8_t* out) {
  if ((event.has & TELEMETRY_HAS_SUCCESS) != 0) {
    out = put_varint_field(out, field::kSuccess, event.success != 0 ? 1 : 0);
  }
  if ((event.has & TELEMETRY_HAS_DURATION) != 0) {
    out = put_fixed64_field(out, field::kDuration, bits_of(event.duration_ms));
  }
  if ((event.has & TELEMETRY_HAS_EXIT_CODE) != 0) {
    out = put_varint_field(out, field::kExitCode, zigzag(event.exit_code));
  }
  return out;
}

uint8_t* write_attribute(const telemetry_attribute_t& attribute,
                         const EventPlan::AttributeSizes& sizes,
                         uint8_t* out) {
  *out++ = tag_byte(field::kAttributes, Wire::kBytes);
  out = put_varint(out, sizes.body);
  out = put_bytes_field(out, field::kKey, attribute.key, sizes.key);
  switch (attribute.type) {
    case TELEMETRY_VALUE_STRING:
      return put_bytes_field(out, field::kString, attribute.value.string_value, sizes.value);
    case TELEMETRY_VALUE_BOOL:
      return put_varint_field(out, field::kBool, attribute.value.bool_value != 0 ? 1 : 0);
    case TELEMETRY_VALUE_INT:
      return put_varint_field(out, field::kInt, zigzag(attribute.value.int_value));
    case TELEMETRY_VALUE_DOUBLE:
      return put_fixed64_field(out, field::kDouble, bits_of(attribute.value.double_value));
  }
  return out;
}

uint8_t* write_error(const telemetry_event_t& event, const EventPlan& plan, uint8_t* out) {
  const char* const texts[5] = {
      event.error_name, event.error_code, event.error_id, event.error_message, event.error_stack};
  *out++ = tag_byte(field::kError, Wire::kBytes);
  out = put_varint(out, plan.error_bytes);
  for (uint32_t i = 0; i < 5; ++i) {
    if (plan.error[i] != 0) out = put_bytes_field(out, i + 1, texts[i], plan.error[i]);
  }
  return out;
}

}  // namespace

telemetry_status_t plan_event(const telemetry_event_t& event,
                              bool has_session,
                              size_t event_bytes_max,
                              EventPlan& plan) {
  if (!numbers_valid(event)) return TELEMETRY_INVALID;
  const Measured name = measure_name(event.name);
  const Measured category = measure_name(event.category);
  const Measured user = measure(event.user_id);
  if (name.status != TELEMETRY_OK || name.size == 0) return TELEMETRY_INVALID;
  if (category.status != TELEMETRY_OK) return TELEMETRY_INVALID;
  if (user.status != TELEMETRY_OK) return user.status;
  plan.name = name.size;
  plan.category = category.size;
  plan.user_id = user.size;
  plan.has_session = has_session;
  const telemetry_status_t error = plan_error(event, plan);
  if (error != TELEMETRY_OK) return error;

  size_t size = bytes_field_size(kIdBytes) + bytes_field_size(name.size) + kFixed64FieldBytes +
                numbers_size(event);
  if (has_session) size += bytes_field_size(kIdBytes);
  if (category.size != 0) size += bytes_field_size(category.size);
  if (user.size != 0) size += bytes_field_size(user.size);
  if (plan.has_error) size += bytes_field_size(plan.error_bytes);
  for (size_t i = 0; i < event.attribute_count; ++i) {
    const telemetry_status_t status = plan_attribute(event.attributes[i], plan.attributes[i]);
    if (status != TELEMETRY_OK) return status;
    if (plan.attributes[i].body != 0) size += bytes_field_size(plan.attributes[i].body);
  }
  if (size > event_bytes_max) return TELEMETRY_TOO_LARGE;
  plan.event_bytes = size;
  plan.record_bytes = bytes_field_size(size);
  return TELEMETRY_OK;
}

void write_event(const telemetry_event_t& event,
                 const EventPlan& plan,
                 const EventStamp& stamp,
                 uint8_t* out) {
  *out++ = tag_byte(field::kBatchEvents, Wire::kBytes);
  out = put_varint(out, plan.event_bytes);
  out = put_bytes_field(out, field::kId, stamp.id, kIdBytes);
  if (event.kind != 0) {
    out = put_varint_field(out, field::kKind, static_cast<uint64_t>(event.kind));
  }
  out = put_bytes_field(out, field::kName, event.name, plan.name);
  if (plan.category != 0) {
    out = put_bytes_field(out, field::kCategory, event.category, plan.category);
  }
  out = put_fixed64_field(out, field::kTime, stamp.time_unix_nano);
  out = write_numbers_before_session(event, out);
  if (plan.has_session) out = put_bytes_field(out, field::kSession, stamp.session, kIdBytes);
  if (plan.user_id != 0) out = put_bytes_field(out, field::kUser, event.user_id, plan.user_id);
  out = write_outcome(event, out);
  for (size_t i = 0; i < event.attribute_count; ++i) {
    if (plan.attributes[i].body == 0) continue;
    out = write_attribute(event.attributes[i], plan.attributes[i], out);
  }
  if (plan.has_error) write_error(event, plan, out);
}

telemetry_status_t encode_event(const telemetry_event_t& event,
                                const EventStamp& stamp,
                                uint8_t* out,
                                size_t out_size,
                                size_t& written) {
  EventPlan plan;
  written = 0;
  const telemetry_status_t status =
      plan_event(event, stamp.session != nullptr, frame::kEventBytesMaxDefault, plan);
  if (status != TELEMETRY_OK) return status;
  if (plan.record_bytes > out_size) return TELEMETRY_TOO_LARGE;
  write_event(event, plan, stamp, out);
  written = plan.record_bytes;
  return TELEMETRY_OK;
}

}  // namespace telemetryd::client
