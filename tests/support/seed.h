// support/seed.h: one seed per run, printed, and settable to run a failure again.

#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace telemetryd::test {

// TELEMETRYD_TEST_SEED, or a new one. Printed so that a failure names what to set.
inline std::uint64_t test_seed() {
  const char* const given = std::getenv("TELEMETRYD_TEST_SEED");
  const std::uint64_t seed =
      given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
  std::printf("TELEMETRYD_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  return seed;
}

}  // namespace telemetryd::test
