// What an administrator mutes is kept, bounded and said to those who upload.

#include "server/mutes.h"

#include <gtest/gtest.h>

#include "server/registry.h"
#include "server/storage.h"
#include "support/temp_dir.h"
#include "unit/server/support.h"

namespace telemetryd::server {
namespace {

using namespace std::chrono_literals;

constexpr UnixMs kNow = 1'732'003'200'000;

class ServerMutes : public testing::Test {
 protected:
  ServerMutes() {
    Registry registry(storage_.database, clock_);
    registry.create_organization("acme").value();
    tools_ = registry.create_application("acme", "tools").value().id;
    other_ = registry.create_application("acme", "other").value().id;
  }

  std::string told(const std::set<std::string_view>& uploaded, UnixMs now = kNow) {
    return mute_list(mutes_.of(tools_, now).value(), uploaded, now);
  }

  const test::TempDir dir_;
  test::SharedClock clock_;
  Storage storage_ = open_storage(dir_ / "db", StorageMode::kCreate).value();
  Mutes mutes_{storage_.database};
  std::int64_t tools_ = 0;
  std::int64_t other_ = 0;
};

TEST_F(ServerMutes, ANamedAppIsToldToWhoeverUploads) {
  ASSERT_TRUE(mutes_.mute(tools_, "loud", 2h, kNow));
  EXPECT_EQ(told({"quiet"}), R"("loud";s=7200)");
  EXPECT_EQ(told({}, kNow + 7'199'001), R"("loud";s=1)");
  EXPECT_EQ(told({}, kNow + 7'200'000), "");
  EXPECT_TRUE(mutes_.of(other_, kNow).value().empty());
}

TEST_F(ServerMutes, AllAppsAreToldByTheNamesThatWereUploaded) {
  ASSERT_TRUE(mutes_.mute(tools_, "", 1h, kNow));
  EXPECT_EQ(told({}), "");
  EXPECT_EQ(told({"one", "two"}), R"("one";s=3600, "two";s=3600)");
  ASSERT_TRUE(mutes_.mute(tools_, "two", 2h, kNow));
  EXPECT_EQ(told({"one", "two"}), R"("one";s=3600, "two";s=7200)");
}

TEST_F(ServerMutes, ADayIsToldAtMost) {
  ASSERT_TRUE(mutes_.mute(tools_, "loud", 7 * 24h, kNow));
  EXPECT_EQ(told({}), R"("loud";s=86400)");
  EXPECT_EQ(told({}, kNow + 6 * 86'400'000 + 1000), R"("loud";s=86399)");
}

TEST_F(ServerMutes, AnEndIsToldForAsLongAsDaemonsMayWait) {
  ASSERT_TRUE(mutes_.mute(tools_, "loud", 2h, kNow));
  ASSERT_TRUE(mutes_.mute(tools_, "", 2h, kNow));
  ASSERT_TRUE(mutes_.unmute(tools_, "loud", kNow));
  EXPECT_EQ(told({"quiet"}), R"("loud";s=0, "quiet";s=7200)");
  ASSERT_TRUE(mutes_.unmute(tools_, "", kNow)) << "all";
  EXPECT_EQ(told({"quiet"}), R"("loud";s=0)");
  EXPECT_EQ(told({}, kNow + 7'200'000), "");
  const auto again = mutes_.unmute(tools_, "loud", kNow);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), ErrorCode::kNotFound);

  ASSERT_TRUE(mutes_.mute(tools_, "loud", 1h, kNow)) << "the last word counts";
  EXPECT_EQ(told({}), R"("loud";s=3600)");
}

TEST_F(ServerMutes, NamesAreQuotedAndThoseThatAHeaderCannotHoldLeftOut) {
  ASSERT_TRUE(mutes_.mute(tools_, R"(7 "zip" \)", 60s, kNow));
  EXPECT_EQ(told({}), R"("7 \"zip\" \\";s=60)");
  ASSERT_TRUE(mutes_.mute(tools_, "", 60s, kNow));
  EXPECT_EQ(told({"a\r\nSet-Cookie: x", "caf\xc3\xa9", "b", std::string_view()}),
            R"("7 \"zip\" \\";s=60, "b";s=60)");
}

TEST_F(ServerMutes, WhatNoDaemonCouldHeedIsRefused) {
  for (const std::string& name : {std::string(65, 'x'), std::string("a\nb"), std::string("\xc3")}) {
    const auto refused = mutes_.mute(tools_, name, 60s, kNow);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ErrorCode::kInvalidArgument);
  }
  EXPECT_FALSE(mutes_.mute(tools_, "a", 0s, kNow));
  EXPECT_FALSE(mutes_.mute(tools_, "a", kMuteMax + 1s, kNow));
  EXPECT_TRUE(mutes_.of(tools_, kNow).value().empty());
}

TEST_F(ServerMutes, AreBoundedAndThoseThatAreOverMakeRoom) {
  for (std::int64_t i = 0; i < kMutesMax; ++i) {
    ASSERT_TRUE(mutes_.mute(tools_, "app" + std::to_string(i), 60s, kNow));
  }
  EXPECT_TRUE(mutes_.mute(other_, "one more", 60s, kNow));
  auto transaction = Transaction::begin(storage_.database).value();
  const auto refused = mutes_.mute(tools_, "one more", 60s, kNow);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kResourceExhausted);
  EXPECT_TRUE(mutes_.mute(other_, "one more", 60s, kNow + 60'000));
  EXPECT_EQ(storage_.database.query_int("SELECT count(*) FROM mutes").value(), 1);
}

}  // namespace
}  // namespace telemetryd::server
