#include "store/commit_pace.h"

#include <gtest/gtest.h>

namespace telemetryd::test {
namespace {

using namespace std::chrono_literals;
using store::CommitPace;

constexpr CommitPace::TimePoint kStart{1h};

// What trickles in at one event in `gap`, for so long: how many commits that makes.
int commits_of(CommitPace& pace, std::chrono::milliseconds gap, std::chrono::seconds length) {
  int commits = 0;
  auto due = CommitPace::TimePoint::max();
  for (auto now = kStart; now < kStart + length; now += gap) {
    if (due <= now) {
      pace.committed(due);
      ++commits;
      due = CommitPace::TimePoint::max();
    }
    due = std::min(due, pace.deadline(now));
  }
  return commits;
}

TEST(CommitPace, AFewEventsAreCommittedAfterTheShortDelay) {
  CommitPace pace(200ms, 10s);
  for (int i = 0; i < CommitPace::kQuickCommits; ++i) {
    EXPECT_EQ(pace.deadline(kStart), kStart + 200ms) << i;
    pace.committed(kStart);
  }
}

TEST(CommitPace, OneThatTricklesOnComesOnceInTheTrickleDelay) {
  CommitPace pace(200ms, 10s);
  for (int i = 0; i < CommitPace::kQuickCommits; ++i) pace.committed(kStart);
  EXPECT_EQ(pace.deadline(kStart), kStart + 10s);
  EXPECT_EQ(pace.deadline(kStart + 4s), kStart + 10s);
  EXPECT_EQ(pace.deadline(kStart + 9900ms), kStart + 10100ms);
  EXPECT_EQ(pace.deadline(kStart + 1min), kStart + 1min + 200ms);
}

TEST(CommitPace, NoWaitIsLongerThanTheTrickleDelayHoweverManyCommitsThereWere) {
  CommitPace pace(200ms, 10s);
  for (int i = 0; i < 100'000; ++i) pace.committed(kStart);
  EXPECT_EQ(pace.deadline(kStart), kStart + 10s);
}

TEST(CommitPace, QuickCommitsComeBackOneInATrickleDelay) {
  CommitPace pace(200ms, 10s);
  for (int i = 0; i < 1000; ++i) pace.committed(kStart);
  const auto later = kStart + 35s;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(pace.deadline(later), later + 200ms) << i;
    pace.committed(later);
  }
  EXPECT_GT(pace.deadline(later), later + 200ms);
}

TEST(CommitPace, AnHourOfOneEventASecondIsAFewHundredCommits) {
  CommitPace pace(200ms, 10s);
  EXPECT_LE(commits_of(pace, 1s, 1h), 3600 / 10 + CommitPace::kQuickCommits);
  CommitPace without(200ms, 0ms);
  EXPECT_EQ(commits_of(without, 1s, 1h), 3599);
}

}  // namespace
}  // namespace telemetryd::test
