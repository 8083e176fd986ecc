// Which rows grow too old, by which clock, and who notices.

#include <chrono>

#include <gtest/gtest.h>

#include "store/uptime.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using Days = std::chrono::duration<std::int64_t, std::ratio<86400>>;

constexpr Days kAgeMax{30};
constexpr Days kTenYears{3652};

class Expiry : public StoreTest {
 protected:
  void SetUp() override { open(options()); }

  store::Options options() {
    auto options = small_store(dir_.path());
    options.event_age_max = kAgeMax;
    return options;
  }

  void start_again() {
    ASSERT_TRUE(store_->close());
    store_.reset();
    open(options());
  }

  void send(std::size_t events = 1) {
    commit({frame(app_, next_++, std::vector<std::string>(events, "e"))});
  }

  store::Store::Rest idle() {
    const auto rest = store_->idle();
    EXPECT_TRUE(rest);
    return rest ? *rest : store::Store::Rest();
  }

  std::int64_t expired() { return account("expired", "age"); }

  std::shared_ptr<const store::ClientInfo> app_ = client(1);
  std::uint64_t next_ = 1;
};

TEST_F(Expiry, RowsThatWaitedTooLongLeaveAndAreCounted) {
  send(3);
  clock_.advance(Days(10));
  send(2);
  clock_.advance(Days(20) - milliseconds(1));
  idle();
  EXPECT_EQ(expired(), 0);
  clock_.advance(milliseconds(1));
  idle();
  EXPECT_EQ(expired(), 3);
  EXPECT_EQ(account("queued"), 2);
}

TEST_F(Expiry, WithoutABoundNothingGrowsTooOld) {
  store_.reset();
  open(small_store(dir_.path()));
  send();
  clock_.advance(kTenYears);
  EXPECT_EQ(idle(), store::Store::Rest());
  EXPECT_EQ(expired(), 0);
}

TEST_F(Expiry, AClockThatLeapsForwardRemovesNothing) {
  send();
  clock_.jump(kTenYears);
  idle();
  send();
  start_again();
  idle();
  EXPECT_EQ(expired(), 0);
  EXPECT_EQ(lease(lease_of({"shop"})).events, 2u);
}

TEST_F(Expiry, AClockThatLeapsBackKeepsNothingLonger) {
  send();
  clock_.jump(-kTenYears);
  start_again();
  clock_.advance(kAgeMax);
  idle();
  EXPECT_EQ(expired(), 1);
}

TEST_F(Expiry, AMachineThatBootsIn1970GoesOnCounting) {
  send();
  clock_.advance(Days(20));
  ASSERT_TRUE(store_->close());
  store_.reset();
  FakeClock rebooted;
  rebooted.jump(-milliseconds(rebooted.unix_ms()));
  rebooted.advance(-milliseconds(rebooted.boot_ms()) + minutes(1));
  clock_ = rebooted;
  open(options());
  idle();
  EXPECT_EQ(expired(), 0);
  clock_.advance(Days(10) - minutes(2));
  idle();
  EXPECT_EQ(expired(), 0);
  clock_.advance(minutes(2));
  idle();
  EXPECT_EQ(expired(), 1);
}

TEST_F(Expiry, AKillForgetsAMinuteOfAgeAtMost) {
  send();
  clock_.advance(Days(20));
  ASSERT_TRUE(store_->save_destination_state("home", "{}"));
  store_.reset();
  FakeClock rebooted;
  rebooted.advance(-milliseconds(rebooted.boot_ms()));
  clock_ = rebooted;
  open(options());
  clock_.advance(Days(10) + minutes(1));
  idle();
  EXPECT_EQ(expired(), 1);
}

TEST_F(Expiry, SuspendCounts) {
  // The boot clock goes on through it, so it looks like any other time.
  send();
  clock_.advance(kAgeMax);
  idle();
  EXPECT_EQ(expired(), 1);
}

TEST_F(Expiry, WhatIsOnItsWayStaysUntilItsOutcomeIsKnown) {
  send(4);
  const auto lent = lease(lease_of({"shop"}, 2));
  clock_.advance(kAgeMax);
  idle();
  EXPECT_EQ(expired(), 0);
  settle(lent.id);
  clock_.advance(minutes(1));
  idle();
  EXPECT_EQ(account("delivered"), 2);
  EXPECT_EQ(expired(), 2);
}

TEST_F(Expiry, RidesAlongWithCommitsAndLeases) {
  send();
  clock_.advance(kAgeMax);
  send();
  EXPECT_EQ(expired(), 1);
  clock_.advance(kAgeMax);
  EXPECT_EQ(lease(lease_of({"shop"})).id, 0u);
  EXPECT_EQ(expired(), 2);
}

TEST_F(Expiry, OneWakeUpIsAskedForWhileRowsWaitAndNoneWithout) {
  EXPECT_EQ(idle(), store::Store::Rest());
  send();
  clock_.advance(Days(1));
  const auto rest = idle();
  ASSERT_TRUE(rest);
  EXPECT_LE(*rest, kAgeMax);
  clock_.advance(*rest);
  for (int calls = 0; calls < 3 && expired() == 0; ++calls) {
    if (const auto more = idle()) clock_.advance(*more);
  }
  EXPECT_EQ(expired(), 1);
  EXPECT_EQ(idle(), store::Store::Rest());
}

TEST_F(Expiry, ManyOldRowsGoInSlices) {
  for (int i = 0; i < 600; ++i) send();
  clock_.advance(kAgeMax);
  EXPECT_EQ(idle(), store::Store::Rest(milliseconds(0)));
  EXPECT_EQ(expired(), 256);
  idle();
  idle();
  EXPECT_EQ(expired(), 600);
  EXPECT_EQ(idle(), store::Store::Rest());
}

TEST_F(Expiry, RowsOfAnEpochThatNobodyKnowsStayLonger) {
  send();
  start_again();
  ASSERT_TRUE(store_->close());
  store_.reset();
  {
    auto db = store::Database::open((dir_ / "events.db").native(), "");
    ASSERT_TRUE(db);
    ASSERT_TRUE(db->exec("DELETE FROM meta WHERE key GLOB 'uptime*'"));
  }
  clock_.advance(kAgeMax);
  open(options());
  idle();
  EXPECT_EQ(expired(), 0);
  clock_.advance(kAgeMax);
  idle();
  EXPECT_EQ(expired(), 1);
}

// One field of `meta` that a disk gave back wrong.
class DamagedUptime : public Expiry {
 protected:
  void SetUp() override {
    Expiry::SetUp();
    send();
    clock_.advance(Days(10));
    start_again();
    send();
    clock_.advance(Days(10));
    ASSERT_TRUE(store_->close());
    store_.reset();
  }

  void damage(const std::string& update) {
    auto db = store::Database::open((dir_ / "events.db").native(), "");
    ASSERT_TRUE(db);
    ASSERT_TRUE(db->exec(("UPDATE meta SET " + update).c_str()));
  }

  // The first row is 20 days old, the second 10; whatever the damage, neither leaves before its
  // time, and both do in the end.
  void expect_nothing_early_and_all_in_the_end() {
    open(options());
    idle();
    EXPECT_EQ(expired(), 0);
    clock_.advance(Days(10) - minutes(2));
    idle();
    EXPECT_EQ(expired(), 0);
    start_again();
    clock_.advance(Days(10));
    idle();
    EXPECT_LE(expired(), 1);
    clock_.advance(kAgeMax);
    idle();
    EXPECT_EQ(expired(), 2);
  }
};

constexpr const char* kDamages[] = {
    "value = 1 << 60 WHERE key = 'uptime_ms'",
    "value = -(1 << 60) WHERE key = 'uptime_ms'",
    "value = '9' || value WHERE key = 'uptime_ms'",
    "value = 0 WHERE key = 'uptime_ms'",
    "value = x'00ff' WHERE key = 'uptime_ms'",
    "value = '9' || value WHERE key = 'uptime:2'",
    "value = '-9' || value WHERE key = 'uptime:1'",
    "value = '-' || replace(value, ' ', ' -') WHERE key GLOB 'uptime:*'",
    "key = 'uptime:9' WHERE key = 'uptime:1'",
};

class AnyDamagedUptime : public DamagedUptime, public testing::WithParamInterface<const char*> {};

INSTANTIATE_TEST_SUITE_P(Meta, AnyDamagedUptime, testing::ValuesIn(kDamages));

TEST_P(AnyDamagedUptime, RemovesNothingEarlyInTheSameBoot) {
  damage(GetParam());
  expect_nothing_early_and_all_in_the_end();
}

TEST_P(AnyDamagedUptime, RemovesNothingEarlyInANewBoot) {
  damage(GetParam());
  FakeClock rebooted;
  rebooted.advance(-milliseconds(rebooted.boot_ms()) + minutes(1));
  clock_ = rebooted;
  expect_nothing_early_and_all_in_the_end();
}

TEST_F(DamagedUptime, CostsNoAgeWithinOneBoot) {
  damage("value = 1 << 60 WHERE key = 'uptime_ms'");
  open(options());
  clock_.advance(Days(10));
  idle();
  EXPECT_EQ(expired(), 1);
}

TEST_F(Expiry, AnOldRowWhoseColumnsAreWrongIsBookedByNoneOfThem) {
  send();
  for (const char* damage : {"app = 77", "count = 1 << 40"}) {
    SCOPED_TRACE(damage);
    const std::int64_t lost = account("lost", "damage");
    send();
    ASSERT_TRUE(store_->close());
    store_.reset();
    {
      auto db = store::Database::open((dir_ / "events.db").native(), "");
      ASSERT_TRUE(db);
      const std::string update =
          "UPDATE events SET " + std::string(damage) + " WHERE seq = (SELECT max(seq) FROM events)";
      ASSERT_TRUE(db->exec(update.c_str()));
    }
    open(options());
    clock_.advance(kAgeMax);
    ASSERT_EQ(lease(lease_of({"shop"})).id, 0u);
    EXPECT_EQ(account("lost", "damage"), lost + 1);
    EXPECT_EQ(expired(), 1);
    expect_balanced();
    start_again();
  }
}

TEST_F(Expiry, StartsLeaveNothingBehindThatNoRowNeeds) {
  for (int i = 0; i < 5; ++i) start_again();
  ASSERT_TRUE(store_->close());
  store_.reset();
  auto db = store::Database::open((dir_ / "events.db").native(), "");
  ASSERT_TRUE(db);
  EXPECT_EQ(db->ask_integer("SELECT count(*) FROM meta WHERE key GLOB 'uptime:*'").value(), 1);
}

}  // namespace
}  // namespace telemetryd::test
