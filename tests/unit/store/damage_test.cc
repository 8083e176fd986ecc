// Damage and strangers: what is noticed, what is counted, what is left alone.

#include <fstream>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "base/io.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

class Damage : public StoreTest {
 protected:
  void sql(const char* statement) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open((dir_ / "events.db").c_str(), &db), SQLITE_OK);
    char* error = nullptr;
    const int code = sqlite3_exec(db, statement, nullptr, nullptr, &error);
    EXPECT_EQ(code, SQLITE_OK) << (error != nullptr ? error : "");
    sqlite3_free(error);
    sqlite3_close(db);
  }

  void stop() {
    ASSERT_TRUE(store_->close());
    store_.reset();
  }

  // From here on deleting from `table` fails while refuse_deletes(true) holds.
  void arm(const std::string& table) {
    stop();
    sql(("CREATE TRIGGER refuse BEFORE DELETE ON " + table +
         " WHEN (SELECT value FROM identity WHERE key = 'refuse') = 'yes' "
         "BEGIN SELECT RAISE(ABORT, 'the disk refuses'); END")
            .c_str());
    open(small_store(dir_.path()));
  }

  void refuse_deletes(bool refuse) {
    ASSERT_TRUE(store_->set_identity("refuse", refuse ? "yes" : "no"));
  }

  std::shared_ptr<const store::ClientInfo> app_ = client(1);
};

TEST_F(Damage, ALeaseThatFailsHidesNoRow) {
  commit({frame(app_, 1, {"a"})});
  commit({frame(app_, 2, {"b", "c"})});
  commit({frame(app_, 3, {"d"})});
  arm("events");
  stop();
  sql("UPDATE events SET crc = crc + 1 WHERE count = 2");
  open(small_store(dir_.path()));
  refuse_deletes(true);
  ASSERT_FALSE(store_->lease(lease_of({"shop"})));
  refuse_deletes(false);
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), (std::vector<std::string>{"a", "d"}));
}

TEST_F(Damage, ASettlementOnDiskIsNoErrorWhenAWaitingErasureFails) {
  commit({frame(app_, 1, {"a", "b"})});
  arm("meta");
  const auto lent = lease(lease_of({"shop"}, 1));
  ASSERT_TRUE(store_->erase(1000, "shop"));
  refuse_deletes(true);
  const auto settled = store_->settle({lent.id, "upstream", {}});
  EXPECT_TRUE(settled) << settled.error().message();
  EXPECT_EQ(account("delivered"), 1);
  EXPECT_EQ(lease(lease_of({"shop"})).id, 0u);
  refuse_deletes(false);
  crash_and_reopen();
  EXPECT_EQ(account("erased", "withdrawn"), 1);
}

TEST_F(Damage, AKillBetweenWithdrawalAndErasureLosesNoErasure) {
  commit({frame(app_, 1, {"a"})});
  arm("events");
  refuse_deletes(true);
  ASSERT_TRUE(store_->set_consent({1000, "shop", store::Consent::kDisabled, 5}));
  EXPECT_EQ(account("queued"), 1);
  EXPECT_EQ(lease(lease_of({"shop"})).id, 0u);
  refuse_deletes(false);
  crash_and_reopen();
  EXPECT_EQ(account("erased", "withdrawn"), 1);
}

TEST_F(Damage, AWrongRowIsCountedLostAndTheOthersGoOn) {
  commit({frame(app_, 1, {"a"})});
  commit({frame(app_, 2, {"b", "c"})});
  commit({frame(app_, 3, {"d"})});
  stop();
  sql("UPDATE events SET blob = x'0A0158' WHERE count = 2");
  open(small_store(dir_.path()));
  EXPECT_FALSE(store_->check_ledger()->balanced);
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), (std::vector<std::string>{"a", "d"}));
  EXPECT_EQ(account("lost", "damage"), 2);
  EXPECT_EQ(account("queued"), 2);
  // The damaged blob was shorter than what the ledger had for it.
  ASSERT_TRUE(store_->idle());
  EXPECT_TRUE(store_->check_ledger()->balanced);
}

// Its dead letters, refusals and rows are of nobody then.
TEST_F(Damage, AnAppWhoseNameIsLostLeavesTheBooksBalanced) {
  commit({frame(client(2, "other-app"), 1, {"x"})});
  commit({frame(app_, 1, {"a", "b"})});
  const auto lent = lease(lease_of({"shop"}));
  settle(lent.id, {{lent.rows[0].meta.seq, 0, 1, "no"}});
  commit({frame(app_, 2, {"c"}), refused_frame(app_, 3, false, 4)});
  const std::int64_t accepted = account("accepted");
  stop();
  sql("DELETE FROM apps WHERE name = 'shop'");
  open(small_store(dir_.path()));
  expect_balanced();
  EXPECT_EQ(account("accepted"), accepted);
  EXPECT_EQ(account("lost", "damage"), 1) << "its queued row";
  commit({frame(client(3, "third-app"), 1, {"y"})});
  EXPECT_EQ(bodies_of(lease(lease_of({"third-app"}))), std::vector<std::string>{"y"});
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), std::vector<std::string>());
  expect_balanced();
}

TEST_F(Damage, ALostNameIsBookedOnceBesideRowsThatACrashLeft) {
  commit({frame(app_, 1, {"a", "b"})});
  reopen();
  commit({frame(app_, 2, {"c"})});
  store_.reset();
  sql("DELETE FROM apps WHERE name = 'shop'");
  open(small_store(dir_.path()));
  expect_balanced();
  EXPECT_EQ(account("accepted"), 3);
  EXPECT_EQ(account("lost", "damage"), 3);
  EXPECT_EQ(account("queued"), 0);
}

TEST_F(Damage, ALostNameTakesItsPartlyDeliveredRowsWithIt) {
  commit({frame(app_, 1, {"a", "b"})});
  stop();
  sql("INSERT INTO delivery(seq, next_index) SELECT seq, 1 FROM events");
  sql("UPDATE ledger SET value = value - 1 WHERE account = 'queued'");
  sql("INSERT INTO ledger(app, account, reason, value) SELECT id, 'delivered', '', 1 FROM apps");
  open(small_store(dir_.path()));
  expect_balanced();
  stop();
  sql("DELETE FROM apps WHERE name = 'shop'");
  open(small_store(dir_.path()));
  expect_balanced();
  EXPECT_EQ(account("lost", "damage"), 1);
}

TEST_F(Damage, MoreDeliveredThanARowHasIsCountedLost) {
  commit({frame(app_, 1, {"a", "b", "c"})});
  stop();
  sql("INSERT INTO delivery(seq, next_index) SELECT seq, 9 FROM events");
  open(small_store(dir_.path()));
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), std::vector<std::string>());
  EXPECT_EQ(account("lost", "damage"), 3);
  expect_balanced();
}

TEST_F(Damage, ADeletedWalIsNoticedWithTheSizeOfTheGap) {
  commit({frame(app_, 1, {"a", "b", "c"})});
  clock_.advance(std::chrono::seconds(2));
  ASSERT_TRUE(store_->idle());
  store_.reset();
  std::filesystem::remove(dir_ / "events.db-wal");
  open(small_store(dir_.path()));
  const auto loss = store_->info()->loss;
  ASSERT_TRUE(loss.has_value());
  EXPECT_NE(loss->find("lost 3 accepted events"), std::string::npos) << *loss;
  EXPECT_EQ(account("accepted"), 3);
  EXPECT_EQ(account("lost", "damage"), 3);
  reopen();
  EXPECT_EQ(store_->info()->loss, std::nullopt) << "told twice";
  EXPECT_EQ(account("lost", "damage"), 3);
}

// Its header, a byte of a frame, its end: SQLite opens with what lies before.
TEST_F(Damage, ADamagedLogIsNoticedWithTheSizeOfTheGap) {
  constexpr std::uint64_t kFrame = 8192 + 24;
  for (const std::uint64_t at : {std::uint64_t{8}, 32 + kFrame * 2 + 4000, std::uint64_t{0}}) {
    SCOPED_TRACE(at);
    store_.reset();
    std::filesystem::remove_all(dir_.path());
    std::filesystem::create_directory(dir_.path());
    open(small_store(dir_.path()));
    for (std::uint64_t i = 1; i <= 20; ++i) commit({frame(app_, i, {std::string(3000, 'x')})});
    clock_.advance(std::chrono::seconds(2));
    ASSERT_TRUE(store_->idle());
    const std::uint64_t epoch = store_->info()->epoch;
    store_.reset();
    if (at == 0) {
      std::filesystem::resize_file(dir_ / "events.db-wal", 32 + kFrame * 3 + 100);
    } else {
      std::fstream out(dir_ / "events.db-wal", std::ios::binary | std::ios::in | std::ios::out);
      out.seekp(static_cast<std::streamoff>(at));
      out << '\xA7';
      ASSERT_TRUE(out.flush().good());
    }
    open(small_store(dir_.path()));
    ASSERT_TRUE(store_->info()->loss.has_value());
    EXPECT_GT(store_->info()->epoch, epoch);
    EXPECT_EQ(account("accepted"), 20);
    EXPECT_EQ(account("lost", "damage") + account("queued"), 20);
    EXPECT_GT(account("lost", "damage"), 0);
    expect_balanced();
  }
}

TEST_F(Damage, AnotherDatabaseInItsPlaceIsNoticed) {
  commit({frame(app_, 1, {"a", "b", "c"})});
  stop();
  for (const char* name : {"events.db", "events.db-wal"}) std::filesystem::remove(dir_ / name);
  open(small_store(dir_.path()));
  ASSERT_TRUE(store_->info()->loss.has_value());
}

TEST_F(Damage, ALostTailIsNoticedWithTheSizeOfTheGap) {
  commit({frame(app_, 1, {"a"})});
  reopen();
  commit({frame(app_, 2, {"b", "c", "d"})});
  clock_.advance(std::chrono::seconds(2));
  ASSERT_TRUE(store_->idle());
  const std::uint64_t epoch = store_->info()->epoch;
  store_.reset();
  std::filesystem::remove(dir_ / "events.db-wal");
  open(small_store(dir_.path()));
  const auto info = store_->info();
  ASSERT_TRUE(info->loss.has_value());
  EXPECT_NE(info->loss->find("lost 3 accepted events"), std::string::npos) << *info->loss;
  EXPECT_GT(info->epoch, epoch) << "numbers of the lost epoch would be used again";
}

TEST_F(Damage, ACleanReopenAndACrashReportNoLoss) {
  commit({frame(app_, 1, {"a"})});
  reopen();
  EXPECT_EQ(store_->info()->loss, std::nullopt);
  commit({frame(app_, 2, {"b"})});
  crash_and_reopen();
  EXPECT_EQ(store_->info()->loss, std::nullopt);
}

TEST_F(Damage, ATornWitnessIsNoWitness) {
  commit({frame(app_, 1, {"a"})});
  stop();
  std::ofstream(dir_ / "witness", std::ios::binary) << "TLMWITN1 and then nothing";
  open(small_store(dir_.path()));
  EXPECT_EQ(store_->info()->loss, std::nullopt);
}

class Files : public testing::Test {
 protected:
  Error refusal() {
    const auto opened = store::open_sqlite_store(small_store(dir_.path()), clock_);
    if (opened) {
      ADD_FAILURE() << "was opened";
      return {ErrorCode::kInternal, ""};
    }
    return opened.error();
  }

  void make_database(const char* statements) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open((dir_ / "events.db").c_str(), &db), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(db, statements, nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(db);
  }

  std::string content(const std::string& name) {
    return read_file(dir_ / name, 1u << 24).value_or("");
  }

  TempDir dir_;
  FakeClock clock_;
};

TEST_F(Files, AForeignDatabaseIsLeftUntouched) {
  for (const char* id : {"PRAGMA application_id=7; CREATE TABLE theirs(x);",
                         "CREATE TABLE theirs(x); INSERT INTO theirs VALUES(1);"}) {
    make_database(id);
    const std::string before = content("events.db");
    const Error error = refusal();
    EXPECT_EQ(error.code(), ErrorCode::kFailedPrecondition);
    EXPECT_NE(error.message().find("another program"), std::string::npos) << error.message();
    EXPECT_EQ(content("events.db"), before);
    std::filesystem::remove(dir_ / "events.db");
  }
}

TEST_F(Files, ANewerFormatIsRefusedPolitely) {
  make_database("PRAGMA application_id=1414286660; PRAGMA user_version=3; CREATE TABLE t(x);");
  const Error error = refusal();
  EXPECT_EQ(error.code(), ErrorCode::kFailedPrecondition);
  EXPECT_NE(error.message().find("newer telemetryd"), std::string::npos) << error.message();
}

TEST_F(Files, SomethingElseThanADatabaseIsLeftUntouched) {
  std::ofstream(dir_ / "events.db") << std::string(5000, 'x');
  EXPECT_EQ(refusal().code(), ErrorCode::kFailedPrecondition);
  EXPECT_EQ(content("events.db"), std::string(5000, 'x'));
}

TEST_F(Files, AShellHearsThatTheDatabaseIsLocked) {
  // A process of its own that knows nothing of ours, because locks are a process's.
  int told[2];
  ASSERT_EQ(::pipe(told), 0);
  const pid_t shell = ::fork();
  if (shell == 0) {
    char go = 0;
    if (::read(told[0], &go, 1) != 1) ::_exit(255);
    sqlite3* db = nullptr;
    if (sqlite3_open((dir_ / "events.db").c_str(), &db) != SQLITE_OK) ::_exit(255);
    ::_exit(sqlite3_exec(db, "SELECT count(*) FROM events", nullptr, nullptr, nullptr));
  }
  const auto ours = store::open_sqlite_store(small_store(dir_.path()), clock_);
  EXPECT_TRUE(ours);
  EXPECT_EQ(::write(told[1], "!", 1), 1);
  int status = 0;
  ASSERT_EQ(::waitpid(shell, &status, 0), shell);
  ::close(told[0]);
  ::close(told[1]);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), SQLITE_BUSY);
}

TEST_F(Files, ADatabaseOfAnotherOwnerIsRefusedUntouched) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to give a file away";
  ASSERT_TRUE(store::open_sqlite_store(small_store(dir_.path()), clock_));
  const std::string before = content("events.db");
  ASSERT_EQ(::chown((dir_ / "events.db").c_str(), 65534, 65534), 0);
  EXPECT_EQ(refusal().code(), ErrorCode::kFailedPrecondition);
  EXPECT_EQ(content("events.db"), before);
}

TEST_F(Files, LinksPipesAndSecondNamesAreRefused) {
  std::ofstream(dir_ / "target") << "";
  for (const char* name : {"events.db", "events.db-wal", "witness", "lock"}) {
    std::filesystem::remove(dir_ / "lock");
    ASSERT_EQ(::symlink((dir_ / "target").c_str(), (dir_ / name).c_str()), 0);
    EXPECT_EQ(refusal().code(), ErrorCode::kFailedPrecondition) << name;
    std::filesystem::remove(dir_ / name);
    ASSERT_EQ(::mkfifo((dir_ / name).c_str(), 0600), 0);
    EXPECT_EQ(refusal().code(), ErrorCode::kFailedPrecondition) << name;
    std::filesystem::remove(dir_ / name);
    ASSERT_EQ(::link((dir_ / "target").c_str(), (dir_ / name).c_str()), 0);
    EXPECT_EQ(refusal().code(), ErrorCode::kFailedPrecondition) << name;
    std::filesystem::remove(dir_ / name);
  }
  EXPECT_EQ(std::filesystem::file_size(dir_ / "target"), 0u);
}

TEST_F(Files, ASecondDaemonHearsWhoHasTheStore) {
  const auto first = store::open_sqlite_store(small_store(dir_.path()), clock_);
  ASSERT_TRUE(first);
  const Error error = refusal();
  EXPECT_EQ(error.code(), ErrorCode::kFailedPrecondition);
  EXPECT_NE(error.message().find("pid " + std::to_string(::getpid()) + ")"), std::string::npos)
      << error.message();
}

TEST_F(Files, AReadOnlyDiskIsRefusedUntouchedAndTheWayOutIsNamed) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount";
  {
    ASSERT_TRUE(store::open_sqlite_store(small_store(dir_.path()), clock_));
  }
  const std::string before = content("events.db");
  bool mounted = false;
  // Mounts of a thread's own namespace go with it.
  std::thread([&] {
    const char* const folder = dir_.path().c_str();
    mounted = ::unshare(CLONE_NEWNS) == 0 &&
              ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
              ::mount(folder, folder, nullptr, MS_BIND, nullptr) == 0 &&
              ::mount(nullptr, folder, nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) == 0;
    if (!mounted) return;
    const Error error = refusal();
    EXPECT_EQ(error.code(), ErrorCode::kUnavailable);
    EXPECT_NE(error.message().find("read-only"), std::string::npos) << error.message();
    EXPECT_NE(error.message().find("telemetryd-salvage --output"), std::string::npos);
  }).join();
  if (!mounted) GTEST_SKIP() << "this machine lets nobody mount";
  EXPECT_EQ(content("events.db"), before);
}

TEST_F(Files, TheDatabaseIsOursAloneWhileItIsOpen) {
  const auto first = store::open_sqlite_store(small_store(dir_.path()), clock_);
  ASSERT_TRUE(first);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "events.db-shm"));
  struct stat info{};
  ASSERT_EQ(::stat((dir_ / "events.db").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

}  // namespace
}  // namespace telemetryd::test
