// Whether what salvage brings back fits into telemetryd's store.

#include <gtest/gtest.h>

#include "salvage/daemon_status.h"
#include "store/schema.h"

namespace telemetryd::test {
namespace {

using namespace salvage;

constexpr std::uint64_t kMiB = 1u << 20;

TEST(Room, IsWhatTheStoreMayTakeForRowsWithoutWhatIsThereAndSetAside) {
  const auto room = [](std::uint64_t bytes) {
    return room_for_rows({.store_bytes = bytes, .store_bytes_max = 512 * kMiB, .evicted = 0});
  };
  EXPECT_GT(room(0), 400 * kMiB);
  EXPECT_LT(room(0), 512 * kMiB - 32 * kMiB) << "the WAL needs its part";
  EXPECT_EQ(room(0) - room(100 * kMiB), 100 * kMiB);
  EXPECT_EQ(room(500 * kMiB), 0u);
  EXPECT_EQ(room(2000 * kMiB), 0u) << "more is set aside than the store may have";
}

TEST(Room, ARowTakesWholePages) {
  EXPECT_EQ(stored_bytes(10, 100), store::kPageBytes);
  EXPECT_GE(stored_bytes(kMiB, 100), kMiB + 100);
  EXPECT_EQ(stored_bytes(kMiB, 100) % store::kPageBytes, 0u);
}

}  // namespace
}  // namespace telemetryd::test
