#include "schedule/owed_answers.h"

#include <gtest/gtest.h>

namespace telemetryd::schedule {
namespace {

TEST(OwedAnswers, AnAnswerToOneDoesNotPostponeTheDeadlineOfAnother) {
  OwedAnswers owed;
  EXPECT_EQ(owed.deadline(), std::nullopt);
  owed.owe(1, 100);
  owed.owe(2, 150);
  owed.owe(3, 160);
  EXPECT_TRUE(owed.answered(2));
  EXPECT_EQ(owed.deadline(), 100);
  EXPECT_TRUE(owed.answered(1));
  EXPECT_EQ(owed.deadline(), 160);
}

TEST(OwedAnswers, AnAnswerCountsOnce) {
  OwedAnswers owed;
  owed.owe(1, 100);
  EXPECT_FALSE(owed.answered(2));
  EXPECT_TRUE(owed.answered(1));
  EXPECT_FALSE(owed.answered(1));
  EXPECT_EQ(owed.deadline(), std::nullopt);
}

}  // namespace
}  // namespace telemetryd::schedule
