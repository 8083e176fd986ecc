#include "forward/batch_size.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

namespace telemetryd::forward {
namespace {

constexpr BatchSize::Limits kFormat{1000, 5u << 20};

TEST(BatchSize, BeginsAtTheFormatsLimits) {
  const BatchSize size(kFormat);
  EXPECT_EQ(size.events(), 1000u);
  EXPECT_EQ(size.bytes(), 5u << 20);
}

TEST(BatchSize, IsHalvedDownToOneEventAndNeverBelow) {
  BatchSize size(kFormat);
  std::size_t events = 1000;
  while (events > 1) {
    size.too_large(events, events * 160);
    EXPECT_EQ(size.events(), std::max<std::size_t>(1, events / 2));
    EXPECT_EQ(size.bytes(), events * 90);
    events = size.events();
  }
  size.too_large(1, 160);
  EXPECT_EQ(size.events(), 1u);
  EXPECT_EQ(size.bytes(), 90u);
}

TEST(BatchSize, ASmallBatchThatPassesSaysNothingAboutTheLimit) {
  BatchSize size(kFormat);
  size.too_large(1000, 1000000);
  for (std::size_t i = 0; i < 10 * BatchSize::kPassesToGrow; ++i) size.passed(false);
  EXPECT_EQ(size.events(), 500u);
  EXPECT_EQ(size.bytes(), 562500u);
}

TEST(BatchSize, GrowsBackAfterManyFullBatches) {
  BatchSize size(kFormat);
  size.too_large(1000, 1000000);
  for (std::size_t i = 1; i < BatchSize::kPassesToGrow; ++i) size.passed(true);
  EXPECT_EQ(size.events(), 500u);
  size.passed(true);
  EXPECT_EQ(size.events(), 625u);
  EXPECT_EQ(size.bytes(), 703125u);
  for (int i = 0; i < 2000; ++i) size.passed(true);
  EXPECT_EQ(size.events(), kFormat.events);
  EXPECT_EQ(size.bytes(), kFormat.bytes);
}

TEST(BatchSize, AFailedTryGoesBackToWhatPassedAndWaitsLonger) {
  BatchSize size(kFormat);
  size.too_large(1000, 1000000);
  for (std::size_t i = 0; i < BatchSize::kPassesToGrow; ++i) size.passed(true);
  ASSERT_EQ(size.events(), 625u);
  size.too_large(625, 400000);
  EXPECT_EQ(size.events(), 500u);
  for (std::size_t i = 0; i < BatchSize::kPassesToGrow; ++i) size.passed(true);
  EXPECT_EQ(size.events(), 500u);
  for (std::size_t i = 0; i < BatchSize::kPassesToGrow; ++i) size.passed(true);
  EXPECT_EQ(size.events(), 625u);
}

TEST(BatchSize, ATryDoesNotHideThatTheKnownSizeIsTooLargeByNow) {
  BatchSize size(kFormat);
  size.too_large(1000, 1000000);
  for (std::size_t i = 0; i < BatchSize::kPassesToGrow; ++i) size.passed(true);
  size.too_large(400, 300000);
  EXPECT_EQ(size.events(), 200u);
  EXPECT_EQ(size.bytes(), 168750u);
}

BatchSize reread(const BatchSize& size) {
  BatchSize again(kFormat);
  again.read(size.text());
  return again;
}

TEST(BatchSize, WhatWasLearnedCanBeWrittenDownAndReadAgain) {
  BatchSize size(kFormat);
  size.too_large(1000, 1000000);
  for (std::size_t i = 1; i < BatchSize::kPassesToGrow; ++i) size.passed(true);
  EXPECT_LE(size.text().size(), 256u);
  BatchSize again = reread(size);
  EXPECT_EQ(again.events(), 500u);
  EXPECT_EQ(again.bytes(), 562500u);
  for (std::size_t i = 0; i < BatchSize::kPassesToGrow / 4; ++i) again.passed(true);
  EXPECT_EQ(again.events(), 625u) << "what passed before counts, in quarters";

  again.too_large(625, 400000);
  again = reread(again);
  for (std::size_t i = 1; i < 2 * BatchSize::kPassesToGrow; ++i) again.passed(true);
  EXPECT_EQ(again.events(), 500u) << "and so does the patience";
  again.passed(true);
  EXPECT_EQ(reread(again).events(), 625u) << "a try that is not over begins again";
  EXPECT_EQ(reread(again).text(), again.text());
}

TEST(BatchSize, NotEveryFullRequestIsAReasonToWrite) {
  BatchSize size(kFormat);
  size.too_large(1000, 1000000);
  std::set<std::string> texts;
  for (std::size_t i = 1; i < BatchSize::kPassesToGrow; ++i) {
    size.passed(true);
    texts.insert(size.text());
  }
  EXPECT_EQ(texts.size(), 4u);
}

TEST(BatchSize, IsEmptyTextWhileNothingWasLearned) {
  BatchSize size(kFormat);
  for (int i = 0; i < 100; ++i) size.passed(true);
  EXPECT_EQ(size.text(), "");
  EXPECT_EQ(reread(size).events(), kFormat.events);
}

TEST(BatchSize, TextThatCannotBeReadIsAsIfNothingWereKnown) {
  for (const char* text :
       {"",
        "7",
        "[]",
        "{",
        "hello",
        "\xff\xfe",
        R"({"version":2,"events":5,"bytes":5,"passes":0,"patience":32})",
        R"({"events":5,"bytes":5,"passes":0,"patience":32})",
        R"({"version":1,"events":0,"bytes":5,"passes":0,"patience":32})",
        R"({"version":1,"events":1001,"bytes":5,"passes":0,"patience":32})",
        R"({"version":1,"events":-5,"bytes":5,"passes":0,"patience":32})",
        R"({"version":1,"events":5.5,"bytes":5,"passes":0,"patience":32})",
        R"({"version":1,"events":"5","bytes":5,"passes":0,"patience":32})",
        R"({"version":1,"events":5,"bytes":0,"passes":0,"patience":32})",
        R"({"version":1,"events":5,"bytes":99999999999999999999,"passes":0,"patience":32})",
        R"({"version":1,"events":5,"bytes":5242881,"passes":0,"patience":32})",
        R"({"version":1,"events":5,"bytes":5,"passes":4097,"patience":32})",
        R"({"version":1,"events":5,"bytes":5,"passes":0,"patience":31})",
        R"({"version":1,"events":5,"bytes":5,"passes":0,"patience":4097})",
        R"({"version":1,"events":5,"bytes":5})"}) {
    BatchSize size(kFormat);
    size.too_large(1000, 1000);
    size.read(text);
    EXPECT_EQ(size.events(), kFormat.events) << text;
    EXPECT_EQ(size.bytes(), kFormat.bytes) << text;
    EXPECT_EQ(size.text(), "") << text;
  }
  BatchSize size(kFormat);
  size.read(R"({"version":1,"events":5,"bytes":6,"passes":0,"patience":32,"more":[]})");
  EXPECT_EQ(size.events(), 5u);
  EXPECT_EQ(size.bytes(), 6u);
}

}  // namespace
}  // namespace telemetryd::forward
