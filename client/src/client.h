// telemetry_core/client.h: what a telemetry_client_t is.
//
// Everything that changes while the app runs and must not survive a fork lives in the Block and in
// the window, two mappings that a child finds wiped; the rest is settled at open. A child becomes a
// new instance with its first event: new ID, seed and session, its own socket and thread.
//
// Owns:    the mappings, the pipe that wakes the sender, the sender thread.
// Thread:  track(), send(), flush(), stats() and mode() any; open() and close() one.
// Limits:  kQueueBytesMin to kQueueBytesMax of ring, two frames to kUnackedBytesMax of window.

#pragma once

#include <atomic>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "telemetry/telemetry.h"
#include "telemetry_core/block.h"
#include "telemetry_core/encoder.h"
#include "telemetry_core/ring.h"
#include "telemetry_core/sender.h"
#include "telemetry_core/session.h"
#include "telemetry_core/surroundings.h"

namespace telemetryd::client {

constexpr uint32_t kQueueBytesDefault = 1u << 20;
constexpr uint32_t kQueueBytesMin = 1u << 18;  // so that the largest event always fits
constexpr uint32_t kQueueBytesMax = 1u << 28;
constexpr uint32_t kUnackedBytesDefault = 8u << 20;
constexpr uint32_t kUnackedBytesMax = 1u << 30;
constexpr uint32_t kFrameBytesDefault = 1u << 16;
constexpr uint32_t kFrameBytesMin = 1u << 10;
constexpr uint32_t kFrameBytesMax = 1u << 20;

// What track() encodes on the caller's stack; few events are larger.
constexpr size_t kSmallEventBytes = 1024;

class Client {
 public:
  // Construction in calloc'ed memory: there is no operator new in libc.
  static telemetry_status_t open(const telemetry_options_t& options, Client** out);
  telemetry_status_t close(uint32_t deadline_ms, telemetry_stats_t* final_stats);

  telemetry_status_t track(const telemetry_event_t& event);
  telemetry_status_t send(const telemetry_event_t& event, uint32_t deadline_ms);
  telemetry_status_t flush(uint32_t deadline_ms);
  void stats(telemetry_stats_t& stats) const;
  telemetry_mode_t mode(char* rule, size_t rule_size);

 private:
  struct Text {
    char bytes[kContextTextBytesMax + 1];
  };

  Client() = default;

  telemetry_status_t configure(const telemetry_options_t& options);
  telemetry_status_t map_memory();
  telemetry_status_t start_instance();
  telemetry_status_t start_thread();
  telemetry_status_t pass_gate();
  telemetry_status_t revive();
  void disown_parent();
  telemetry_status_t put(const telemetry_event_t& event);
  telemetry_status_t put_large(const telemetry_event_t& event, const EventStamp& stamp);
  void make_id(const Ring::Slot& slot, uint64_t now, uint8_t* id) const;
  void publish(const telemetry_event_t& event, const Ring::Slot& slot, size_t record_bytes);
  void count_drop(telemetry_status_t status);
  telemetry_status_t wait_for_room(const telemetry_event_t& event, uint64_t deadline);
  bool wait_until_settled(uint64_t mark, uint64_t deadline);
  void wake_if_resting(uint64_t ring_used);
  void wake();
  void release_all();

  static void* run_sender(void* client);

  Block* block_ = nullptr;  // null: the client is off for good
  Ring ring_;
  int wake_write_ = -1;
  int wake_read_ = -1;
  uint64_t pipe_inode_ = 0;
  uint8_t* window_bytes_ = nullptr;
  size_t ring_bytes_ = 0;
  size_t window_capacity_ = 0;
  uint32_t frame_bytes_target_ = 0;
  pthread_t thread_ = {};
  consent::Decision decision_ = {};
  std::atomic<uint64_t> dropped_while_off_ = 0;
  Hello hello_ = {};
  Text app_ = {};
  Text app_version_ = {};
  Text language_ = {};
  Text environment_ = {};
  Text project_ = {};
  Surroundings surroundings_ = {};
  Session session_;
  Sender sender_;
};

}  // namespace telemetryd::client
