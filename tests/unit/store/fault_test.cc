// What the store says and keeps when the disk fails, wherever it fails.

#include <algorithm>
#include <chrono>
#include <optional>
#include <ostream>
#include <set>

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "store/database.h"
#include "store/quarantine.h"
#include "support/failing_vfs.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

using Kind = store::Answer::Kind;
using Op = FailingVfs::Op;
using std::chrono::seconds;

constexpr std::size_t kBodyBytes = 40u << 10;
constexpr auto kPauseMax = std::chrono::minutes(2);

std::string body(std::uint64_t number) {
  std::string text(kBodyBytes, 'x');
  // On a page of its own, which no other row shares.
  text.replace(kBodyBytes / 2, 12, "middle " + std::to_string(10'000 + number));
  return text.replace(0, 12, "number " + std::to_string(10'000 + number));
}

class FaultBase {
 protected:
  store::Options options() {
    auto options = small_store(dir_.path());
    options.vfs = vfs_.name();
    // A small WAL, so that checkpoints belong to every history.
    options.bytes_max = 8u << 20;
    options.wal_pregrow_bytes = 256u << 10;
    return options;
  }

  void open() {
    auto opened = store::open_sqlite_store(options(), clock_);
    ASSERT_TRUE(opened) << opened.error().message();
    store_ = std::move(*opened);
  }

  void open_again() {
    store_.reset();
    open();
  }

  // As a client that keeps what was not acknowledged. Only an unknown outcome opens anew.
  std::optional<Error> send() {
    clock_.advance(seconds(1));
    const auto answers = store_->commit({{frame(app_, next_, {body(next_)}, class_)}});
    if (!answers) return answers.error();
    if (answers->front().kind == Kind::kRefused) {
      EXPECT_TRUE(answers->front().refusal.retryable) << answers->front().refusal.text;
      return Error(ErrorCode::kUnavailable, answers->front().refusal.text);
    }
    acked_.insert(body(next_++));
    return std::nullopt;
  }

  // Lends two events and reports them as delivered, but every third lot's first as rejected.
  std::optional<Error> deliver() {
    const auto lent = store_->lease(lease_of({"shop"}, 2));
    if (!lent) return lent.error();
    if (lent->id == 0) return std::nullopt;
    std::vector<store::Rejected> rejected;
    if (++lots_ % 3 == 0) rejected = {{lent->rows[0].meta.seq, lent->rows[0].first_index, 1, "no"}};
    for (std::string& sent : bodies_of(*lent)) upstream_.insert(std::move(sent));
    const auto settled = store_->settle({lent->id, "upstream", rejected});
    if (settled) return std::nullopt;
    // The scheduler asks again with the same outcome; here it forgets, and the rows go out again.
    store_->release(lent->id);
    return settled.error();
  }

  Result<store::Lease> lease_all(std::uint32_t events_max = 1000) {
    auto request = lease_of({"shop"}, events_max);
    request.bytes_max = 8u << 20;
    return store_->lease(request);
  }

  // Idle moments as they come behind other work.
  void idle_for(int moments) {
    for (int i = 0; i < moments; ++i) {
      clock_.advance(std::chrono::milliseconds(300));
      const auto rested = store_->idle();
      ASSERT_TRUE(rested) << rested.error().message();
    }
  }

  std::vector<std::string> troubles() {
    const auto info = store_->info();
    std::vector<std::string> words;
    if (!info) return words;
    for (const store::Trouble& trouble : info->troubles) words.push_back(trouble.word);
    return words;
  }

  TempDir dir_;
  FakeClock clock_;
  FailingVfs vfs_;
  std::unique_ptr<store::Store> store_;
  std::shared_ptr<const store::ClientInfo> app_ = client(1);
  std::uint64_t next_ = 1;
  event::Class class_ = event::Class::kNormal;
  int lots_ = 0;
  std::set<std::string> acked_;
  std::set<std::string> upstream_;
};

struct Fault {
  const char* name;
  Op op;
  int code;
  bool half = false;
};

std::ostream& operator<<(std::ostream& out, const Fault& fault) {
  return out << fault.name;
}

constexpr Fault kFaults[] = {
    {"WriteEio", Op::kWrite, SQLITE_IOERR_WRITE},
    {"WriteEnospc", Op::kWrite, SQLITE_FULL},
    {"WriteShort", Op::kWrite, SQLITE_FULL, true},
    {"ReadEio", Op::kRead, SQLITE_IOERR_READ},
    {"SyncEio", Op::kSync, SQLITE_IOERR_FSYNC},
    {"TruncateEio", Op::kTruncate, SQLITE_IOERR_TRUNCATE},
    {"GrowEdquot", Op::kGrow, SQLITE_IOERR_WRITE},
    {"OpenEmfile", Op::kOpen, SQLITE_CANTOPEN},
};

// One history with one fault in it, then a healthy disk and the oracle.
class History : public FaultBase {
 public:
  // Whether the fault was reached.
  bool run(const FailingVfs::Plan& plan) {
    open();
    if (!store_) return false;
    (void)send();
    vfs_.fail(plan);
    for (int step = 0; step < 24; ++step) {
      follow(send());
      if (step % 4 == 3) follow(deliver());
      if (step == 17) erase();
      follow_idle();
    }
    const bool reached = vfs_.failures() > 0;
    vfs_.heal();
    recover();
    judge();
    return reached;
  }

 private:
  void follow(const std::optional<Error>& error) {
    if (!error || error->code() != ErrorCode::kUnknownOutcome) return;
    // The process ends and is started again by the service manager, on a disk that is well.
    vfs_.heal();
    open_again();
  }

  void follow_idle() {
    const auto rested = store_->idle();
    if (!rested) follow(rested.error());
  }

  void erase() {
    const auto erased = store_->erase(1000, "shop");
    erase_asked_ = true;
    if (!erased) follow(erased.error());
  }

  void recover() {
    clock_.advance(kPauseMax);
    const std::vector<std::string> words = troubles();
    // Only a start tries rows again that could not be read.
    if (std::ranges::find(words, "rows_unreadable") != words.end()) open_again();
    const std::uint64_t first = next_;
    for (int i = 0; i < 3; ++i) {
      follow_idle();
      if (const auto error = send()) {
        ADD_FAILURE() << error->message();
        return;
      }
    }
    for (std::uint64_t number = first; number < next_; ++number) fresh_.insert(body(number));
    for (int i = 0; i < 40; ++i) {
      if (const auto error = deliver()) ADD_FAILURE() << error->message();
    }
    EXPECT_EQ(troubles(), std::vector<std::string>());
  }

  void judge() {
    const auto check = store_->check_ledger();
    ASSERT_TRUE(check) << check.error().message();
    for (const std::string& problem : check->problems) ADD_FAILURE() << problem;
    const store::Accounts all = store::machine_total(store_->ledger().value());
    EXPECT_EQ(all.get(store::account::kAccepted), static_cast<std::int64_t>(acked_.size()));
    EXPECT_EQ(all.get(store::account::kQueued), 0);
    EXPECT_EQ(all.total(store::account::kLost), 0);
    EXPECT_EQ(all.total(store::account::kEvicted), 0);
    for (const std::string& sent : fresh_) EXPECT_TRUE(upstream_.contains(sent));
    for (const std::string& sent : upstream_) EXPECT_TRUE(acked_.contains(sent));
    if (!erase_asked_) {
      EXPECT_EQ(upstream_, acked_);
    }
  }

  bool erase_asked_ = false;
  std::set<std::string> fresh_;
};

class EveryFault : public testing::TestWithParam<std::tuple<Fault, bool>> {};

TEST_P(EveryFault, LosesNothingWhereverItStrikes) {
  const auto& [fault, for_good] = GetParam();
  int histories = 0;
  // Every place at first, then fewer: the later ones resemble each other.
  for (int after = 0;; after += 1 + after / 4) {
    SCOPED_TRACE(std::to_string(after) + " operations before the fault");
    History history;
    const bool reached = history.run({.op = fault.op,
                                      .code = fault.code,
                                      .after = after,
                                      .for_good = for_good,
                                      .half = fault.half});
    if (!reached || testing::Test::HasFailure()) break;
    ++histories;
  }
  // Nothing is opened and truncated in every history.
  if (fault.op != Op::kOpen && fault.op != Op::kTruncate) {
    EXPECT_GT(histories, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Disk,
                         EveryFault,
                         testing::Combine(testing::ValuesIn(kFaults), testing::Bool()),
                         [](const auto& instance) {
                           return std::string(std::get<0>(instance.param).name) +
                                  (std::get<1>(instance.param) ? "ForGood" : "Once");
                         });

class Faults : public testing::Test, protected FaultBase {
 protected:
  using Words = std::vector<std::string>;

  void SetUp() override { open(); }

  void TearDown() override {
    vfs_.heal();
    const auto check = store_->check_ledger();
    ASSERT_TRUE(check) << check.error().message();
    EXPECT_TRUE(check->balanced);
  }
};

TEST_F(Faults, AReadOnlyFileSystemRefusesForNowIsLeftAloneForAPauseAndTriedAgain) {
  ASSERT_FALSE(send());
  vfs_.fail({.op = Op::kWrite, .code = SQLITE_IOERR_WRITE});
  EXPECT_EQ(send()->code(), ErrorCode::kUnavailable);
  EXPECT_EQ(troubles(), Words{"disk_failing"});
  const int tries = vfs_.failures();
  EXPECT_GT(tries, 0);
  for (int i = 0; i < 5; ++i) {
    const auto answers = store_->commit({{frame(app_, next_, {body(next_)})}});
    ASSERT_TRUE(answers);
    EXPECT_TRUE(answers->front().refusal.retryable);
    EXPECT_GT(answers->front().refusal.retry_after_ms, 0u);
  }
  EXPECT_EQ(vfs_.failures(), tries) << "the disk was asked during the pause";
  // What is there can still be read, and so delivered.
  EXPECT_EQ(store_->lease(lease_of({"shop"}))->events, 1u);
  vfs_.heal();
  clock_.advance(kPauseMax);
  EXPECT_FALSE(send());
  EXPECT_EQ(troubles(), Words());
}

TEST_F(Faults, OnlyAWriteThatWorkedEndsThePause) {
  ASSERT_FALSE(send());
  vfs_.fail({.op = Op::kWrite, .code = SQLITE_IOERR_WRITE});
  EXPECT_EQ(send()->code(), ErrorCode::kUnavailable);
  clock_.advance(kPauseMax);
  const auto answers = store_->commit({{refused_frame(app_, next_, true)}});
  ASSERT_TRUE(answers) << "nothing had to be written";
  EXPECT_EQ(troubles(), Words{"disk_failing"});
  vfs_.heal();
  EXPECT_FALSE(send());
  EXPECT_EQ(troubles(), Words());
}

TEST_F(Faults, AFailedSyncIsAnUnknownOutcomeAndWhatWasAcknowledgedIsThereAfterTheRestart) {
  ASSERT_FALSE(send());
  vfs_.fail({.op = Op::kSync, .code = SQLITE_IOERR_FSYNC, .for_good = false, .file_end = "-wal"});
  EXPECT_EQ(send()->code(), ErrorCode::kUnknownOutcome);
  EXPECT_EQ(send()->code(), ErrorCode::kUnknownOutcome) << "acknowledged after a failed sync";
  open_again();
  ASSERT_FALSE(send());
  EXPECT_FALSE(deliver());
  EXPECT_EQ(upstream_, acked_);
}

TEST_F(Faults, ARowThatTheDiskDoesNotGiveBackHoldsUpNobodyElse) {
  for (int i = 0; i < 40; ++i) ASSERT_FALSE(send());
  // From here on pages come from the disk.
  ASSERT_TRUE(store_->close());
  open_again();
  vfs_.fail({.op = Op::kRead, .code = SQLITE_IOERR_READ, .bytes = "middle 10020"});
  for (int i = 0; i < 30; ++i) (void)deliver();
  EXPECT_EQ(upstream_.size(), 39u);
  EXPECT_FALSE(upstream_.contains(body(20)));
  EXPECT_EQ(troubles(), Words{"rows_unreadable"});
  const store::Accounts all = store::machine_total(store_->ledger().value());
  EXPECT_GT(all.get(store::account::kQueued), 0) << "what cannot be read is not lost yet";
  vfs_.heal();
  open_again();
  for (int i = 0; i < 30; ++i) EXPECT_FALSE(deliver());
  EXPECT_EQ(upstream_, acked_);
  EXPECT_EQ(troubles(), Words());
}

TEST_F(Faults, APageOfRowsThatTheDiskDoesNotGiveBackHidesNoOtherPage) {
  for (int i = 0; i < 40; ++i) ASSERT_FALSE(send());
  ASSERT_TRUE(store_->close());
  open_again();
  // The page with the row's beginning, which a few others share.
  vfs_.fail({.op = Op::kRead, .code = SQLITE_IOERR_READ, .bytes = "number 10020"});
  const auto lent = lease_all();
  ASSERT_TRUE(lent) << lent.error().message();
  const std::vector<std::string> got = bodies_of(*lent);
  const std::set<std::string> upstream(got.begin(), got.end());
  EXPECT_GE(got.size(), 32u);
  EXPECT_LT(got.size(), 40u);
  EXPECT_TRUE(upstream.contains(body(1)));
  EXPECT_TRUE(upstream.contains(body(40)));
  EXPECT_EQ(troubles(), Words{"rows_unreadable"});
  vfs_.heal();
  EXPECT_EQ(lease_all()->events, 0u);
  clock_.advance(seconds(60));
  EXPECT_EQ(lease_all()->events, 40 - got.size());
  EXPECT_EQ(troubles(), Words());
}

TEST_F(Faults, AQueueWhoseEndCannotBeReadIsDeliveredUpToThereAndStaysOpen) {
  for (int i = 0; i < 120; ++i) ASSERT_FALSE(send());
  ASSERT_TRUE(store_->close());
  open_again();
  // A start reads the end of the queue; so many other pages push it out of memory again.
  const auto others = lease_all(100);
  ASSERT_TRUE(others);
  store_->release(others->id);
  vfs_.fail({.op = Op::kRead, .code = SQLITE_IOERR_READ, .bytes = "number 10120"});
  const auto lent = lease_all();
  ASSERT_TRUE(lent) << lent.error().message();
  const std::uint64_t before = lent->events;
  EXPECT_GE(before, 112u);
  EXPECT_LT(before, 120u);
  const auto rest = lease_all();
  ASSERT_FALSE(rest);
  EXPECT_EQ(rest.error().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(troubles(), Words()) << "rows were passed over";
  vfs_.heal();
  EXPECT_EQ(lease_all()->events, 120 - before);
}

TEST_F(Faults, AReadThatFailsOnceHidesNoRow) {
  for (int i = 0; i < 40; ++i) ASSERT_FALSE(send());
  ASSERT_TRUE(store_->close());
  open_again();
  vfs_.fail(
      {.op = Op::kRead, .code = SQLITE_IOERR_READ, .for_good = false, .bytes = "number 10020"});
  const auto lent = lease_all();
  ASSERT_TRUE(lent) << lent.error().message();
  EXPECT_EQ(vfs_.failures(), 1);
  EXPECT_EQ(lent->events + lease_all()->events, 40u);
  EXPECT_EQ(troubles(), Words());
}

// Each read of the check fails once, whatever of the store it is of.
TEST_F(Faults, AReadThatFailsOnceDuringTheCheckCondemnsNothing) {
  for (int i = 0; i < 20; ++i) ASSERT_FALSE(send());
  for (int after = 0;; ++after) {
    SCOPED_TRACE(after);
    ASSERT_TRUE(store_->close());
    open_again();
    vfs_.fail({.op = Op::kRead,
               .code = SQLITE_IOERR_READ,
               .after = after,
               .for_good = false,
               .file_end = "events.db"});
    idle_for(100);
    vfs_.heal();
    if (vfs_.failures() == 0) break;
    ASSERT_LT(after, 1000);
  }
  EXPECT_EQ(store::quarantined(dir_.path()).size(), 0u);
  for (int i = 0; i < 30; ++i) EXPECT_FALSE(deliver());
  EXPECT_EQ(upstream_, acked_);
}

TEST_F(Faults, APageThatStaysUnreadableKeepsNoUpkeepWaiting) {
  for (int i = 0; i < 40; ++i) ASSERT_FALSE(send());
  ASSERT_TRUE(store_->close());
  open_again();
  ASSERT_FALSE(send());
  vfs_.fail({.op = Op::kRead, .code = SQLITE_IOERR_READ, .bytes = "number 10020"});
  idle_for(200);
  EXPECT_GT(vfs_.failures(), 0);
  EXPECT_EQ(troubles(), Words{"rows_unreadable"});
  const int failures = vfs_.failures();
  idle_for(200);
  EXPECT_EQ(vfs_.failures(), failures) << "the check never gets on";
}

TEST_F(Faults, ACheckpointThatFailsKeepsTheLogIsSaidAndRecovers) {
  vfs_.fail({.op = Op::kWrite, .code = SQLITE_IOERR_WRITE, .file_end = "events.db"});
  for (int i = 0; i < 40; ++i) {
    ASSERT_FALSE(send());
    ASSERT_TRUE(store_->idle());
  }
  EXPECT_GT(vfs_.failures(), 0);
  EXPECT_EQ(troubles(), Words{"checkpoint_failing"});
  vfs_.heal();
  clock_.advance(seconds(60));
  ASSERT_FALSE(send());
  ASSERT_TRUE(store_->idle());
  EXPECT_EQ(troubles(), Words());
}

TEST_F(Faults, CheckpointsThatGoOnFailingEndTheProcessAndLoseNothing) {
  vfs_.fail({.op = Op::kWrite, .code = SQLITE_IOERR_WRITE, .file_end = "events.db"});
  std::optional<Error> end;
  for (int i = 0; i < 200 && !end; ++i) {
    clock_.advance(seconds(5));
    if (const auto error = send(); error && error->code() == ErrorCode::kUnknownOutcome)
      end = error;
    const auto rested = store_->idle();
    if (!rested && rested.error().code() == ErrorCode::kUnknownOutcome) end = rested.error();
  }
  ASSERT_TRUE(end);
  vfs_.heal();
  open_again();
  for (int i = 0; i < 200; ++i) EXPECT_FALSE(deliver());
  EXPECT_EQ(upstream_, acked_);
}

TEST_F(Faults, WithoutDescriptorsAnErasureIsDoneAndEventsComeOn) {
  ASSERT_FALSE(send());
  vfs_.fail({.op = Op::kOpen, .code = SQLITE_CANTOPEN});
  EXPECT_EQ(store_->erase(1000, "shop").value(), 1u);
  (void)store_->idle();
  EXPECT_GT(vfs_.failures(), 0);
  EXPECT_FALSE(send());
  EXPECT_FALSE(deliver());
  EXPECT_EQ(troubles(), Words());
}

TEST_F(Faults, ADamagedRowIsCountedLostWhileOthersCannotBeRead) {
  for (int i = 0; i < 40; ++i) ASSERT_FALSE(send());
  ASSERT_TRUE(store_->close());
  store_.reset();
  {
    auto db = store::Database::open((dir_ / "events.db").native(), "");
    ASSERT_TRUE(db);
    ASSERT_TRUE(db->exec("UPDATE events SET blob = zeroblob(length(blob)) WHERE last_frame = 2"));
    ASSERT_TRUE(db->exec("UPDATE events SET blob = x'0A0158' WHERE last_frame = 3"));
  }
  open();
  vfs_.fail({.op = Op::kRead, .code = SQLITE_IOERR_READ, .bytes = "number 10020"});
  const auto lent = lease_all();
  ASSERT_TRUE(lent) << lent.error().message();
  EXPECT_GE(lent->events, 30u);
  EXPECT_LT(lent->events, 38u);
  const store::Accounts all = store::machine_total(store_->ledger().value());
  EXPECT_EQ(all.get(store::account::kLost, "damage"), 2);
  EXPECT_EQ(all.get(store::account::kQueued), 38);
  vfs_.heal();
  // What the second one had been longer than it is follows with the next upkeep.
  idle_for(1);
}

// At the quota the oldest rows leave, and here the disk does not give some of them back.
class FullStore : public Faults {
 protected:
  void fill() {
    const std::uint64_t before = evicted();
    while (evicted() == before && next_ < 1000) ASSERT_FALSE(send());
    read_from_disk();
  }

  void read_from_disk() {
    ASSERT_TRUE(store_->close());
    open_again();
  }

  std::uint64_t evicted() {
    const store::Accounts all = store::machine_total(store_->ledger().value());
    return static_cast<std::uint64_t>(all.get(store::account::kEvicted, "quota"));
  }

  // The page with the row's beginning, which a few others share.
  void keep_back(std::uint64_t number) {
    vfs_.fail({.op = Op::kRead,
               .code = SQLITE_IOERR_READ,
               .bytes = "number " + std::to_string(10'000 + number)});
  }

  void expect_to_go_on(int frames) {
    const std::uint64_t before = evicted();
    for (int i = 0; i < frames; ++i) {
      const auto error = send();
      ASSERT_FALSE(error) << i << ": " << error->message();
    }
    EXPECT_GT(vfs_.failures(), 0);
    EXPECT_GE(evicted() + 10, before + static_cast<std::uint64_t>(frames));
    EXPECT_EQ(troubles(), Words{"rows_unreadable"});
  }
};

TEST_F(FullStore, EvictsBehindAPageNearTheOldestThatTheDiskDoesNotGiveBack) {
  fill();
  keep_back(evicted() + 10);
  expect_to_go_on(60);
}

TEST_F(FullStore, EvictsBehindAPageInTheMiddleThatTheDiskDoesNotGiveBack) {
  fill();
  keep_back(evicted() + 30);
  expect_to_go_on(60);
}

// Those rows are found by an index, whose pages can still be read.
TEST_F(FullStore, EvictsBehindSuchAPageOfCriticalEventsToo) {
  class_ = event::Class::kCritical;
  fill();
  keep_back(evicted() + 10);
  expect_to_go_on(60);
}

TEST_F(FullStore, RefusesForNowWhenNothingThatCouldLeaveCanBeRead) {
  fill();
  vfs_.fail({.op = Op::kRead, .code = SQLITE_IOERR_READ, .bytes = "number 1"});
  const std::uint64_t before = evicted();
  int stored = 0;
  while (!send() && stored < 100) ++stored;
  EXPECT_LT(stored, 100);
  vfs_.heal();
  clock_.advance(kPauseMax);
  EXPECT_FALSE(send());
  EXPECT_GT(evicted(), before);
}

TEST_F(FullStore, EvictsRowsThatCanBeReadAgainBeforeNewerOnes) {
  fill();
  const std::uint64_t kept_back = evicted() + 10;
  keep_back(kept_back);
  expect_to_go_on(20);
  vfs_.heal();
  clock_.advance(kPauseMax);
  for (int i = 0; i < 20; ++i) ASSERT_FALSE(send());
  EXPECT_EQ(troubles(), Words());
  const auto lent = lease_all(1);
  ASSERT_TRUE(lent);
  EXPECT_GT(bodies_of(*lent).front().substr(0, 12), body(kept_back).substr(0, 12));
}

// None of them could be counted as anybody's when room was looked for first.
TEST_F(FullStore, EvictsOldRowsFirstWhenAllOfThemCanBeReadAgain) {
  fill();
  ASSERT_FALSE(send());
  const std::uint64_t newest = next_;
  vfs_.fail({.op = Op::kRead, .code = SQLITE_IOERR_READ, .bytes = "number 1"});
  for (int i = 0; i < 5; ++i) (void)send();
  vfs_.heal();
  clock_.advance(kPauseMax);
  for (int i = 0; i < 40; ++i) ASSERT_FALSE(send());
  const auto lent = lease_all(1000);
  ASSERT_TRUE(lent);
  const std::vector<std::string> left = bodies_of(*lent);
  EXPECT_NE(std::ranges::find(left, body(newest - 1)), left.end());
}

}  // namespace
}  // namespace telemetryd::test
