// telemetry_core/block.h: what the app's threads and the sender share.
//
// It is mapped with MADV_WIPEONFORK, the ring's bytes behind it: in a forked child all of it reads
// as zero, which is exactly an instance without events whose gate says "start me first". No fork
// handler, no getpid().
//
// Thread:  any; every member is an atomic or the mutex.

#pragma once

#include <atomic>
#include <pthread.h>
#include <stdint.h>

#include "telemetry_core/control.h"
#include "telemetry_core/ring.h"

namespace telemetryd::client {

enum class Gate : uint32_t {
  kForked = 0,    // a child that has not sent yet
  kStarting = 1,  // one thread of the child is making the new instance
  kOpen = 2,
  kDisabled = 3,  // the daemon or the machine's policy says off
  kClosing = 4,
};

// What the sender is doing, for producers that wonder whether to wake it.
enum class Rest : uint32_t {
  kBusy = 0,       // it will look by itself
  kLingering = 1,  // it will look by itself soon, or when half of the ring is used
  kAsleep = 2,
};

// The block's first page; the ring's bytes start at kRingOffset.
constexpr size_t kRingOffset = 4096;

struct Block {
  std::atomic<Gate> gate;
  std::atomic<uint32_t> event_bytes_max;
  std::atomic<uint64_t> seed[2];
  std::atomic<uint64_t> session_id[2];

  Ring::Control ring;

  alignas(64) std::atomic<Rest> rest;
  std::atomic<uint32_t> fence_yourself;  // see Sender::must_not_sleep()

  alignas(64) std::atomic<uint64_t> dropped_queue_full;
  std::atomic<uint64_t> dropped_too_large;
  std::atomic<uint64_t> dropped_invalid;
  std::atomic<uint64_t> dropped_disabled;
  std::atomic<uint64_t> lost_shutdown;

  // Written by the sender alone.
  alignas(64) std::atomic<uint64_t> settled_mark;  // ring position
  std::atomic<uint64_t> acknowledged;
  std::atomic<uint64_t> refused;
  std::atomic<uint64_t> frames_sent;
  std::atomic<uint64_t> frames_resent;
  std::atomic<uint64_t> connections;

  // Waiting: a word to wait on, and how many do.
  alignas(64) std::atomic<uint32_t> settled_word;
  std::atomic<uint32_t> settled_waiters;
  std::atomic<uint32_t> room_word;
  std::atomic<uint32_t> room_waiters;

  std::atomic<uint64_t> flush_mark;  // somebody waits until this ring position is settled
  std::atomic<uint32_t> stop;
  std::atomic<uint32_t> stopped;

  // Zero is PTHREAD_MUTEX_INITIALIZER on Linux, so a child finds it unlocked.
  pthread_mutex_t mode_mutex;
  uint32_t mode;  // Collection; guarded by mode_mutex, as is the rule
  char rule[kRuleBytesMax];
};

static_assert(sizeof(Block) <= kRingOffset);

}  // namespace telemetryd::client
