#include "ingest/uid_limits.h"

#include <gtest/gtest.h>

#include "support/fake_clock.h"

namespace telemetryd::ingest {
namespace {

using std::chrono::milliseconds;
using Admission = UidLimits::Admission;

constexpr UidLimits::Options kOptions{
    .connections_max = 3, .connections_per_uid_max = 2, .events_per_second_per_uid_max = 1000};

TEST(UidLimits, CountsConnectionsPerUidAndInAll) {
  test::FakeClock clock;
  UidLimits limits(clock, kOptions);
  EXPECT_EQ(limits.admit(1), Admission::kAdmitted);
  EXPECT_EQ(limits.admit(1), Admission::kAdmitted);
  EXPECT_EQ(limits.admit(1), Admission::kTooManyOfUid);
  EXPECT_EQ(limits.admit(2), Admission::kAdmitted);
  EXPECT_EQ(limits.admit(3), Admission::kTooMany);
  limits.leave(1);
  EXPECT_EQ(limits.admit(3), Admission::kAdmitted);
}

TEST(UidLimits, AnOverdrawnBucketWaitsUntilItIsLevel) {
  test::FakeClock clock;
  UidLimits limits(clock, kOptions);
  ASSERT_EQ(limits.admit(1), Admission::kAdmitted);
  limits.charge(1, 1000);
  EXPECT_EQ(limits.wait(1), milliseconds(0));
  EXPECT_EQ(limits.charge(1, 500), milliseconds(500));
  EXPECT_EQ(limits.wait(1), milliseconds(500));
  EXPECT_EQ(limits.wait(2), milliseconds(0)) << "others do not pay";
  clock.advance(milliseconds(499));
  EXPECT_EQ(limits.wait(1), milliseconds(1));
  clock.advance(milliseconds(1));
  EXPECT_EQ(limits.wait(1), milliseconds(0));
}

TEST(UidLimits, ABucketHoldsOneSecond) {
  test::FakeClock clock;
  UidLimits limits(clock, kOptions);
  ASSERT_EQ(limits.admit(1), Admission::kAdmitted);
  clock.advance(std::chrono::hours(1));
  limits.charge(1, 1001);
  EXPECT_EQ(limits.wait(1), milliseconds(1));
}

TEST(UidLimits, ReconnectingDoesNotFillTheBucket) {
  test::FakeClock clock;
  UidLimits limits(clock, kOptions);
  ASSERT_EQ(limits.admit(1), Admission::kAdmitted);
  limits.charge(1, 3000);
  limits.leave(1);
  ASSERT_EQ(limits.admit(1), Admission::kAdmitted);
  EXPECT_EQ(limits.wait(1), milliseconds(2000));
}

TEST(UidLimits, RemembersNobodyWhoIsGoneAndOwesNothing) {
  test::FakeClock clock;
  UidLimits limits(clock, kOptions);
  for (std::uint32_t uid = 0; uid < 1000; ++uid) {
    ASSERT_EQ(limits.admit(uid), Admission::kAdmitted);
    limits.charge(uid, 1);
    limits.leave(uid);
    clock.advance(milliseconds(1));
  }
  EXPECT_LE(limits.uids(), 3u);
}

TEST(UidLimits, BytesAreMeteredOnlyWhileAnotherSendsToo) {
  test::FakeClock clock;
  UidLimits limits(clock, kOptions);
  ASSERT_EQ(limits.admit(1), Admission::kAdmitted);
  ASSERT_EQ(limits.admit(2), Admission::kAdmitted);
  constexpr std::uint64_t kBurst = UidLimits::kSharedBytesBurst;
  EXPECT_EQ(limits.charge(1, 0, 10 * kBurst), milliseconds(0)) << "alone";
  EXPECT_EQ(limits.charge(2, 0, 100), milliseconds(0));
  EXPECT_EQ(limits.charge(1, 0, UidLimits::kSharedBytesPerSecond), milliseconds(1000));
  EXPECT_EQ(limits.wait(2), milliseconds(0)) << "who sends little does not pay";
  clock.advance(milliseconds(400));
  EXPECT_EQ(limits.wait(1), milliseconds(600));
  limits.charge(2, 0, 100);
  clock.advance(milliseconds(600));
  EXPECT_EQ(limits.wait(1), milliseconds(0));
  EXPECT_EQ(limits.charge(1, 0, kBurst), milliseconds(2000));
  clock.advance(UidLimits::kOthersSendFor - milliseconds(600));
  EXPECT_EQ(limits.wait(1), milliseconds(0)) << "the other has sent nothing for long enough";
}

TEST(UidLimits, ABurstIsFreeAlsoBesideOthers) {
  test::FakeClock clock;
  UidLimits limits(clock, kOptions);
  ASSERT_EQ(limits.admit(1), Admission::kAdmitted);
  ASSERT_EQ(limits.admit(2), Admission::kAdmitted);
  limits.charge(2, 0, 100);
  EXPECT_EQ(limits.charge(1, 0, UidLimits::kSharedBytesBurst), milliseconds(0));
  EXPECT_EQ(limits.charge(1, 0, 2048), milliseconds(1));
}

TEST(UidLimits, ARateOfZeroIsNone) {
  test::FakeClock clock;
  UidLimits limits(clock, {.connections_max = 1, .connections_per_uid_max = 1});
  ASSERT_EQ(limits.admit(1), Admission::kAdmitted);
  EXPECT_EQ(limits.charge(1, 4'000'000'000, 4'000'000'000), milliseconds(0));
  EXPECT_EQ(limits.wait(1), milliseconds(0));
}

}  // namespace
}  // namespace telemetryd::ingest
