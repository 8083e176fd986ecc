// support/failing_new.h: an operator new that finds no memory when a test says so. A program that
// links failing_new.cc has it in the place of the library's.
//
// Thread:  each has its own countdown; only what runs on the test's thread fails.

#pragma once

namespace telemetryd::test {

inline constexpr long kAllSucceed = -1;

struct Allocations {
  long left = kAllSucceed;  // how many still succeed
  bool fails_on = false;    // those after the first failing one too
  bool failed = false;      // one has
};

Allocations& allocations();

}  // namespace telemetryd::test
