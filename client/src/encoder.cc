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

inline bool numbers_valid(const telemetry_event_t& event) {
  const bool has_duration = (event.has & TELEMETRY_HAS_DURATION) != 0;
  return event.size >= sizeof(telemetry_event_t) && number_of(event.kind) <= TELEMETRY_KIND_INIT &&
         number_of(event.urgency) <= TELEMETRY_URGENCY_URGENT &&
         number_of(event.persistence_class) <= TELEMETRY_CLASS_CRITICAL &&
         event.severity <= kSeverityMax && event.attribute_count <= frame::kAttributesMax &&
         (event.attribute_count == 0 || event.attributes != nullptr) &&
         !(has_duration && __builtin_isnan(event.duration_ms));
}

// The put_* below return where the next byte goes, or null when the event is not to be had; `why`
// then says more than the INVALID that it begins with. Texts may reach up to `end`; numbers fit
// into the slack behind it.
struct Room {
  const uint8_t* end;
  telemetry_status_t why;
};

inline bool fits(const uint8_t* at, size_t size, Room& room) {
  if (room.end - at >= static_cast<ptrdiff_t>(size)) [[likely]]
    return true;
  room.why = TELEMETRY_TOO_LARGE;
  return false;
}

// Names, categories and keys: short, and too long is a mistake rather than a size.
inline bool measure_name(const char* name, size_t& size) {
  const TextScan scan = scan_text(name, frame::kNameBytesMax);
  size = scan.size;
  return size <= frame::kNameBytesMax && (scan.ascii || utf8_valid(name, size));
}

inline bool measure(const char* text, size_t& size, Room& room) {
  const TextScan scan = scan_text(text, kTextBytesMax);
  size = scan.size;
  if (size > kTextBytesMax) [[unlikely]] {
    room.why = TELEMETRY_TOO_LARGE;
    return false;
  }
  return scan.ascii || utf8_valid(text, size);
}

inline bool measure_value(const telemetry_attribute_t& attribute, size_t& size, Room& room) {
  if (attribute.string_size == 0) return measure(attribute.value.string_value, size, room);
  size = attribute.string_size;
  if (size > kTextBytesMax) {
    room.why = TELEMETRY_TOO_LARGE;
    return false;
  }
  return utf8_valid(attribute.value.string_value, size);
}

// Tag and length of the attribute and its whole key.
__attribute__((always_inline)) inline uint8_t* put_key(uint8_t* at,
                                                       const char* key,
                                                       size_t key_size,
                                                       size_t value_bytes) {
  static_assert(frame::kNameBytesMax < 1u << 14);
  const size_t length_bytes = key_size < 0x80 ? 1 : 2;
  *at++ = tag_byte(field::kAttributes, Wire::kBytes);
  at = put_varint(at, 1 + length_bytes + key_size + value_bytes);
  return put_bytes_field(at, field::kKey, key, key_size);
}

inline uint8_t* put_attribute(const telemetry_attribute_t& attribute, uint8_t* at, Room& room) {
  const char* const key = attribute.key;
  size_t key_size = 0;
  if (key == nullptr || !measure_name(key, key_size) || key_size == 0) return nullptr;
  if (!fits(at, key_size, room)) return nullptr;
  switch (number_of(attribute.type)) {
    case TELEMETRY_VALUE_STRING: {
      const char* const text = attribute.value.string_value;
      size_t size = 0;
      if (text == nullptr) return at;  // absent
      if (!measure_value(attribute, size, room)) return nullptr;
      if (!fits(at, key_size + size, room)) return nullptr;
      at = put_key(at, key, key_size, bytes_field_size(size));
      return put_bytes_field(at, field::kString, text, size);
    }
    case TELEMETRY_VALUE_BOOL:
      at = put_key(at, key, key_size, 2);
      return put_varint_field(at, field::kBool, attribute.value.bool_value != 0 ? 1 : 0);
    case TELEMETRY_VALUE_INT: {
      const uint64_t value = zigzag(attribute.value.int_value);
      at = put_key(at, key, key_size, 1 + varint_size(value));
      return put_varint_field(at, field::kInt, value);
    }
    case TELEMETRY_VALUE_DOUBLE:
      at = put_key(at, key, key_size, kFixed64FieldBytes);
      return put_fixed64_field(at, field::kDouble, bits_of(attribute.value.double_value));
    default: return nullptr;
  }
}

inline bool has_error(const telemetry_event_t& event) {
  return event.error_name != nullptr || event.error_code != nullptr || event.error_id != nullptr ||
         event.error_message != nullptr || event.error_stack != nullptr;
}

// Not on the way of most events, so out of their way.
__attribute__((noinline, cold)) uint8_t* put_error(const telemetry_event_t& event,
                                                   uint8_t* at,
                                                   Room& room) {
  const char* const texts[5] = {
      event.error_name, event.error_code, event.error_id, event.error_message, event.error_stack};
  size_t sizes[5] = {};
  size_t bytes = 0;
  for (size_t i = 0; i < 5; ++i) {
    if (texts[i] == nullptr) continue;
    if (!measure(texts[i], sizes[i], room)) return nullptr;
    if (sizes[i] != 0) bytes += bytes_field_size(sizes[i]);
  }
  if (!fits(at, bytes, room)) return nullptr;
  *at++ = tag_byte(field::kError, Wire::kBytes);
  at = put_varint(at, bytes);
  for (uint32_t i = 0; i < 5; ++i) {
    if (sizes[i] != 0) at = put_bytes_field(at, i + 1, texts[i], sizes[i]);
  }
  return at;
}

inline uint8_t* put_small(uint8_t* at, uint32_t field, unsigned value) {
  if (value == 0) return at;
  at[0] = tag_byte(field, Wire::kVarint);
  at[1] = static_cast<uint8_t>(value);
  return at + 2;
}

// Name and category.
inline uint8_t* put_names(const telemetry_event_t& event, uint8_t* at, Room& room) {
  size_t size = 0;
  if (event.name == nullptr || !measure_name(event.name, size) || size == 0) return nullptr;
  if (!fits(at, size, room)) return nullptr;
  at = put_bytes_field(at, field::kName, event.name, size);
  if (event.category == nullptr) return at;
  if (!measure_name(event.category, size) || !fits(at, size, room)) return nullptr;
  return size != 0 ? put_bytes_field(at, field::kCategory, event.category, size) : at;
}

inline uint8_t* put_user(const telemetry_event_t& event, uint8_t* at, Room& room) {
  size_t size = 0;
  if (event.user_id == nullptr) return at;
  if (!measure(event.user_id, size, room) || !fits(at, size, room)) return nullptr;
  return size != 0 ? put_bytes_field(at, field::kUser, event.user_id, size) : at;
}

inline uint8_t* put_outcome(const telemetry_event_t& event, uint8_t* at) {
  if ((event.has & TELEMETRY_HAS_SUCCESS) != 0) {
    at = put_varint_field(at, field::kSuccess, event.success != 0 ? 1 : 0);
  }
  if ((event.has & TELEMETRY_HAS_DURATION) != 0) {
    at = put_fixed64_field(at, field::kDuration, bits_of(event.duration_ms));
  }
  if ((event.has & TELEMETRY_HAS_EXIT_CODE) != 0) {
    at = put_varint_field(at, field::kExitCode, zigzag(event.exit_code));
  }
  return at;
}

// The event's fields in order of their numbers, the ID apart.
inline uint8_t* put_fields(const telemetry_event_t& event,
                           const EventStamp& stamp,
                           uint8_t* at,
                           Room& room) {
  at = put_small(at, field::kKind, number_of(event.kind));
  at = put_names(event, at, room);
  if (at == nullptr) return nullptr;
  const uint64_t time = event.time_unix_nano != 0 ? event.time_unix_nano : stamp.time_unix_nano;
  at = put_fixed64_field(at, field::kTime, time);
  at = put_small(at, field::kSeverity, event.severity);
  at = put_small(at, field::kUrgency, number_of(event.urgency));
  at = put_small(at, field::kClass, number_of(event.persistence_class));
  if (stamp.session != nullptr) at = put_bytes_field(at, field::kSession, stamp.session, kIdBytes);
  at = put_user(event, at, room);
  if (at == nullptr) return nullptr;
  at = put_outcome(event, at);
  const telemetry_attribute_t* const end = event.attributes + event.attribute_count;
  for (const telemetry_attribute_t* one = event.attributes; one != end; ++one) {
    at = put_attribute(*one, at, room);
    if (at == nullptr) return nullptr;
  }
  if (!has_error(event)) return at;
  // A copy, so that the compiler may keep the original in registers.
  Room copy = room;
  at = put_error(event, at, copy);
  room.why = copy.why;
  return at;
}

bool add_name(const char* name, size_t& sum) {
  if (name == nullptr) return true;
  const size_t size = strnlen(name, frame::kNameBytesMax + 1);
  sum += size;
  return size <= frame::kNameBytesMax;
}

void add_text(const char* text, size_t text_max, size_t& sum) {
  if (text != nullptr) sum += strnlen(text, text_max + 1);
}

}  // namespace

telemetry_status_t encode_event(const telemetry_event_t& event,
                                const EventStamp& stamp,
                                size_t event_bytes_max,
                                uint8_t* out,
                                size_t out_size,
                                EncodedEvent& encoded) {
  if (!numbers_valid(event)) return TELEMETRY_INVALID;
  if (out_size < kEncodeSlackBytes) return TELEMETRY_TOO_LARGE;
  // The header is written last, when the length is known, against the first byte of the event.
  uint8_t* const begin = out + 1 + varint_size(out_size);
  uint8_t* at = begin;
  *at++ = tag_byte(field::kId, Wire::kBytes);
  *at++ = kIdBytes;
  encoded.id = at;
  if (event.id != nullptr) memcpy(at, event.id, kIdBytes);
  Room room = {.end = out + out_size - kEncodeSlackBytes, .why = TELEMETRY_INVALID};
  at = put_fields(event, stamp, at + kIdBytes, room);
  if (at == nullptr) return room.why;

  const auto size = static_cast<size_t>(at - begin);
  if (size > event_bytes_max) return TELEMETRY_TOO_LARGE;
  const size_t header = 1 + varint_size(size);
  encoded.record = begin - header;
  encoded.event_bytes = size;
  encoded.record_bytes = header + size;
  encoded.record[0] = tag_byte(field::kBatchEvents, Wire::kBytes);
  put_varint(encoded.record + 1, size);
  return TELEMETRY_OK;
}

telemetry_status_t encoded_size_bound(const telemetry_event_t& event,
                                      size_t event_bytes_max,
                                      size_t& bound) {
  if (!numbers_valid(event)) return TELEMETRY_INVALID;
  size_t texts = 0;
  if (!add_name(event.name, texts) || !add_name(event.category, texts)) return TELEMETRY_INVALID;
  const char* const others[] = {event.user_id,
                                event.error_name,
                                event.error_code,
                                event.error_id,
                                event.error_message,
                                event.error_stack};
  for (const char* text : others) add_text(text, event_bytes_max, texts);
  for (size_t i = 0; i < event.attribute_count; ++i) {
    const telemetry_attribute_t& attribute = event.attributes[i];
    if (!add_name(attribute.key, texts)) return TELEMETRY_INVALID;
    if (number_of(attribute.type) != TELEMETRY_VALUE_STRING) continue;
    if (attribute.string_size > kTextBytesMax) return TELEMETRY_TOO_LARGE;
    if (attribute.string_size != 0) {
      texts += attribute.string_size;
    } else {
      add_text(attribute.value.string_value, event_bytes_max, texts);
    }
  }
  if (texts > event_bytes_max) return TELEMETRY_TOO_LARGE;
  bound = texts + event.attribute_count * kAttributeOverheadMax + 2 * kEncodeSlackBytes;
  return TELEMETRY_OK;
}

}  // namespace telemetryd::client
