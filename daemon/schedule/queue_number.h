// schedule/queue_number.h: tells which of two readings of a queue is the younger one.
//
// The store's notices and its answers reach the loop on different ways, and a notice may overtake
// an answer that was read before it. Both take a number where they are read; the loop keeps the
// higher.
//
// Thread:  store thread, so that the numbers stand in the order of the readings.

#pragma once

#include <atomic>
#include <cstdint>

namespace telemetryd::schedule {

inline std::uint64_t next_queue_number() {
  static std::atomic<std::uint64_t> last = 0;
  return ++last;
}

}  // namespace telemetryd::schedule
