// support/failing_new.h: an operator new that finds no memory when a test says so. A program that
// links failing_new.cc has it in the place of the library's.
//
// Thread:  each has a countdown of its own, and all that are not exempt share another.

#pragma once

#include <atomic>
#include <cstddef>

namespace telemetryd::test {

inline constexpr long kAllSucceed = -1;

struct Allocations {
  long left = kAllSucceed;  // how many still succeed
  bool fails_on = false;    // those after the first failing one too
  bool failed = false;      // one has
};

// Of this thread.
Allocations& allocations();

// Of all threads but those that are exempt. At most one test at a time.
struct SharedAllocations {
  std::atomic<std::size_t> bytes_min = 0;  // smaller ones are not counted and never fail
  std::atomic<long> left = kAllSucceed;
  std::atomic<bool> fails_on = false;
  std::atomic<bool> failed = false;
};

SharedAllocations& shared_allocations();
void exempt_this_thread();

}  // namespace telemetryd::test
