// telemetry_core/control.h: the control messages of the local socket, by hand.
//
// ClientHello and ClientReport are written, DaemonWelcome is read (proto/telemetry/v1/frame.proto).
//
// Thread:  any; no state.
// Limits:  a HELLO payload of kHelloBytesMax, texts of kTextBytesMax.

#pragma once

#include <stddef.h>
#include <stdint.h>

namespace telemetryd::client {

constexpr size_t kContextTextBytesMax = 256;
constexpr size_t kRuleBytesMax = 64;  // with the NUL

// Values of telemetry.v1.CollectionMode.
enum class Collection : uint8_t { kUnspecified = 0, kOn = 1, kLocal = 2, kOff = 3 };

// Texts are NUL-terminated and outlive whoever holds the Hello; null means absent.
struct Hello {
  uint8_t instance[16];
  uint8_t session_id[16];
  const char* app;
  const char* app_version;
  const char* language;
  const char* environment;
  const char* project;
  const char* sdk;
  const char* salt_scheme;
  const char* consent_rule;
  Collection consent;
};

// True when every text is UTF-8 of at most kContextTextBytesMax bytes and the app has a valid name.
// Such a Hello always fits kHelloBytesMax.
bool hello_valid(const Hello& hello);

// A whole HELLO frame, header included; `out` has room for kHelloFrameBytesMax. Returns its size.
constexpr size_t kHelloFrameBytesMax = 8 + 4096;
size_t write_hello_frame(const Hello& hello, uint64_t first_frame, uint8_t* out);

// Losses as ClientReport has them: absolute since the instance began.
struct Losses {
  uint64_t queue_full;
  uint64_t too_large;
  uint64_t shutdown;
  uint64_t disabled;
  uint64_t invalid;
};

bool same_losses(const Losses& a, const Losses& b);

constexpr size_t kReportFrameBytesMax = 8 + 256;
size_t write_report_frame(const Losses& losses, uint8_t* out);

// What the daemon says about itself and us. Fields it left out stay 0.
struct Welcome {
  Collection mode;
  char rule[kRuleBytesMax];
  uint64_t high_water;
  uint32_t event_bytes_max;
  uint32_t frame_bytes_max;
  uint32_t frames_in_flight_max;
};

bool read_welcome(const uint8_t* payload, size_t size, Welcome& welcome);

// Copies at most `out_size` - 1 bytes and ends them with a NUL; bytes that would garble a terminal
// become '?'.
void copy_text(const uint8_t* text, size_t size, char* out, size_t out_size);

}  // namespace telemetryd::client
