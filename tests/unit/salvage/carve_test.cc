// Rows of a damaged store, taken from pages one by one.

#include "salvage/carve.h"

#include <fstream>
#include <map>
#include <random>

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "salvage/plan.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

namespace fs = std::filesystem;
using namespace salvage;

constexpr std::uint64_t kPage = 8192;

class Carve : public StoreTest {
 protected:
  void stop() {
    ASSERT_TRUE(store_->close());
    store_.reset();
  }

  void sql(const std::string& statement) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open((dir_ / "events.db").c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(db, statement.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(db);
    sqlite3_close(db);
  }

  void overwrite(std::uint64_t offset, const std::string& bytes) {
    std::fstream out(dir_ / "events.db", std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(offset));
    out << bytes;
    ASSERT_TRUE(out.flush().good());
  }

  PageFile pages() {
    auto file = PageFile::open(dir_.path());
    EXPECT_TRUE(file) << file.error().message();
    return std::move(*file);
  }

  // The bodies of all events that are found, and how often.
  std::map<std::string, int> carved() {
    std::map<std::string, int> found;
    PageFile file = pages();
    Carver carver;
    carver.on_row = [&](CarvedRow row) -> Result<void> {
      for (const std::string& body : bodies_of(row.blob)) ++found[body.substr(0, 12)];
      return {};
    };
    EXPECT_TRUE(carve(file, carver));
    damaged_ = carver.damaged_rows;
    damaged_pages_ = carver.damaged_pages;
    return found;
  }

  static std::string body(std::uint64_t number, std::size_t bytes) {
    std::string text = "event " + std::to_string(100'000 + number);
    text.resize(std::max(bytes, text.size()), 'x');
    return text;
  }

  // Small rows, rows that fill a page, and rows that overflow.
  void fill(std::uint64_t rows) {
    for (std::uint64_t i = 1; i <= rows; ++i) {
      const std::size_t bytes = i % 3 == 0 ? 50'000 : i % 3 == 1 ? 50 : 3000;
      commit({frame(app_, i, {body(i, bytes)})});
    }
  }

  std::shared_ptr<const store::ClientInfo> app_ = client(1);
  std::uint64_t damaged_ = 0;
  std::uint64_t damaged_pages_ = 0;
};

TEST_F(Carve, EveryRowOfAHealthyStoreIsFoundOnceInTheDatabaseOrItsLog) {
  fill(60);
  const auto in_log = [&] {
    const auto found = carved();
    EXPECT_EQ(found.size(), 60u);
    for (const auto& [text, times] : found) EXPECT_EQ(times, 1) << text;
    EXPECT_EQ(damaged_, 0u);
    EXPECT_EQ(damaged_pages_, 0u);
  };
  in_log();
  stop();
  in_log();
  fs::remove(dir_ / "events.db-wal");
  in_log();
}

TEST_F(Carve, RowsComeBackWithoutHeaderSchemaAndNeighbours) {
  fill(60);
  stop();
  fs::remove(dir_ / "events.db-wal");
  overwrite(0, std::string(kPage, '\0'));
  EXPECT_EQ(carved().size(), 60u);
  EXPECT_EQ(damaged_pages_, 0u) << "the first page has no events";
  // Every tenth page is wrong: what lies on others comes back.
  const std::uint64_t count = fs::file_size(dir_ / "events.db") / kPage;
  for (std::uint64_t page = 10; page < count; page += 10) {
    overwrite(page * kPage, std::string(kPage, '\xA5'));
  }
  const auto found = carved();
  EXPECT_GT(found.size(), 25u);
  EXPECT_LT(found.size(), 60u);
}

TEST_F(Carve, EveryPageThatIsNoPageAnyMoreIsCounted) {
  for (std::uint64_t i = 1; i <= 60; ++i) commit({frame(app_, i, {body(i, 3000)})});
  stop();
  fs::remove(dir_ / "events.db-wal");
  ASSERT_EQ(carved().size(), 60u);
  std::uint64_t broken = 0;
  {
    PageFile file = pages();
    for (std::uint32_t page = 3; page <= file.pages(); ++page) {
      if (!file.of_a_tree(page)) continue;
      overwrite((page - std::uint64_t{1}) * kPage, std::string(kPage, '\xA5'));
      ++broken;
    }
  }
  EXPECT_GT(broken, 20u);
  EXPECT_TRUE(carved().empty());
  EXPECT_EQ(damaged_pages_, broken);
}

TEST_F(Carve, ABrokenPointerMapIsCountedAndHidesNoRow) {
  fill(60);
  stop();
  fs::remove(dir_ / "events.db-wal");
  overwrite(kPage, std::string(kPage, '\xA5'));
  EXPECT_EQ(carved().size(), 60u);
  EXPECT_EQ(damaged_pages_, 1u);
}

TEST_F(Carve, TheLogAloneIsEnough) {
  fill(20);
  store_.reset();
  fs::remove(dir_ / "events.db");
  EXPECT_EQ(carved().size(), 20u);
}

TEST_F(Carve, ADamagedRowIsCountedAndNotBelieved) {
  fill(10);
  stop();
  for (const char* damage : {"blob = zeroblob(40)", "count = count + 1", "uid = 7", "app = 9"}) {
    sql("UPDATE events SET " + std::string(damage) + " WHERE seq = (SELECT min(seq) FROM events)");
    EXPECT_EQ(carved().size(), 9u) << damage;
    EXPECT_EQ(damaged_, 1u) << damage;
  }
}

TEST_F(Carve, WhatWasRemovedStaysAway) {
  fill(60);
  settle(lease(lease_of({"shop"}, 50)).id);
  stop();
  fs::remove(dir_ / "events.db-wal");
  EXPECT_EQ(carved().size(), 10u);
}

TEST_F(Carve, WhatWasDeliveredOfARowIsNotSentAgain) {
  commit({frame(app_, 1, {"a", "b", "c"})});
  settle(lease(lease_of({"shop"}, 2)).id);
  stop();
  PageFile file = pages();
  const auto plan = make_plan(file);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->events, 1u);
  std::vector<std::string> sent;
  ASSERT_TRUE(
      for_each_frame(file, plan->senders.begin()->second, [&](const Frame& frame) -> Result<void> {
        for (std::string& text : bodies_of(frame.batch)) sent.push_back(std::move(text));
        return {};
      }));
  EXPECT_EQ(sent, std::vector<std::string>{"c"});
}

TEST_F(Carve, RowsOfEveryFormatAreFound) {
  commit({frame(app_, 1, {"two"})});
  stop();
  // As format 1 wrote it, then as an upgrade leaves it, then one more of the upgraded table.
  sql("UPDATE events SET crc = crc & 4294967295; DROP INDEX events_by_class;"
      "ALTER TABLE events DROP COLUMN instance; ALTER TABLE events DROP COLUMN last_frame;"
      "CREATE INDEX events_by_class ON events(class, seq) WHERE class <> 0;"
      "PRAGMA user_version=1");
  EXPECT_EQ(carved().size(), 1u);
  open(small_store(dir_.path()));
  commit({frame(app_, 2, {"three"})});
  EXPECT_EQ(carved().size(), 2u);
  EXPECT_EQ(damaged_, 0u);
}

TEST_F(Carve, FramesFollowFromTheRowsAlone) {
  fill(30);
  commit({frame(client(2), 1, {"low"}, event::Class::kLow)});
  stop();
  const auto frames = [&] {
    std::vector<std::pair<std::uint64_t, std::string>> all;
    PageFile file = pages();
    const auto plan = make_plan(file);
    EXPECT_TRUE(plan);
    for (const auto& [who, sender] : plan->senders) {
      const std::string instance = to_hex(instance_of(who.first, who.second, sender));
      EXPECT_TRUE(for_each_frame(file, sender, [&](const Frame& frame) -> Result<void> {
        EXPECT_LE(frame.batch.size(), kFrameBytesMax);
        all.emplace_back(frame.number, instance + frame.batch);
        return {};
      }));
    }
    return all;
  };
  const auto first = frames();
  EXPECT_GT(first.size(), 2u);
  EXPECT_EQ(first, frames());
}

TEST_F(Carve, AnyBytesAreBorne) {
  fill(20);
  stop();
  const std::uint64_t bytes = fs::file_size(dir_ / "events.db");
  std::mt19937_64 random(7);
  for (int i = 0; i < 300; ++i) {
    overwrite(random() % bytes, std::string(1 + random() % 40, static_cast<char>(random())));
    EXPECT_LE(carved().size(), 20u);
  }
}

}  // namespace
}  // namespace telemetryd::test
