// Copies, backups and clones: a store that comes from elsewhere or from another time.

#include <fstream>

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

namespace fs = std::filesystem;

class Restore : public StoreTest {
 protected:
  void SetUp() override {
    if (machine_id().empty()) GTEST_SKIP() << "this machine has no ID";
    StoreTest::SetUp();
  }

  static std::string machine_id() {
    std::ifstream in("/etc/machine-id");
    std::string id;
    in >> id;
    return id;
  }

  // From here on the store was last open on a machine that is not this one.
  void come_from_elsewhere() {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open((dir_ / "events.db").c_str(), &db), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(db,
                           "UPDATE meta SET value = randomblob(16) WHERE key = 'machine'",
                           nullptr,
                           nullptr,
                           nullptr),
              SQLITE_OK);
    ASSERT_EQ(sqlite3_changes(db), 1);
    sqlite3_close(db);
  }

  void stop() {
    ASSERT_TRUE(store_->close());
    store_.reset();
  }

  void copy(const fs::path& from, const fs::path& to) {
    for (const char* name : {"events.db", "events.db-wal", "witness"}) {
      fs::copy_file(from / name, to / name, fs::copy_options::overwrite_existing);
    }
  }

  std::shared_ptr<const store::ClientInfo> app_ = client(1);
};

TEST_F(Restore, ACloneOnAnotherMachineIsAStoreOfItsOwnAndLosesNothing) {
  commit({frame(app_, 1, {"a", "b"})});
  const std::string uuid = store_->info()->store_uuid;
  const std::uint64_t epoch = store_->info()->epoch;
  stop();
  come_from_elsewhere();
  open(small_store(dir_.path()));
  EXPECT_NE(store_->info()->store_uuid, uuid);
  EXPECT_GT(store_->info()->epoch, epoch);
  EXPECT_EQ(store_->info()->loss, std::nullopt);
  EXPECT_EQ(account("lost", "damage"), 0);
  EXPECT_EQ(commit({frame(app_, 2, {"c"})}).at(0).kind, store::Answer::Kind::kStored);
  const std::string own = store_->info()->store_uuid;
  store_.reset();
  open(small_store(dir_.path()));
  EXPECT_EQ(store_->info()->store_uuid, own);
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), (std::vector<std::string>{"a", "b", "c"}));
}

TEST_F(Restore, ACloneWhoseFirstStartIsCutOffLosesNothingEither) {
  commit({frame(app_, 1, {"a"})});
  stop();
  std::ifstream in(dir_ / "witness", std::ios::binary);
  const std::string before{std::istreambuf_iterator<char>(in), {}};
  come_from_elsewhere();
  open(small_store(dir_.path()));
  store_.reset();
  std::ofstream(dir_ / "witness", std::ios::binary | std::ios::trunc) << before;
  open(small_store(dir_.path()));
  EXPECT_EQ(store_->info()->loss, std::nullopt);
  EXPECT_EQ(account("accepted"), 1);
}

TEST_F(Restore, ALogLostAfterTheFirstStartElsewhereLosesNothing) {
  commit({frame(app_, 1, {"a", "b"})});
  stop();
  come_from_elsewhere();
  open(small_store(dir_.path()));
  const std::string own = store_->info()->store_uuid;
  store_.reset();
  fs::resize_file(dir_ / "events.db-wal", 0);
  open(small_store(dir_.path()));
  EXPECT_EQ(store_->info()->store_uuid, own);
  EXPECT_EQ(store_->info()->loss, std::nullopt);
  EXPECT_EQ(account("lost", "damage"), 0);
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), (std::vector<std::string>{"a", "b"}));
}

// As in a container whose image has no ID of its own.
TEST_F(Restore, AnIdThatChangesAtEveryStartCostsNothing) {
  for (std::uint64_t start = 1; start <= 10; ++start) {
    commit({frame(app_, start, {"event"})});
    if (start % 2 == 0) {
      stop();
    } else {
      store_.reset();
    }
    come_from_elsewhere();
    open(small_store(dir_.path()));
    ASSERT_EQ(store_->info()->loss, std::nullopt) << start;
  }
  EXPECT_EQ(account("accepted"), 10);
  EXPECT_EQ(account("lost", "damage"), 0);
  EXPECT_EQ(lease(lease_of({"shop"})).events, 10u);
  expect_balanced();
}

TEST_F(Restore, TheSameMachineKeepsItsStore) {
  const std::string uuid = store_->info()->store_uuid;
  for (int i = 0; i < 3; ++i) {
    reopen();
    EXPECT_EQ(store_->info()->store_uuid, uuid);
  }
}

TEST_F(Restore, AnOlderDatabaseBesideANewerWitnessIsReportedAndNumbersGoOn) {
  commit({frame(app_, 1, {"a"})});
  stop();
  const TempDir backup;
  copy(dir_.path(), backup.path());
  open(small_store(dir_.path()));
  commit({frame(app_, 2, {"b", "c", "d"})});
  const std::uint64_t epoch = store_->info()->epoch;
  stop();
  fs::remove(backup / "witness");
  for (const char* name : {"events.db", "events.db-wal"}) {
    fs::copy_file(backup / name, dir_ / name, fs::copy_options::overwrite_existing);
  }
  open(small_store(dir_.path()));
  ASSERT_TRUE(store_->info()->loss.has_value());
  EXPECT_EQ(account("lost", "damage"), 3);
  EXPECT_GT(store_->info()->epoch, epoch);
}

TEST_F(Restore, TheRawMachineIdIsNotInTheStore) {
  stop();
  for (const char* name : {"events.db", "events.db-wal", "witness"}) {
    std::ifstream in(dir_ / name, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    EXPECT_EQ(bytes.find(machine_id()), std::string::npos) << name;
  }
}

}  // namespace
}  // namespace telemetryd::test
