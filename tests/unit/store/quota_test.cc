// What happens at the quota: who leaves, who is refused, and that it is counted.

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "store/open_database.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

constexpr std::size_t kBodyBytes = 20u << 10;

class Quota : public StoreTest {
 protected:
  void SetUp() override {}

  store::Options options(store::WhenFull when_full) {
    auto options = small_store(dir_.path());
    options.bytes_max = 3u << 20;
    options.when_full = when_full;
    return options;
  }

  void start(store::WhenFull when_full) { open(options(when_full)); }

  store::Append big(std::uint64_t number, event::Class persistence_class = event::Class::kNormal) {
    return frame(app_, number, {std::string(kBodyBytes, 'x')}, persistence_class);
  }

  // Sends until something was evicted; the number of frames sent.
  std::uint64_t fill(std::uint64_t from) {
    std::uint64_t number = from;
    while (account("evicted", "quota") == 0 && number < from + 500) commit({big(number++)});
    return number - from;
  }

  std::shared_ptr<const store::ClientInfo> app_ = client(1);
};

TEST_F(Quota, TheOldestRowsLeaveAndAreCounted) {
  start(store::WhenFull::kEvictOldest);
  const std::uint64_t sent = fill(1);
  const std::int64_t evicted = account("evicted", "quota");
  EXPECT_GT(evicted, 0);
  EXPECT_EQ(account("queued") + evicted, static_cast<std::int64_t>(sent));
  const auto left = store_->list({.limit = 1});
  ASSERT_TRUE(left);
  const auto first = lease(lease_of({"shop"}, 1));
  EXPECT_EQ(first.rows[0].meta.seq, left->front().row.seq);
}

TEST_F(Quota, TheDiskStaysWithinTheQuota) {
  start(store::WhenFull::kEvictOldest);
  for (std::uint64_t number = 1; number <= 400; ++number) {
    commit({big(number)});
    ASSERT_TRUE(store_->idle());
  }
  EXPECT_LE(store_->info()->bytes, 3u << 20);
}

TEST_F(Quota, LowRowsLeaveBeforeOlderNormalOnesAndCriticalOnesLast) {
  start(store::WhenFull::kEvictOldest);
  commit({big(1, event::Class::kCritical), big(2), big(3, event::Class::kLow)});
  fill(4);
  std::vector<event::Class> left;
  const auto listed = store_->list({.limit = 2});
  for (const auto& event : *listed) left.push_back(event.row.persistence_class);
  EXPECT_EQ(left[0], event::Class::kCritical);
  for (std::uint64_t number = 1000; number < 1200; ++number) {
    // Numbers go on where fill() stopped.
    const std::uint64_t next = store_->high_water(app_->key)->value() + 1;
    commit({big(next)});
  }
  EXPECT_EQ(store_->list({.limit = 1})->front().row.persistence_class, event::Class::kCritical);
}

TEST_F(Quota, LeasedRowsStay) {
  start(store::WhenFull::kEvictOldest);
  commit({big(1)});
  const auto lent = lease(lease_of({"shop"}));
  fill(2);
  settle(lent.id);
  EXPECT_EQ(account("delivered"), 1);
}

TEST_F(Quota, WhatLeavesInSeveralPortionsIsCountedOnceBesideARowThatStays) {
  start(store::WhenFull::kEvictOldest);
  commit({big(1)});
  const auto held = lease(lease_of({"shop"}, 1));
  std::uint64_t sent = 1 + fill(2);
  std::vector<store::Append> group;
  for (int i = 0; i < 30; ++i) group.push_back(big(++sent));
  commit(group);
  EXPECT_EQ(account("queued") + account("evicted", "quota"), static_cast<std::int64_t>(sent));
  EXPECT_TRUE(store_->check_ledger()->balanced);
}

TEST_F(Quota, DeadLettersLeaveWhenNoRowIsLeftToEvict) {
  start(store::WhenFull::kEvictOldest);
  std::uint64_t number = 1;
  for (; number <= 300; ++number) {
    ASSERT_EQ(commit({big(number)}).front().kind, store::Answer::Kind::kStored) << number;
    const auto lent = lease(lease_of({"shop"}));
    ASSERT_EQ(lent.rows.size(), 1u);
    settle(lent.id, {{lent.rows[0].meta.seq, 0, 1, "no"}});
    ASSERT_TRUE(store_->idle());
  }
  EXPECT_GT(account("parked"), 0);
  EXPECT_GT(account("evicted", "quota"), 0);
  EXPECT_EQ(account("parked") + account("evicted", "quota"), 300);
  EXPECT_LE(store_->info()->bytes, 3u << 20);
}

TEST_F(Quota, RowsLeaveBeforeDeadLetters) {
  start(store::WhenFull::kEvictOldest);
  commit({big(1)});
  const auto lent = lease(lease_of({"shop"}));
  settle(lent.id, {{lent.rows[0].meta.seq, 0, 1, "no"}});
  fill(2);
  EXPECT_EQ(account("parked"), 1);
}

TEST_F(Quota, RefusingKeepsWhatIsThereAndTellsTheSenderToRetry) {
  start(store::WhenFull::kRefuse);
  std::uint64_t number = 1;
  store::Answer last;
  while (number < 500) {
    last = commit({big(number)}).front();
    if (last.kind == store::Answer::Kind::kRefused) break;
    ++number;
  }
  ASSERT_EQ(last.kind, store::Answer::Kind::kRefused);
  EXPECT_EQ(last.refusal.code, frame::Code::kStoreFull);
  EXPECT_TRUE(last.refusal.retryable);
  EXPECT_EQ(account("evicted", "quota"), 0);
  EXPECT_EQ(account("queued"), static_cast<std::int64_t>(number - 1));
  for (int i = 0; i < 10; ++i) settle(lease(lease_of({"shop"}, 5)).id);
  EXPECT_EQ(commit({big(number)}).front().kind, store::Answer::Kind::kStored);
}

// Rows take more room than their events: here a hundred times as much.
class SmallEventsWithLongContexts : public Quota {
 protected:
  // Which does not fit beside fifty big events, when a third of the pages are free.
  std::vector<store::Append> many() {
    std::vector<store::Append> group;
    for (std::uint32_t uid = 5000; uid < 5300; ++uid) {
      auto sender = std::make_shared<store::ClientInfo>(*client(1, "shop", uid));
      sender->context = std::string(4000, 'c');
      group.push_back(frame(sender, 1, {"e"}));
    }
    return group;
  }

  void fill_two_thirds() {
    for (std::uint64_t number = 1; number <= 50; ++number) commit({big(number)});
    ASSERT_EQ(account("evicted", "quota"), 0);
  }
};

TEST_F(SmallEventsWithLongContexts, AreRefusedForNowWhenTheyDoNotFit) {
  start(store::WhenFull::kRefuse);
  fill_two_thirds();
  for (const store::Answer& answer : commit(many())) {
    ASSERT_EQ(answer.kind, store::Answer::Kind::kRefused);
    EXPECT_EQ(answer.refusal.code, frame::Code::kStoreFull);
    EXPECT_TRUE(answer.refusal.retryable);
  }
  EXPECT_EQ(account("queued"), 50);
  EXPECT_TRUE(store_->info()->troubles.empty());
}

TEST_F(SmallEventsWithLongContexts, TakeThePlaceOfOlderOnes) {
  start(store::WhenFull::kEvictOldest);
  fill_two_thirds();
  for (const store::Answer& answer : commit(many())) {
    ASSERT_EQ(answer.kind, store::Answer::Kind::kStored);
  }
  EXPECT_GT(account("evicted", "quota"), 0);
  EXPECT_EQ(account("queued") + account("evicted", "quota"), 350);
}

TEST_F(SmallEventsWithLongContexts, ParkedTakeThePlaceOfOlderDeadLetters) {
  start(store::WhenFull::kEvictOldest);
  auto sender = std::make_shared<store::ClientInfo>(*client(2));
  sender->context = std::string(4000, 'c');
  const std::vector<std::string> bodies(320, "e");
  for (std::uint64_t number = 1; number <= 12; ++number) {
    ASSERT_EQ(commit({frame(sender, number, bodies)}).front().kind, store::Answer::Kind::kStored);
    const auto lent = lease(lease_of({"shop"}));
    ASSERT_EQ(lent.rows.size(), 1u);
    settle(lent.id, {{lent.rows[0].meta.seq, 0, 320, "no"}});
    ASSERT_TRUE(store_->idle());
  }
  EXPECT_GT(account("evicted", "quota"), 0);
  EXPECT_EQ(account("parked") + account("evicted", "quota"), 12 * 320);
}

TEST_F(Quota, ConsentRecordsOfOneUserAreBoundedAndOffForAllToolsAlwaysFits) {
  start(store::WhenFull::kEvictOldest);
  const auto decide = [&](std::uint32_t uid, const std::string& app) {
    return store_->set_consent({uid, app, store::Consent::kEnabled, 1});
  };
  int taken = 0;
  while (taken < 2000 && decide(1000, "app" + std::to_string(taken))) ++taken;
  EXPECT_EQ(taken, 512);
  EXPECT_EQ(decide(1000, "one-more").error().code(), ErrorCode::kResourceExhausted);
  EXPECT_TRUE(decide(1000, "app7"));
  EXPECT_TRUE(decide(1001, "one-more"));
  EXPECT_TRUE(store_->set_consent({1000, "", store::Consent::kDisabled, 2}));
}

// Two senders; the second floods.
class Flood : public Quota {
 protected:
  void flood(const std::shared_ptr<const store::ClientInfo>& by) {
    std::uint64_t next = store_->high_water(by->key).value().value_or(0) + 1;
    for (int i = 0; i < 300; ++i) {
      auto answers = commit({frame(by, next++, {std::string(kBodyBytes, 'x')}, flood_class_)});
      ASSERT_EQ(answers.front().kind, store::Answer::Kind::kStored);
    }
  }

  std::int64_t evicted(const std::string& app) {
    return store_->ledger().value()[app].get("evicted", "quota");
  }

  event::Class flood_class_ = event::Class::kCritical;
};

TEST_F(Flood, OneUsersFloodEvictsNobodyElsesEventsWhateverTheirClass) {
  start(store::WhenFull::kEvictOldest);
  const auto quiet = client(1, "quiet", 1000);
  for (std::uint64_t number = 1; number <= 10; ++number) {
    commit({frame(quiet, number, {std::string(kBodyBytes, 'q')}, event::Class::kLow)});
  }
  flood(client(2, "flood", 1001));
  EXPECT_EQ(evicted("quiet"), 0);
  EXPECT_GT(evicted("flood"), 100);
  // Nor when they share the app's name.
  flood(client(3, "quiet", 1001));
  EXPECT_EQ(store_->list({.uid = 1000})->size(), 10u);
}

TEST_F(Flood, OneAppsFloodEvictsNothingOfAnotherOfTheSameUser) {
  start(store::WhenFull::kEvictOldest);
  commit({frame(client(1, "quiet"), 1, {"q"}, event::Class::kLow)});
  flood(client(2, "flood"));
  EXPECT_EQ(evicted("quiet"), 0);
}

TEST_F(Flood, AfterARestartTheFloodOfBeforeStillGivesWay) {
  start(store::WhenFull::kEvictOldest);
  const auto quiet = client(1, "quiet", 1000);
  commit({frame(quiet, 1, {std::string(kBodyBytes, 'q')})});
  flood(client(2, "flood", 1001));
  const std::int64_t before = evicted("flood");
  ASSERT_TRUE(store_->close());
  store_.reset();
  start(store::WhenFull::kEvictOldest);
  for (std::uint64_t number = 2; number <= 20; ++number) {
    commit({frame(quiet, number, {std::string(kBodyBytes, 'q')})});
  }
  EXPECT_EQ(evicted("quiet"), 0);
  EXPECT_GT(evicted("flood"), before);
}

TEST_F(Flood, WhoHasEnoughGivesWayByClassAndAge) {
  start(store::WhenFull::kEvictOldest);
  const auto one = client(1, "one");
  flood_class_ = event::Class::kNormal;
  flood(one);
  const std::uint64_t next = store_->high_water(one->key)->value() + 1;
  const std::int64_t before = evicted("one");
  commit({frame(one, next, {"low"}, event::Class::kLow)});
  flood(one);
  EXPECT_GT(evicted("one"), before);
  const auto rows = store_->list({.limit = 10'000});
  for (const auto& event : *rows) EXPECT_EQ(event.row.persistence_class, event::Class::kNormal);
}

class OldFile {
 public:
  explicit OldFile(const std::filesystem::path& path) {
    EXPECT_EQ(sqlite3_open(path.c_str(), &db_), SQLITE_OK);
  }

  ~OldFile() { sqlite3_close(db_); }

  void run(const std::string& sql) {
    ASSERT_EQ(sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sql << ": " << sqlite3_errmsg(db_);
  }

  std::uint64_t ask(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    EXPECT_EQ(sqlite3_prepare_v2(db_, sql.c_str(), -1, &statement, nullptr), SQLITE_OK);
    EXPECT_EQ(sqlite3_step(statement), SQLITE_ROW);
    const auto value = static_cast<std::uint64_t>(sqlite3_column_int64(statement, 0));
    sqlite3_finalize(statement);
    return value;
  }

  void fill_pages(std::uint64_t pages) {
    for (int i = 0; ask("PRAGMA page_count") < pages || ask("PRAGMA freelist_count") > 0; ++i) {
      ASSERT_LT(i, 1000);
      run("INSERT INTO identity VALUES('fill " + std::to_string(i) + "', hex(zeroblob(3000)))");
    }
  }

  // No page of `meta` has room for one more entry of so many bytes.
  void fill_meta(const std::string& value_bytes) {
    const std::uint64_t pages = ask("PRAGMA page_count");
    for (int i = 0; i < 1000; ++i) {
      run("SAVEPOINT one");
      run("INSERT INTO meta VALUES('a" + value_bytes + ":" + std::to_string(i) + "', zeroblob(" +
          value_bytes + "))");
      if (ask("PRAGMA page_count") > pages) return run("ROLLBACK TO one; RELEASE one");
      run("RELEASE one");
    }
    FAIL() << "meta does not grow";
  }

 private:
  sqlite3* db_ = nullptr;
};

TEST_F(Quota, AFullStoreOfFormatOneIsUpgraded) {
  start(store::WhenFull::kEvictOldest);
  commit({big(1)});
  ASSERT_TRUE(store_->close());
  store_.reset();
  {
    OldFile file(dir_ / "events.db");
    file.run(
        "BEGIN; ALTER TABLE events DROP COLUMN instance; ALTER TABLE events DROP COLUMN last_frame;"
        "DELETE FROM meta WHERE key='booked_up_to'; UPDATE events SET crc = crc & 4294967295;"
        "PRAGMA user_version=1");
    file.fill_pages(store::split_quota(options(store::WhenFull::kEvictOldest)).pages);
    file.fill_meta("200");
    file.fill_meta("1");
    file.run("COMMIT");
  }
  start(store::WhenFull::kEvictOldest);
  ASSERT_TRUE(store_);
  EXPECT_EQ(account("queued"), 1);
  EXPECT_EQ(lease(lease_of({"shop"})).events, 1u);
}

}  // namespace
}  // namespace telemetryd::test
