// frame/frame.h: the byte layout of frames on the local socket, shared by client and daemon.
//
// docs/formats/frame.md is the grammar; this file is its only implementation. It compiles with
// libc alone, without exceptions and without RTTI, because the client does.
//
// Thread:  any; nothing here has state.
// Limits:  kHelloBytesMax and the others below; frame_bytes_max is the caller's.

#pragma once

#include <stddef.h>
#include <stdint.h>

namespace telemetryd::frame {

constexpr size_t kHeaderBytes = 8;
constexpr uint16_t kVersion = 1;
constexpr char kMagic[4] = {'T', 'L', 'M', 'F'};
constexpr size_t kHelloPrefixBytes = 8;
constexpr size_t kEventsPrefixBytes = 16;
constexpr size_t kWelcomePrefixBytes = 8;
constexpr size_t kAckBytes = 8;
constexpr size_t kRefusePrefixBytes = 16;
constexpr size_t kModePrefixBytes = 8;
constexpr size_t kClosingPrefixBytes = 8;

constexpr uint32_t kHelloBytesMax = 4096;
constexpr uint32_t kReportBytesMax = 256;
constexpr uint32_t kEventsPerFrameMax = 65535;
constexpr uint32_t kFramesInFlightMax = 64;
constexpr uint32_t kFrameBytesMaxDefault = 1u << 20;
constexpr uint32_t kEventBytesMaxDefault = 1u << 16;
constexpr size_t kTextBytesMax = 512;
constexpr size_t kInstanceBytes = 16;
constexpr size_t kAppBytesMax = 64;
constexpr size_t kNameBytesMax = 256;
constexpr size_t kAttributesMax = 128;

enum class Type : uint8_t {
  kHello = 1,
  kEvents = 2,
  kFlush = 3,
  kReport = 4,
  kGoodbye = 5,
  kWelcome = 64,
  kAck = 65,
  kRefuse = 66,
  kMode = 67,
  kClosing = 68,
};

constexpr uint8_t kFlagCommitNow = 1;

enum class Code : uint16_t {
  kInvalidEvent = 1,
  kFrameTooLarge = 2,
  kCollectionOff = 3,
  kStoreFull = 4,
  kDiskUnavailable = 5,
  kOutOfOrder = 6,
  kStopping = 7,
  kProtocol = 8,
  kVersionUnsupported = 9,
  kTooManyConnections = 10,
  kDeadline = 11,
  kUnknownOutcome = 12,
};

struct Header {
  uint32_t length;  // bytes of payload behind the header
  Type type;
  uint8_t flags;
};

struct EventsPrefix {
  uint64_t number;
  uint32_t count;
  uint8_t persistence_class;
  uint8_t urgency;
};

struct Refuse {
  uint64_t number;
  Code code;
  bool retryable;
  uint32_t retry_after_ms;
};

// Little-endian integers at any alignment.
inline void put_u16(uint8_t* out, uint16_t value) {
  out[0] = static_cast<uint8_t>(value);
  out[1] = static_cast<uint8_t>(value >> 8);
}

inline void put_u32(uint8_t* out, uint32_t value) {
  put_u16(out, static_cast<uint16_t>(value));
  put_u16(out + 2, static_cast<uint16_t>(value >> 16));
}

inline void put_u64(uint8_t* out, uint64_t value) {
  put_u32(out, static_cast<uint32_t>(value));
  put_u32(out + 4, static_cast<uint32_t>(value >> 32));
}

inline uint16_t get_u16(const uint8_t* in) {
  return static_cast<uint16_t>(in[0] | (in[1] << 8));
}

inline uint32_t get_u32(const uint8_t* in) {
  return static_cast<uint32_t>(get_u16(in)) | (static_cast<uint32_t>(get_u16(in + 2)) << 16);
}

inline uint64_t get_u64(const uint8_t* in) {
  return static_cast<uint64_t>(get_u32(in)) | (static_cast<uint64_t>(get_u32(in + 4)) << 32);
}

// Each encode_* writes exactly the named number of bytes to `out`; each decode_* reads as many and
// cannot fail, because every bit pattern of a fixed prefix has a meaning. Judging is the caller's.
void encode_header(const Header& header, uint8_t* out);
Header decode_header(const uint8_t* in);

void encode_events_prefix(const EventsPrefix& prefix, uint8_t* out);
EventsPrefix decode_events_prefix(const uint8_t* in);

void encode_refuse_prefix(const Refuse& refuse, uint8_t* out);
Refuse decode_refuse_prefix(const uint8_t* in);

// Magic and version in front of a ClientHello.
void encode_hello_prefix(uint8_t* out);
bool hello_magic_matches(const uint8_t* in);
uint16_t hello_version(const uint8_t* in);

// "invalid_event" and so on: the word for logs, the ledger's reasons and the CLI.
const char* code_name(Code code);

// True for 1 to 64 bytes of a-z 0-9 _ -.
bool app_name_valid(const char* name, size_t size);

}  // namespace telemetryd::frame
