// telemetry_core/session.h: one instance talking to the daemon: connect, send, settle, resend.
//
// The protocol of docs/formats/frame.md, client side, once: libtelemetry's sender drives it from
// its thread and FrameStream (telemetryctl's importers) from the caller's. It never blocks; the
// driver polls fd() and calls pump().
//
// A frame is settled when the daemon acknowledged or finally refused it. Frames go out in order of
// their numbers, at most kFramesInFlightMax ahead of the oldest unsettled one. After a reconnect
// everything unsettled goes out again; after a retryable refusal everything from that number on,
// first that frame alone until the daemon takes it. When even the oldest one is out of order, the
// connection ends and the next HELLO says anew where this client begins.
//
// Owns:    the socket.
// Thread:  sender.
// Limits:  a payload of kInputPayloadMax from the daemon; backoff of kBackoffMaxMs.
// Fails:   never; what goes wrong on the wire ends in a new connection. `last_refusal` says why
//          frames were refused.

#pragma once

#include <stddef.h>
#include <stdint.h>

#include "telemetry_core/control.h"
#include "telemetry_core/window.h"

namespace telemetryd::client {

constexpr uint32_t kBackoffMinMs = 50;
constexpr uint32_t kBackoffMaxMs = 5000;
constexpr size_t kInputPayloadMax = 4096;

// Totals since reset().
struct SessionCounters {
  uint64_t acknowledged_events;
  uint64_t refused_events;
  uint64_t acknowledged_frames;
  uint64_t refused_frames;
  uint64_t duplicate_frames;  // durable before this session ever sent them
  uint64_t frames_sent;
  uint64_t frames_resent;
  uint64_t connections;
};

// What the daemon decided, valid while `known`.
struct DaemonMode {
  bool known;
  Collection mode;
  char rule[kRuleBytesMax];
};

class Session {
 public:
  // Forgets everything but closes nothing. `seed` feeds the jitter.
  void reset(const Hello& hello, uint8_t* window_bytes, size_t window_capacity, uint64_t seed);

  // Frames. The driver opens one in window(), writes records behind kFrameOverhead and closes it.
  Window& window() { return window_; }

  struct NewFrame {
    uint64_t number;  // 0: the next one
    uint32_t count;
    uint8_t persistence_class;
    uint8_t urgency;
    uint32_t record_bytes;
    bool commit_now;
    uint64_t mark;
  };

  void close_frame(const NewFrame& frame);

  // Asks the daemon to commit everything that is in the window now, once all of it is sent.
  void request_commit();

  // Sends a report when it differs from the last one of this connection.
  void set_losses(const Losses& losses) { losses_ = losses; }

  // Sends GOODBYE behind everything else; call it when the window is empty.
  void say_goodbye();

  // No EVENTS frame is begun from now on; the connection is about to end.
  void stop_sending() { in_flight_max_ = 0; }

  // Events of frames that never went to the kernel whole. A frame that is half there does not count
  // while the connection lives: its other half goes out before anything else.
  uint64_t unsent_events();

  // What the next HELLO says about the client's own side. `rule` is static text.
  void set_consent(Collection consent, const char* rule);

  // Connection. connect() may be tried from retry_at() on; a failure moves that.
  bool connected() const { return fd_ >= 0; }

  uint64_t retry_at() const { return retry_at_; }

  bool connect(const char* path, uint64_t now);
  void back_off(uint64_t now);

  // Reads and writes what can be without waiting.
  void pump(uint64_t now);

  // True when there are bytes that the kernel did not take yet.
  bool wants_write() const { return wants_write_; }

  // When pump() should run again although the socket is silent; kNever when that is not needed.
  uint64_t next_timer() const;

  int fd() const { return fd_; }

  // Ends the connection for both sides. disown() closes only this process's descriptor, and only
  // if it still is that socket: what a forked child does.
  void shut_down();
  void disown();

  const SessionCounters& counters() const { return counters_; }

  // Ring position up to which everything is settled.
  uint64_t settled_mark() const { return settled_mark_; }

  // The daemon answered the HELLO of this connection.
  bool welcomed() const { return welcomed_; }

  // Changes whenever a frame was sent or settled or the daemon answered.
  uint64_t progress() const {
    return counters_.frames_sent + counters_.acknowledged_frames + counters_.refused_frames +
           (welcomed_ ? 1 : 0);
  }

  const DaemonMode& daemon_mode() const { return daemon_mode_; }

  // 0 until a daemon said.
  uint32_t event_bytes_max() const { return event_bytes_max_; }

  uint32_t frame_bytes_max() const { return frame_bytes_max_; }

  const char* last_refusal() const { return last_refusal_; }

  // Drops every frame that is not settled, as refused: collection was switched off.
  void refuse_all();

  // For events that are refused before they were in a frame.
  void count_refused(uint64_t events) { counters_.refused_events += events; }

  void set_settled_mark(uint64_t mark) { settled_mark_ = mark; }

 private:
  enum class Sent { kAll, kBlocked, kFailed };

  Sent write_bytes(const uint8_t* data, size_t size, size_t& done);
  Sent write_control();
  bool write_output(uint64_t now);
  bool queue_control(const uint8_t* data, size_t size);
  bool queue_report();
  bool queue_flush();
  Frame* frame_to_send(uint64_t now);
  void frame_sent(Frame& frame);

  bool read_input(uint64_t now);
  bool take_frame(uint8_t type, const uint8_t* payload, size_t size, uint64_t now);
  bool take_welcome(const uint8_t* payload, size_t size);
  bool take_refuse(const uint8_t* payload, size_t size, uint64_t now);
  bool oldest_unsettled(size_t index);
  void take_mode(const uint8_t* payload, size_t size);
  void take_closing(const uint8_t* payload, size_t size);
  void refuse_for_good(size_t index);
  void send_again_from(uint64_t number, uint32_t retry_after_ms, uint64_t now);
  void settle(uint64_t number);
  void collect();
  void lost_connection(uint64_t now);
  uint64_t random();

  Hello hello_ = {};
  Window window_;
  SessionCounters counters_ = {};
  DaemonMode daemon_mode_ = {};
  Losses losses_ = {};
  Losses reported_ = {};
  uint64_t settled_mark_ = 0;
  uint64_t settled_number_ = 0;
  uint64_t highest_sent_ = 0;
  uint64_t next_number_ = 1;
  uint64_t random_state_ = 0;
  uint32_t event_bytes_max_ = 0;
  uint32_t frame_bytes_max_ = 0;
  char last_refusal_[frame::kTextBytesMax + 1] = {};

  // Of the current connection.
  int fd_ = -1;
  uint64_t socket_inode_ = 0;
  uint64_t retry_at_ = 0;
  uint32_t attempts_ = 0;
  uint32_t misorders_ = 0;  // connections lost to OUT_OF_ORDER for our oldest, one after another
  uint32_t in_flight_max_ = frame::kFramesInFlightMax;
  size_t sent_ = 0;     // frames of the window that the kernel has whole
  size_t partial_ = 0;  // bytes of frame number sent_ that it has already
  uint64_t commit_through_ = 0;
  uint64_t commit_asked_ = 0;
  uint64_t resume_at_ = 0;   // paused until then; 0: not paused
  uint64_t again_from_ = 0;  // the number to go back to after the pause
  uint64_t probe_ = 0;       // refused with "later": nothing behind it goes out before it is taken
  bool wants_write_ = false;
  bool welcomed_ = false;
  size_t control_size_ = 0;
  size_t control_done_ = 0;
  size_t input_size_ = 0;
  uint8_t control_[kHelloFrameBytesMax + kReportFrameBytesMax + 64] = {};
  uint8_t input_[2 * kInputPayloadMax] = {};
};

}  // namespace telemetryd::client
