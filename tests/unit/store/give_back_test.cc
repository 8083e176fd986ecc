// What an outage has left on the disk goes back to it, and only then.

#include <chrono>
#include <filesystem>

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

using Rest = store::Store::Rest;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

class GiveBack : public StoreTest {
 protected:
  void SetUp() override {
    options_ = small_store(dir_.path());
    options_.bytes_max = 256u << 20;
    open(options_);
  }

  void send(int rows) {
    for (int i = 0; i < rows; ++i) {
      commit({frame(app_, next_++, {std::string(200u << 10, 'x')})});
      ASSERT_TRUE(store_->idle());
    }
  }

  void drain() {
    for (;;) {
      const auto lent = lease(lease_of({"shop"}));
      if (lent.id == 0) return;
      settle(lent.id);
    }
  }

  std::uintmax_t file_bytes() const { return std::filesystem::file_size(dir_ / "events.db"); }

  store::Options options_;
  std::shared_ptr<const store::ClientInfo> app_ = client(1);
  std::uint64_t next_ = 1;
};

TEST_F(GiveBack, ALongOutagesPagesGoBackWhenNothingIsWrittenAndThenItEnds) {
  send(100);
  const auto full = file_bytes();
  ASSERT_GT(full, 18u << 20);
  drain();
  Rest rest = store_->idle().value();
  ASSERT_TRUE(rest);
  EXPECT_LE(*rest, minutes(1));
  int calls = 0;
  for (; rest && calls < 1000; ++calls) {
    clock_.advance(*rest);
    rest = store_->idle().value();
  }
  EXPECT_LT(calls, 100);
  EXPECT_LT(file_bytes(), 3u << 20);
  EXPECT_EQ(store_->idle().value(), Rest());
  expect_balanced();
  send(1);
  EXPECT_EQ(account("queued"), 1);
}

TEST_F(GiveBack, ADatabaseThatGivesNothingBackIsLeftInPeace) {
  ASSERT_TRUE(store_->close());
  store_.reset();
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((dir_ / "events.db").c_str(), &db), SQLITE_OK);
  const char* const rewrite = "PRAGMA journal_mode=DELETE; PRAGMA auto_vacuum=0; VACUUM";
  ASSERT_EQ(sqlite3_exec(db, rewrite, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
  sqlite3_close(db);
  open(options_);
  send(100);
  drain();
  Rest rest = store_->idle().value();
  ASSERT_TRUE(rest);
  for (int calls = 0; rest && calls < 10; ++calls) {
    clock_.advance(*rest);
    rest = store_->idle().value();
  }
  EXPECT_EQ(rest, Rest());
}

TEST_F(GiveBack, WorkComesFirst) {
  send(100);
  drain();
  const auto full = file_bytes();
  for (int i = 0; i < 10; ++i) {
    clock_.advance(seconds(59));
    send(1);
  }
  // Apart from the step that the file was ahead of its pages.
  EXPECT_GE(file_bytes(), full - (2u << 20));
}

TEST_F(GiveBack, AQueueThatComesAndGoesKeepsItsPages) {
  for (int i = 0; i < 20; ++i) {
    send(5);
    drain();
    EXPECT_EQ(store_->idle().value(), Rest());
  }
}

TEST_F(GiveBack, ARestartGoesOnWithIt) {
  send(100);
  drain();
  ASSERT_TRUE(store_->close());
  store_.reset();
  open(options_);
  EXPECT_TRUE(store_->idle().value());
}

TEST_F(GiveBack, TheTimeUntilTheStoreIsFullFollowsTheRateOfTheLastMinutes) {
  EXPECT_EQ(store_->info()->time_to_full_s, std::nullopt);
  for (int i = 0; i < 30; ++i) {
    send(1);
    clock_.advance(seconds(10));
  }
  // 20 KiB a second into about 220 MiB.
  const auto left = store_->info()->time_to_full_s;
  ASSERT_TRUE(left);
  EXPECT_GT(*left, 9'000u);
  EXPECT_LT(*left, 12'000u);
  drain();
  EXPECT_EQ(store_->info()->time_to_full_s, std::nullopt);
}

}  // namespace
}  // namespace telemetryd::test
