#include "frame/frame.h"

#include <cstring>

#include <gtest/gtest.h>

namespace telemetryd::frame {
namespace {

TEST(Frame, AHeaderIsEightLittleEndianBytes) {
  uint8_t bytes[kHeaderBytes];
  encode_header({.length = 0x01020304, .type = Type::kEvents, .flags = kFlagCommitNow}, bytes);
  const uint8_t expected[] = {4, 3, 2, 1, 2, 1, 0, 0};
  EXPECT_EQ(std::memcmp(bytes, expected, sizeof expected), 0);
  const Header back = decode_header(bytes);
  EXPECT_EQ(back.length, 0x01020304u);
  EXPECT_EQ(back.type, Type::kEvents);
  EXPECT_EQ(back.flags, kFlagCommitNow);
}

TEST(Frame, AnEventsPrefixSurvivesTheRoundTrip) {
  uint8_t bytes[kEventsPrefixBytes];
  encode_events_prefix({.number = 1ull << 40, .count = 99, .persistence_class = 2, .urgency = 1},
                       bytes);
  const EventsPrefix back = decode_events_prefix(bytes);
  EXPECT_EQ(back.number, 1ull << 40);
  EXPECT_EQ(back.count, 99u);
  EXPECT_EQ(back.persistence_class, 2);
  EXPECT_EQ(back.urgency, 1);
}

TEST(Frame, ARefuseSurvivesTheRoundTrip) {
  uint8_t bytes[kRefusePrefixBytes];
  encode_refuse_prefix(
      {.number = 7, .code = Code::kStoreFull, .retryable = true, .retry_after_ms = 1500}, bytes);
  const Refuse back = decode_refuse_prefix(bytes);
  EXPECT_EQ(back.number, 7u);
  EXPECT_EQ(back.code, Code::kStoreFull);
  EXPECT_TRUE(back.retryable);
  EXPECT_EQ(back.retry_after_ms, 1500u);
}

TEST(Frame, AppNamesAreLowerCaseWordsOfAtMost64Bytes) {
  EXPECT_TRUE(app_name_valid("my-tool_2", 9));
  EXPECT_FALSE(app_name_valid("", 0));
  EXPECT_FALSE(app_name_valid("My", 2));
  EXPECT_FALSE(app_name_valid("a/b", 3));
  EXPECT_FALSE(app_name_valid(std::string(65, 'a').c_str(), 65));
}

}  // namespace
}  // namespace telemetryd::frame
