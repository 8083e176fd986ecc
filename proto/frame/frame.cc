#include "frame/frame.h"

#include <string.h>

namespace telemetryd::frame {

void encode_header(const Header& header, uint8_t* out) {
  put_u32(out, header.length);
  out[4] = static_cast<uint8_t>(header.type);
  out[5] = header.flags;
  put_u16(out + 6, 0);
}

Header decode_header(const uint8_t* in) {
  return {.length = get_u32(in), .type = static_cast<Type>(in[4]), .flags = in[5]};
}

void encode_events_prefix(const EventsPrefix& prefix, uint8_t* out) {
  put_u64(out, prefix.number);
  put_u32(out + 8, prefix.count);
  out[12] = prefix.persistence_class;
  out[13] = prefix.urgency;
  put_u16(out + 14, 0);
}

EventsPrefix decode_events_prefix(const uint8_t* in) {
  return {.number = get_u64(in),
          .count = get_u32(in + 8),
          .persistence_class = in[12],
          .urgency = in[13]};
}

void encode_refuse_prefix(const Refuse& refuse, uint8_t* out) {
  put_u64(out, refuse.number);
  put_u16(out + 8, static_cast<uint16_t>(refuse.code));
  out[10] = refuse.retryable ? 1 : 0;
  out[11] = 0;
  put_u32(out + 12, refuse.retry_after_ms);
}

Refuse decode_refuse_prefix(const uint8_t* in) {
  return {.number = get_u64(in),
          .code = static_cast<Code>(get_u16(in + 8)),
          .retryable = in[10] != 0,
          .retry_after_ms = get_u32(in + 12)};
}

void encode_hello_prefix(uint8_t* out) {
  memcpy(out, kMagic, sizeof kMagic);
  put_u16(out + 4, kVersion);
  put_u16(out + 6, 0);
}

bool hello_magic_matches(const uint8_t* in) {
  return memcmp(in, kMagic, sizeof kMagic) == 0;
}

uint16_t hello_version(const uint8_t* in) {
  return get_u16(in + 4);
}

const char* code_name(Code code) {
  switch (code) {
    case Code::kInvalidEvent: return "invalid_event";
    case Code::kFrameTooLarge: return "frame_too_large";
    case Code::kCollectionOff: return "collection_off";
    case Code::kStoreFull: return "store_full";
    case Code::kDiskUnavailable: return "disk_unavailable";
    case Code::kOutOfOrder: return "out_of_order";
    case Code::kStopping: return "stopping";
    case Code::kProtocol: return "protocol";
    case Code::kVersionUnsupported: return "version";
    case Code::kTooManyConnections: return "too_many_connections";
    case Code::kDeadline: return "deadline";
    case Code::kUnknownOutcome: return "unknown_outcome";
  }
  return "unknown";
}

bool app_name_valid(const char* name, size_t size) {
  if (size == 0 || size > kAppBytesMax) return false;
  for (size_t i = 0; i < size; ++i) {
    const char c = name[i];
    const bool allowed = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    if (!allowed) return false;
  }
  return true;
}

}  // namespace telemetryd::frame
