// telemetry_core/ticks.h: time, waiting and randomness, straight from the kernel.
//
// Thread:  any.

#pragma once

#include <atomic>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace telemetryd::client {

constexpr uint64_t kNanosPerMilli = 1'000'000;
constexpr uint64_t kNever = UINT64_MAX;

uint64_t monotonic_ns();
uint64_t realtime_ns();

// The moment `deadline_ms` from now.
uint64_t deadline_after(uint32_t deadline_ms);

// Waits until `word` no longer holds `seen`, somebody wakes it, or the deadline passes. It may
// return early; callers look at their condition again.
void wait_while_equal(std::atomic<uint32_t>& word, uint32_t seen, uint64_t deadline_ns);
void wake_all(std::atomic<uint32_t>& word);

// A memory barrier in every running thread of this process, so that hot paths need none of their
// own. Threads count on it only after ready_fence_all() said true; a kernel before 4.14 says false.
bool ready_fence_all();
void fence_all();

// Random bytes from the kernel; false when it has none to give.
bool fill_random(void* out, size_t size);

// A bijective scramble (Stafford's variant 13, as used by splitmix64): distinct inputs stay
// distinct.
inline uint64_t mix64(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

// UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds, 12 bits of the fraction of that millisecond so
// that IDs of one process sort by time, 62 bits from `random`.
inline void make_uuid7(uint64_t unix_ns, uint64_t random, uint8_t* out) {
  const uint64_t millis = unix_ns / kNanosPerMilli;
  const uint64_t fraction = (unix_ns % kNanosPerMilli) * 4096 / kNanosPerMilli;
  uint64_t high = millis << 16 | 0x7000 | fraction;
  uint64_t low = (random >> 2) | 1ull << 63;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  high = __builtin_bswap64(high);
  low = __builtin_bswap64(low);
#endif
  memcpy(out, &high, 8);
  memcpy(out + 8, &low, 8);
}

}  // namespace telemetryd::client
