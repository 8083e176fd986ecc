#include "telemetry_core/control.h"

#include <string.h>

#include "frame/frame.h"
#include "telemetry_core/protobuf.h"
#include "telemetry_core/utf8.h"

namespace telemetryd::client {
namespace {

bool text_valid(const char* text) {
  if (text == nullptr) return true;
  const size_t size = strnlen(text, kContextTextBytesMax + 1);
  return size <= kContextTextBytesMax && utf8_valid(text, size);
}

bool has_text(const char* text) {
  return text != nullptr && *text != '\0';
}

size_t text_field_size(const char* text) {
  return has_text(text) ? bytes_field_size(strlen(text)) : 0;
}

uint8_t* put_text_field(uint8_t* out, uint32_t field, const char* text) {
  return has_text(text) ? put_bytes_field(out, field, text, strlen(text)) : out;
}

uint8_t* put_count_field(uint8_t* out, uint32_t field, uint64_t value) {
  return value != 0 ? put_varint_field(out, field, value) : out;
}

void write_header(frame::Type type, size_t payload, uint8_t* out) {
  frame::encode_header({.length = static_cast<uint32_t>(payload), .type = type, .flags = 0}, out);
}

}  // namespace

bool hello_valid(const Hello& hello) {
  return hello.app != nullptr &&
         frame::app_name_valid(hello.app, strnlen(hello.app, frame::kAppBytesMax + 1)) &&
         text_valid(hello.app_version) && text_valid(hello.language) &&
         text_valid(hello.environment) && text_valid(hello.project) && text_valid(hello.sdk) &&
         text_valid(hello.salt_scheme) && text_valid(hello.consent_rule);
}

size_t write_hello_frame(const Hello& hello, uint64_t first_frame, uint8_t* out) {
  const char* const context[] = {
      hello.app, hello.app_version, hello.language, hello.environment, hello.project, hello.sdk};
  size_t context_bytes = 0;
  for (const char* text : context) context_bytes += text_field_size(text);

  uint8_t* payload = out + frame::kHeaderBytes;
  frame::encode_hello_prefix(payload);
  uint8_t* at = payload + frame::kHelloPrefixBytes;
  at = put_bytes_field(at, 1, hello.instance, sizeof hello.instance);
  *at++ = tag_byte(2, Wire::kBytes);
  at = put_varint(at, context_bytes);
  for (uint32_t i = 0; i < 6; ++i) at = put_text_field(at, i + 1, context[i]);
  at = put_bytes_field(at, 3, hello.session_id, sizeof hello.session_id);
  at = put_count_field(at, 4, first_frame);
  at = put_text_field(at, 5, hello.salt_scheme);
  at = put_count_field(at, 6, static_cast<uint64_t>(hello.consent));
  at = put_text_field(at, 7, hello.consent_rule);
  write_header(frame::Type::kHello, static_cast<size_t>(at - payload), out);
  return static_cast<size_t>(at - out);
}

bool same_losses(const Losses& a, const Losses& b) {
  return a.queue_full == b.queue_full && a.too_large == b.too_large && a.shutdown == b.shutdown &&
         a.disabled == b.disabled && a.invalid == b.invalid;
}

size_t write_report_frame(const Losses& losses, uint8_t* out) {
  uint8_t* at = out + frame::kHeaderBytes;
  at = put_count_field(at, 1, losses.queue_full);
  at = put_count_field(at, 2, losses.too_large);
  at = put_count_field(at, 3, losses.shutdown);
  at = put_count_field(at, 4, losses.disabled);
  at = put_count_field(at, 5, losses.invalid);
  write_header(frame::Type::kReport, static_cast<size_t>(at - out) - frame::kHeaderBytes, out);
  return static_cast<size_t>(at - out);
}

bool read_welcome(const uint8_t* payload, size_t size, Welcome& welcome) {
  if (size < frame::kWelcomePrefixBytes) return false;
  welcome = Welcome{};
  Reader reader(payload + frame::kWelcomePrefixBytes, size - frame::kWelcomePrefixBytes);
  while (reader.next()) {
    // An unknown mode must not lead to more collection than the daemon meant.
    if (reader.is(1, Wire::kVarint)) {
      welcome.mode =
          reader.value() <= 3 ? static_cast<Collection>(reader.value()) : Collection::kOff;
    }
    if (reader.is(2, Wire::kBytes)) {
      copy_text(reader.data(), reader.size(), welcome.rule, sizeof welcome.rule);
    }
    if (reader.is(3, Wire::kVarint)) welcome.high_water = reader.value();
    if (reader.is(4, Wire::kVarint)) {
      welcome.event_bytes_max = static_cast<uint32_t>(reader.value());
    }
    if (reader.is(5, Wire::kVarint)) {
      welcome.frame_bytes_max = static_cast<uint32_t>(reader.value());
    }
    if (reader.is(6, Wire::kVarint)) {
      welcome.frames_in_flight_max = static_cast<uint32_t>(reader.value());
    }
  }
  return reader.ok();
}

void copy_text(const uint8_t* text, size_t size, char* out, size_t out_size) {
  const size_t count = size < out_size - 1 ? size : out_size - 1;
  for (size_t i = 0; i < count; ++i) {
    const bool control = text[i] < 0x20 || text[i] == 0x7f;
    out[i] = control ? '?' : static_cast<char>(text[i]);
  }
  out[count] = '\0';
}

}  // namespace telemetryd::client
