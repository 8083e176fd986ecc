// What happens on a file system that others fill: who is refused, what goes on, how it ends.

#include "store/space.h"

#include <chrono>
#include <optional>

#include <gtest/gtest.h>

#include "support/small_disk.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

using Kind = store::Answer::Kind;
using std::chrono::seconds;

constexpr std::size_t kBodyBytes = 20u << 10;

class Space : public StoreTest {
 protected:
  void SetUp() override {}

  void TearDown() override {
    StoreTest::TearDown();
    store_.reset();
  }

  bool make_disk(const std::string& options) {
    disk_.emplace(options);
    return disk_->skipped().empty();
  }

  store::Options options() const {
    auto options = small_store(disk_->path());
    options.bytes_max = 64u << 20;
    options.wal_pregrow_bytes = 1u << 20;
    return options;
  }

  store::Answer send() {
    auto answers = store_->commit({{frame(app_, next_, {std::string(kBodyBytes, 'x')})}});
    if (!answers) return {Kind::kRefused, {frame::Code::kDiskUnavailable, true, 0, "error"}};
    if (answers->front().kind == Kind::kStored) ++next_;
    return answers->front();
  }

  // Until it is refused.
  void send_all_that_fits() {
    for (int i = 0; i < 1000 && send().kind == Kind::kStored; ++i) {
    }
  }

  // The number of events delivered until nothing is left.
  std::uint64_t drain() {
    std::uint64_t events = 0;
    for (;;) {
      const auto lent = lease(lease_of({"shop"}, 3));
      if (lent.id == 0) return events;
      settle(lent.id);
      events += lent.events;
      EXPECT_TRUE(store_->idle());
    }
  }

  std::vector<std::string> troubles() {
    std::vector<std::string> words;
    const store::Info info = store_->info().value();
    for (const store::Trouble& trouble : info.troubles) words.push_back(trouble.word);
    return words;
  }

  using Words = std::vector<std::string>;

  std::optional<SmallDisk> disk_;
  std::shared_ptr<const store::ClientInfo> app_ = client(1);
  std::uint64_t next_ = 1;
};

#define NEEDS_DISK(options) \
  if (!make_disk(options)) GTEST_SKIP() << disk_->skipped()

TEST_F(Space, BelowTheFloorNewEventsWaitAndDeliveryAndErasureGoOn) {
  NEEDS_DISK("size=8m");
  auto wanted = options();
  wanted.free_disk_bytes_min = 2u << 20;
  open(wanted);
  ASSERT_EQ(send().kind, Kind::kStored);
  ASSERT_EQ(send().kind, Kind::kStored);
  ASSERT_EQ(send().kind, Kind::kStored);
  EXPECT_EQ(troubles(), Words());
  disk_->fill(1u << 20);
  clock_.advance(seconds(2));
  const store::Answer refused = send();
  ASSERT_EQ(refused.kind, Kind::kRefused);
  EXPECT_TRUE(refused.refusal.retryable);
  EXPECT_GT(refused.refusal.retry_after_ms, 0u);
  EXPECT_EQ(troubles(), Words{"disk_low"});
  const store::Trouble trouble = store_->info().value().troubles.front();
  EXPECT_TRUE(trouble.refuses_events);
  EXPECT_NE(trouble.text.find("store.free_disk_bytes_min (2097152)"), std::string::npos)
      << trouble.text;
  settle(lease(lease_of({"shop"}, 1)).id);
  EXPECT_EQ(store_->erase(1000, "shop").value(), 2u);
  EXPECT_EQ(account("delivered"), 1);
  EXPECT_EQ(account("erased", "withdrawn"), 2);
  EXPECT_EQ(send().kind, Kind::kRefused);
  disk_->empty();
  // Nobody has to wait for a clock: the next event finds the room.
  EXPECT_EQ(send().kind, Kind::kStored);
  EXPECT_EQ(troubles(), Words());
}

TEST_F(Space, OnADiskFilledToTheLastByteTheQueueDrainsAndEventsComeAgainAfterwards) {
  NEEDS_DISK("size=8m");
  open(options());
  for (int i = 0; i < 100; ++i) ASSERT_EQ(send().kind, Kind::kStored);
  disk_->fill();
  ASSERT_EQ(disk_->free_bytes(), 0u);
  send_all_that_fits();
  const store::Answer refused = send();
  ASSERT_EQ(refused.kind, Kind::kRefused);
  EXPECT_TRUE(refused.refusal.retryable);
  EXPECT_EQ(troubles(), Words{"disk_low"});
  expect_balanced();
  EXPECT_EQ(drain(), next_ - 1);
  disk_->empty();
  EXPECT_EQ(send().kind, Kind::kStored);
  EXPECT_EQ(troubles(), Words());
  EXPECT_EQ(drain(), 1u);
}

TEST_F(Space, OurOwnEventsFillASmallDiskAndItStillDrains) {
  NEEDS_DISK("size=6m");
  open(options());
  send_all_that_fits();
  EXPECT_GT(next_, 50u);
  EXPECT_EQ(send().kind, Kind::kRefused);
  EXPECT_EQ(drain(), next_ - 1);
  EXPECT_EQ(send().kind, Kind::kStored);
}

TEST_F(Space, ADiskThatIsFullAtTheStartIsOpenedAndDrained) {
  NEEDS_DISK("size=8m");
  open(options());
  for (int i = 0; i < 100; ++i) ASSERT_EQ(send().kind, Kind::kStored);
  for (const bool killed : {false, true}) {
    if (!killed) {
      ASSERT_TRUE(store_->close());
    }
    store_.reset();
    disk_->fill();
    open(options());
    ASSERT_TRUE(store_);
    EXPECT_EQ(disk_->free_bytes(), 0u);
    settle(lease(lease_of({"shop"}, 10)).id);
    EXPECT_EQ(account("queued"), killed ? 80 : 90);
  }
  EXPECT_EQ(drain(), 80u);
}

TEST_F(Space, ALowDiskAtTheStartIsNotSpentOnTheLog) {
  NEEDS_DISK("size=8m");
  auto wanted = options();
  wanted.free_disk_bytes_min = 2u << 20;
  wanted.wal_pregrow_bytes = 4u << 20;
  disk_->fill(3u << 20);
  open(wanted);
  EXPECT_GT(disk_->free_bytes(), 2u << 20);
}

TEST_F(Space, WithoutFilesLeftNewEventsWaitAndDeliveryGoesOn) {
  NEEDS_DISK("size=8m,nr_inodes=32");
  auto wanted = options();
  wanted.free_files_min = 4;
  open(wanted);
  ASSERT_EQ(send().kind, Kind::kStored);
  disk_->take_files();
  clock_.advance(seconds(2));
  EXPECT_EQ(send().kind, Kind::kRefused);
  EXPECT_EQ(troubles(), Words{"disk_low"});
  const store::Trouble trouble = store_->info().value().troubles.front();
  EXPECT_NE(trouble.text.find("0 files can still be made"), std::string::npos) << trouble.text;
  EXPECT_EQ(drain(), 1u);
  disk_->empty();
  EXPECT_EQ(send().kind, Kind::kStored);
}

TEST_F(Space, WithoutAFloorOnFilesNoneIsNeededToGoOn) {
  NEEDS_DISK("size=8m,nr_inodes=32");
  open(options());
  disk_->take_files();
  for (int i = 0; i < 100; ++i) ASSERT_EQ(send().kind, Kind::kStored);
  EXPECT_EQ(drain(), 100u);
  EXPECT_EQ(store_->erase(1000, "").value(), 0u);
}

TEST(FreeSpace, IsWhatIsLeftForOurUser) {
  const SmallDisk disk("size=4m,nr_inodes=64");
  if (!disk.skipped().empty()) GTEST_SKIP() << disk.skipped();
  const auto free = store::free_space(disk.path());
  ASSERT_TRUE(free);
  EXPECT_EQ(free->bytes, 4u << 20);
  ASSERT_TRUE(free->files);
  EXPECT_LE(*free->files, 64u);
  EXPECT_EQ(store::affordable(disk.path(), 2u << 20, 1u << 20), 1u << 20);
  EXPECT_EQ(store::affordable(disk.path(), (2u << 20) + 1, 1u << 20), 0u);
  EXPECT_FALSE(store::free_space(disk.path() / "absent"));
}

TEST(SpaceFloor, AsksOnceASecondOfWorkAndAtEveryEventWhileItIsLow) {
  const SmallDisk disk("size=4m");
  if (!disk.skipped().empty()) GTEST_SKIP() << disk.skipped();
  store::SpaceFloor floor(disk.path(), 2u << 20, 0);
  EXPECT_TRUE(floor.admits(1000));
  disk.fill();
  EXPECT_TRUE(floor.admits(1999));
  EXPECT_FALSE(floor.admits(2000));
  disk.empty();
  EXPECT_TRUE(floor.admits(2000));
  disk.fill();
  floor.note_stored(8u << 20);
  EXPECT_FALSE(floor.admits(2001));
}

}  // namespace
}  // namespace telemetryd::test
