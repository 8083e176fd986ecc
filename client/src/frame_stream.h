// telemetry_core/frame_stream.h: frames with numbers of the caller's choice, one after another,
// until they are durable.
//
// For bulk importers, which derive instance and numbers from what they read, so that importing the
// same file twice stores nothing twice. The protocol is Session's, as in libtelemetry; here the
// caller's thread drives it and waits.
//
// Owns:    the connection and memory for frames that are not settled.
// Thread:  one.
// Limits:  kFramesInFlightMax frames and `window_bytes` in flight, kFrameBytesMaxDefault per frame.
// Fails:   TELEMETRY_TIMEOUT the deadline passed; what was taken goes on with the next call.
//          TELEMETRY_INVALID numbers that do not rise, a frame above the limit, a hello that is
//          none. TELEMETRY_NO_MEMORY no memory for the window.

#pragma once

#include <stddef.h>
#include <stdint.h>

#include "telemetry/telemetry.h"
#include "telemetry_core/control.h"
#include "telemetry_core/session.h"

namespace telemetryd::client {

// A complete frame's worth of records (telemetry_core/encoder.h), all of one class and urgency.
struct OutgoingFrame {
  uint64_t number;  // rises from call to call; starts at 1 within an instance
  uint32_t count;
  uint8_t persistence_class;
  uint8_t urgency;
  const uint8_t* records;
  size_t size;
  bool commit_now;
};

class FrameStream {
 public:
  static constexpr size_t kWindowBytesDefault = 8u << 20;

  explicit FrameStream(size_t window_bytes = kWindowBytesDefault);
  ~FrameStream();
  FrameStream(const FrameStream&) = delete;
  FrameStream& operator=(const FrameStream&) = delete;

  // Connects and waits for the WELCOME, trying again until the deadline. `path` and the texts of
  // `hello` outlive the stream.
  telemetry_status_t connect(const char* path, const Hello& hello, uint32_t deadline_ms);

  // Hands a frame over, waiting while the window is full. OK means taken, not durable; the bytes
  // are copied. A frame the daemon has already is settled at once, as a duplicate.
  telemetry_status_t send_frame(const OutgoingFrame& frame, uint32_t deadline_ms);

  // Waits until every frame is durable or refused for good, reconnecting as needed.
  telemetry_status_t wait_all(uint32_t deadline_ms);

  // Lets the daemon forget the instance: only when its numbers will never be used again, so not
  // for an import that may be repeated. Call it after wait_all().
  telemetry_status_t goodbye(uint32_t deadline_ms);

  const SessionCounters& counters() const { return session_.counters(); }

  const DaemonMode& daemon_mode() const { return session_.daemon_mode(); }

  // Limits the daemon named; 0 when it named none.
  uint32_t event_bytes_max() const { return session_.event_bytes_max(); }

  uint32_t frame_bytes_max() const { return session_.frame_bytes_max(); }

  // Text of the newest REFUSE or CLOSING, "" when there was none.
  const char* last_refusal() const { return session_.last_refusal(); }

 private:
  // One round of connecting, reading and writing, then a wait for more; false at the deadline.
  bool step(uint64_t deadline);

  Session session_;
  const char* path_ = nullptr;
  uint8_t* window_bytes_ = nullptr;
  size_t window_capacity_;
  uint64_t last_number_ = 0;
};

}  // namespace telemetryd::client
