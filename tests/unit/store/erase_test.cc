// Erasing, consent, reports, identity and the other small tables.

#include <filesystem>

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "base/io.h"
#include "store/witness.h"
#include "support/failing_vfs.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

namespace fs = std::filesystem;

using Bodies = std::vector<std::string>;

class Erasing : public StoreTest {
 protected:
  std::shared_ptr<const store::ClientInfo> mine_ = client(1);
  std::shared_ptr<const store::ClientInfo> my_mail_ = client(2, "mail");
  std::shared_ptr<const store::ClientInfo> yours_ = client(3, "shop", 1001);
};

TEST_F(Erasing, OnlyThatUsersEventsOfThatAppGo) {
  commit({frame(mine_, 1, {"a", "b"}), frame(my_mail_, 1, {"c"}), frame(yours_, 1, {"d"})});
  EXPECT_EQ(store_->erase(1000, "shop").value(), 2u);
  EXPECT_EQ(account("erased", "withdrawn"), 2);
  EXPECT_EQ(bodies_of(lease(lease_of({"shop", "mail"}))), (Bodies{"c", "d"}));
}

TEST_F(Erasing, AnEmptyAppMeansAllOfThem) {
  commit({frame(mine_, 1, {"a", "b"}), frame(my_mail_, 1, {"c"}), frame(yours_, 1, {"d"})});
  EXPECT_EQ(store_->erase(1000, "").value(), 3u);
  EXPECT_EQ(bodies_of(lease(lease_of({"shop", "mail"}))), (Bodies{"d"}));
}

TEST_F(Erasing, ALeasedRowGoesWhenItsLeaseEnds) {
  commit({frame(mine_, 1, {"a", "b"})});
  const auto lent = lease(lease_of({"shop"}));
  EXPECT_EQ(store_->erase(1000, "shop").value(), 0u);
  expect_balanced();
  store_->release(lent.id);
  EXPECT_EQ(account("erased", "withdrawn"), 2);
  EXPECT_EQ(lease(lease_of({"shop"})).id, 0u);
}

TEST_F(Erasing, TheRestOfAPartlyDeliveredRowGoesWhenItsLeaseEnds) {
  commit({frame(mine_, 1, {"a", "b", "c"})});
  const auto lent = lease(lease_of({"shop"}, 1));
  ASSERT_TRUE(store_->erase(1000, ""));
  settle(lent.id);
  EXPECT_EQ(account("delivered"), 1);
  EXPECT_EQ(account("erased", "withdrawn"), 2);
  EXPECT_EQ(lease(lease_of({"shop"})).id, 0u);
}

TEST_F(Erasing, ACrashDoesNotForgetAWaitingErasure) {
  commit({frame(mine_, 1, {"a"})});
  lease(lease_of({"shop"}));
  ASSERT_TRUE(store_->erase(1000, "shop"));
  crash_and_reopen();
  EXPECT_EQ(account("erased", "withdrawn"), 1);
  EXPECT_EQ(lease(lease_of({"shop"})).id, 0u);
}

TEST_F(Erasing, EventsThatComeLaterStay) {
  commit({frame(mine_, 1, {"a"})});
  const auto lent = lease(lease_of({"shop"}));
  ASSERT_TRUE(store_->erase(1000, "shop"));
  commit({frame(mine_, 2, {"b"})});
  store_->release(lent.id);
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), (Bodies{"b"}));
}

TEST_F(Erasing, TheBytesLeaveTheFilesToo) {
  const std::string secret = "do-not-remember-" + std::string(3000, 's');
  commit({frame(mine_, 1, {secret})});
  ASSERT_TRUE(store_->erase(1000, "shop"));
  ASSERT_TRUE(store_->idle());
  for (const char* name : {"events.db", "events.db-wal"}) {
    const auto content = read_file(dir_ / name, 1u << 26);
    ASSERT_TRUE(content);
    EXPECT_EQ(content->find("do-not-remember"), std::string::npos) << name;
    EXPECT_EQ(content->find("sssssss"), std::string::npos) << name;
  }
  commit({frame(mine_, 2, {"after"})});
  crash_and_reopen();
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), (Bodies{"after"}));
}

TEST_F(Erasing, AFullDiskAtTheStartDelaysAWaitingErasureAndNothingElse) {
  commit({frame(mine_, 1, {"a"}), frame(yours_, 1, {"b"})});
  lease(lease_of({"shop"}));
  ASSERT_TRUE(store_->erase(1000, "shop"));
  store_.reset();
  FailingVfs vfs;
  int delayed = 0;
  for (int after = 0; after < 200; ++after) {
    SCOPED_TRACE(after);
    const TempDir disk;
    fs::copy(dir_.path(), disk.path(), fs::copy_options::recursive);
    store::Options options = small_store(disk.path());
    options.vfs = vfs.name();
    vfs.fail({.op = FailingVfs::Op::kWrite,
              .code = SQLITE_FULL,
              .after = after,
              .file_end = "events.db-wal"});
    auto opened = store::open_sqlite_store(options, clock_);
    const bool full = vfs.failures() > 0;
    vfs.heal();
    if (!opened) continue;  // no room for the start itself
    store_ = std::move(*opened);
    if (full) {
      ++delayed;
      EXPECT_EQ(account("erased", "withdrawn"), 0);
      const auto lent = lease(lease_of({"shop"}));
      EXPECT_EQ(bodies_of(lent), Bodies{"b"}) << "what waits for its erasure is not lent";
      store_->release(lent.id);
    }
    EXPECT_EQ(account("erased", "withdrawn"), 1);
    expect_balanced();
    store_.reset();
    if (!full) break;
  }
  EXPECT_GT(delayed, 0);
}

TEST_F(Erasing, TheDatabaseHasBlocksAheadAgainAfterItsLogWasEmptied) {
  commit({frame(mine_, 1, {std::string(3000, 's')})});
  ASSERT_TRUE(store_->erase(1000, "shop"));
  ASSERT_TRUE(store_->idle());
  const auto cut = fs::file_size(dir_ / "events.db");
  commit({frame(mine_, 2, {"after"})});
  EXPECT_GE(fs::file_size(dir_ / "events.db"), cut + (512u << 10));
}

TEST_F(Erasing, WithoutRoomForTheNextLogTheStoreIsClosedCleanAllTheSame) {
  store_.reset();
  FailingVfs vfs;
  store::Options options = small_store(dir_.path());
  options.vfs = vfs.name();
  open(options);
  commit({frame(mine_, 1, {"a"})});
  ASSERT_TRUE(store_->erase(1000, "shop"));
  vfs.fail({.op = FailingVfs::Op::kOpen, .code = SQLITE_CANTOPEN, .file_end = "events.db-wal"});
  const auto closed = store_->close();
  EXPECT_TRUE(closed) << closed.error().message();
  EXPECT_GT(vfs.failures(), 0);
  store_.reset();
  const auto witness = store::decode_witness(read_file(dir_ / "witness", 4096).value());
  ASSERT_TRUE(witness);
  EXPECT_TRUE(witness->clean);
}

TEST_F(Erasing, DeadLettersOfTheUserGoToo) {
  commit({frame(mine_, 1, {"a"}), frame(yours_, 1, {"b"})});
  const auto lent = lease(lease_of({"shop"}));
  settle(lent.id, {{lent.rows[0].meta.seq, 0, 1, "no"}, {lent.rows[1].meta.seq, 0, 1, "no"}});
  EXPECT_EQ(store_->erase(1000, "shop").value(), 1u);
  EXPECT_EQ(account("parked"), 1);
  EXPECT_EQ(account("erased", "withdrawn"), 1);
}

TEST_F(Erasing, WithdrawingConsentErasesWhatIsQueued) {
  commit({frame(mine_, 1, {"a", "b"}), frame(my_mail_, 1, {"c"}), frame(yours_, 1, {"d"})});
  ASSERT_TRUE(store_->set_consent({1000, "shop", store::Consent::kDisabled, 5}));
  EXPECT_EQ(account("erased", "withdrawn"), 2);
  commit({frame(mine_, 2, {"on its way"})});
  EXPECT_EQ(store_->erase(1000, "shop").value(), 3u) << "with what the withdrawal erased";
  EXPECT_EQ(store_->erase(1000, "shop").value(), 0u);
  EXPECT_EQ(bodies_of(lease(lease_of({"shop", "mail"}))), (Bodies{"c", "d"}));
}

TEST_F(Erasing, AWithdrawalWaitsForTheLeaseAndSurvivesACrash) {
  commit({frame(mine_, 1, {"a"})});
  lease(lease_of({"shop"}));
  ASSERT_TRUE(store_->set_consent({1000, "", store::Consent::kDisabled, 5}));
  EXPECT_EQ(account("queued"), 1);
  crash_and_reopen();
  EXPECT_EQ(account("erased", "withdrawn"), 1);
  EXPECT_EQ(store_->consents()->size(), 1u);
}

TEST_F(Erasing, AskingOftenKeepsOneNotePerUserAndApp) {
  commit({frame(mine_, 1, {"a"})});
  const auto lent = lease(lease_of({"shop"}));
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(store_->set_consent({1000, "shop", store::Consent::kDisabled, 5}));
    commit({frame(mine_, 2u + static_cast<unsigned>(i), {"later"})});
    ASSERT_TRUE(store_->erase(1000, "shop"));
  }
  EXPECT_EQ(account("erased", "withdrawn"), 5);
  store_->release(lent.id);
  EXPECT_EQ(account("erased", "withdrawn"), 6);
}

TEST_F(Erasing, OtherDecisionsEraseNothing) {
  commit({frame(mine_, 1, {"a"})});
  for (const auto state :
       {store::Consent::kEnabled, store::Consent::kLocal, store::Consent::kUnset}) {
    ASSERT_TRUE(store_->set_consent({1000, "shop", state, 5}));
  }
  reopen();
  EXPECT_EQ(account("queued"), 1);
}

class SmallTables : public StoreTest {};

TEST_F(SmallTables, ConsentIsKeptPerUserAndAppAndUnsetForgetsIt) {
  ASSERT_TRUE(store_->set_consent({1000, "shop", store::Consent::kDisabled, 5}));
  ASSERT_TRUE(store_->set_consent({1000, "", store::Consent::kLocal, 6}));
  reopen();
  auto records = store_->consents().value();
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].app, "");
  EXPECT_EQ(records[0].state, store::Consent::kLocal);
  EXPECT_EQ(records[1].state, store::Consent::kDisabled);
  EXPECT_EQ(records[1].decided_unix_ms, 5);
  ASSERT_TRUE(store_->set_consent({1000, "shop", store::Consent::kUnset, 7}));
  EXPECT_EQ(store_->consents()->size(), 1u);
}

TEST_F(SmallTables, ReportsAreAbsoluteAndCountedOnce) {
  const auto app = client(1);
  ASSERT_TRUE(store_->report(*app, {{"queue_full", 5}}));
  ASSERT_TRUE(store_->report(*app, {{"queue_full", 5}, {"too_large", 1}}));
  crash_and_reopen();
  ASSERT_TRUE(store_->report(*app, {{"queue_full", 8}, {"too_large", 1}}));
  EXPECT_EQ(account("lost_by_client", "queue_full"), 8);
  EXPECT_EQ(account("lost_by_client", "too_large"), 1);
}

TEST_F(SmallTables, AReportBeforeTheFirstFrameDoesNotMoveTheHighWater) {
  const auto app = client(1);
  ASSERT_TRUE(store_->report(*app, {{"queue_full", 5}}));
  EXPECT_EQ(commit({frame(app, 1, {"a"})})[0].kind, store::Answer::Kind::kStored);
}

TEST_F(SmallTables, DestinationStatesAndIdentitySurvive) {
  ASSERT_TRUE(store_->save_destination_state("up", R"({"attempts":3})"));
  ASSERT_TRUE(store_->set_identity("machine", "abc"));
  reopen();
  EXPECT_EQ(store_->destination_states()->at("up"), R"({"attempts":3})");
  EXPECT_EQ(store_->identity("machine").value(), "abc");
  EXPECT_EQ(store_->identity("other").value(), std::nullopt);
}

TEST_F(SmallTables, ListingPagesThroughEventsByRowAndIndex) {
  const auto app = client(1);
  const auto mail = client(2, "mail", 1001);
  commit({frame(app, 1, {"a", "b", "c"}), frame(mail, 1, {"x"})});
  auto page = store_->list({.limit = 2}).value();
  ASSERT_EQ(page.size(), 2u);
  EXPECT_EQ(page[1].event, "b");
  page = store_->list({.after_seq = page[1].row.seq, .after_index = page[1].index}).value();
  ASSERT_EQ(page.size(), 2u);
  EXPECT_EQ(page[0].event, "c");
  EXPECT_EQ(page[1].event, "x");
  EXPECT_EQ(store_->list({.uid = 1001})->size(), 1u);
  EXPECT_EQ(store_->list({.app = "shop"})->size(), 3u);
  lease(lease_of({"mail"}));
  EXPECT_EQ(store_->list({.uid = 1001})->front().state, "leased");
}

TEST_F(SmallTables, TheObserverHearsOfFirstUrgentAndManyEvents) {
  std::vector<std::uint64_t> heard;
  store_->observe_queue(
      [&](const store::QueueChange& change) { heard.push_back(change.events); }, 10, 0);
  const auto app = client(1);
  commit({frame(app, 1, {"a"})});
  commit({frame(app, 2, {"b"})});
  auto urgent = frame(app, 3, {"c"});
  urgent.urgency = event::Urgency::kUrgent;
  commit({urgent});
  commit({frame(app, 4, Bodies(7, "d"))});
  EXPECT_EQ(heard, (std::vector<std::uint64_t>{1, 3, 10}));
}

}  // namespace
}  // namespace telemetryd::test
