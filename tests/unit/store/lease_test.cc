// Lending, settling, giving back.

#include <gtest/gtest.h>

#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

using Bodies = std::vector<std::string>;

class Leasing : public StoreTest {
 protected:
  Leasing() { app_ = client(1); }

  std::shared_ptr<const store::ClientInfo> app_;
};

store::Append urgent(store::Append frame) {
  frame.urgency = event::Urgency::kUrgent;
  return frame;
}

store::LeaseRequest urgent_lease_of(std::vector<std::string> apps) {
  auto request = lease_of(std::move(apps));
  request.urgent_only = true;
  return request;
}

TEST_F(Leasing, UrgentRowsAloneGoPastTheOthers) {
  commit({frame(app_, 1, {"a"})});
  commit({urgent(frame(app_, 2, {"b"}))});
  commit({frame(app_, 3, {"c"})});
  commit({urgent(frame(client(2, "mail"), 1, {"d"}))});
  const auto first = lease(urgent_lease_of({"shop"}));
  EXPECT_EQ(bodies_of(first), (Bodies{"b"}));
  EXPECT_EQ(lease(urgent_lease_of({"shop"})).id, 0u);
  // What comes back or comes new is found again.
  store_->release(first.id);
  commit({urgent(frame(app_, 4, {"e"}))});
  settle(lease(urgent_lease_of({"shop"})).id);
  EXPECT_EQ(account("delivered"), 2);
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), (Bodies{"a", "c"}));
}

TEST_F(Leasing, UrgentRowsOfWhoeverWasHeldAreFoundWhenThatEnds) {
  commit({urgent(frame(app_, 1, {"a"}))});
  auto request = urgent_lease_of({"shop"});
  request.held = {{1000, "shop"}};
  EXPECT_EQ(lease(request).id, 0u);
  EXPECT_EQ(bodies_of(lease(urgent_lease_of({"shop"}))), (Bodies{"a"}));
}

TEST_F(Leasing, UrgentRowsBehindABacklogAreLookedForInSlices) {
  for (std::uint64_t number = 1; number <= 25; ++number) {
    std::vector<store::Append> group;
    for (std::uint8_t each = 1; each <= 200; ++each) {
      group.push_back(frame(client(each), number, {"a"}));
    }
    commit(std::move(group));
  }
  commit({urgent(frame(client(201), 1, {"b"}))});
  int slices = 0;
  store::Lease found = lease(urgent_lease_of({"shop"}));
  for (; found.id == 0 && found.unfinished; ++slices) found = lease(urgent_lease_of({"shop"}));
  EXPECT_EQ(slices, 2);
  EXPECT_EQ(bodies_of(found), (Bodies{"b"}));
  store_->release(found.id);
  // Nor is what was looked at looked at again.
  found = lease(urgent_lease_of({"shop"}));
  EXPECT_EQ(bodies_of(found), (Bodies{"b"}));
  settle(found.id);
  EXPECT_FALSE(lease(urgent_lease_of({"shop"})).unfinished);
}

TEST_F(Leasing, NothingDueIsAnEmptyLease) {
  EXPECT_EQ(lease(lease_of({"shop"})).id, 0u);
  commit({frame(app_, 1, {"a"})});
  EXPECT_EQ(lease(lease_of({"other"})).id, 0u);
}

TEST_F(Leasing, RowsOfAllAsksAppsComeInTheOrderTheyCame) {
  const auto mail = client(2, "mail");
  commit({frame(app_, 1, {"a"})});
  commit({frame(mail, 1, {"b"})});
  commit({frame(app_, 2, {"c"})});
  EXPECT_EQ(bodies_of(lease(lease_of({"mail", "shop"}))), (Bodies{"a", "b", "c"}));
}

TEST_F(Leasing, ALeasedRowIsNotLentTwice) {
  commit({frame(app_, 1, {"a"})});
  const auto first = lease(lease_of({"shop"}));
  EXPECT_EQ(lease(lease_of({"shop"})).id, 0u);
  store_->release(first.id);
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), (Bodies{"a"}));
}

TEST_F(Leasing, ReleasedRowsComeBeforeNewerOnes) {
  commit({frame(app_, 1, {"a"})});
  const auto first = lease(lease_of({"shop"}));
  commit({frame(app_, 2, {"b"})});
  store_->release(first.id);
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), (Bodies{"a", "b"}));
}

TEST_F(Leasing, SettlingRemovesTheRowsAndCountsThemDelivered) {
  commit({frame(app_, 1, {"a", "b"})});
  settle(lease(lease_of({"shop"})).id);
  EXPECT_EQ(account("delivered"), 2);
  EXPECT_EQ(account("queued"), 0);
  EXPECT_EQ(account("queued_bytes"), 0);
  reopen();
  EXPECT_EQ(lease(lease_of({"shop"})).id, 0u);
}

TEST_F(Leasing, SettledRowsDoNotComeBackAfterACrash) {
  commit({frame(app_, 1, {"a"}), frame(app_, 2, {"b"})});
  settle(lease(lease_of({"shop"})).id);
  crash_and_reopen();
  EXPECT_EQ(store_->info()->loss, std::nullopt);
  EXPECT_EQ(account("delivered"), 2);
  EXPECT_EQ(lease(lease_of({"shop"})).id, 0u);
}

TEST_F(Leasing, ARowBiggerThanTheLimitIsLentInParts) {
  commit({frame(app_, 1, {"a", "b", "c", "d", "e"})});
  const auto first = lease(lease_of({"shop"}, 2));
  EXPECT_EQ(bodies_of(first), (Bodies{"a", "b"}));
  EXPECT_EQ(first.rows[0].meta.count, 5u);
  settle(first.id);
  expect_balanced();
  crash_and_reopen();
  EXPECT_EQ(account("queued"), 3);
  const auto second = lease(lease_of({"shop"}, 2));
  EXPECT_EQ(bodies_of(second), (Bodies{"c", "d"}));
  EXPECT_EQ(second.rows[0].first_index, 2u);
  settle(second.id);
  const auto third = lease(lease_of({"shop"}, 2));
  EXPECT_EQ(bodies_of(third), (Bodies{"e"}));
  settle(third.id);
  EXPECT_EQ(store_->check_ledger()->rows, 0u);
  EXPECT_EQ(account("delivered"), 5);
}

TEST_F(Leasing, AnEventBiggerThanTheByteLimitIsLentAlone) {
  auto request = lease_of({"shop"});
  request.bytes_max = 10;
  commit({frame(app_, 1, {std::string(100, 'x'), "b"})});
  const auto first = lease(request);
  EXPECT_EQ(first.events, 1u);
  settle(first.id);
  EXPECT_EQ(bodies_of(lease(request)), (Bodies{"b"}));
}

TEST_F(Leasing, ALeaseStopsBeforeTheRowThatDoesNotFit) {
  commit({frame(app_, 1, {"a", "b"})});
  commit({frame(app_, 2, {"c", "d"})});
  const auto first = lease(lease_of({"shop"}, 3));
  EXPECT_EQ(bodies_of(first), (Bodies{"a", "b"}));
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}, 3))), (Bodies{"c", "d"}));
}

TEST_F(Leasing, RejectedEventsArePutAsideWithTheirReason) {
  commit({frame(app_, 1, {"a", "b", "c", "d"})});
  const auto lent = lease(lease_of({"shop"}));
  settle(lent.id, {{lent.rows[0].meta.seq, 1, 2, "too odd"}});
  EXPECT_EQ(account("delivered"), 2);
  EXPECT_EQ(account("parked"), 2);
  EXPECT_EQ(lease(lease_of({"shop"})).id, 0u);
  reopen();
  EXPECT_EQ(account("parked"), 2);
}

TEST_F(Leasing, ARejectedPartOfAPartialRowIsCountedOnce) {
  commit({frame(app_, 1, {"a", "b", "c"})});
  const auto first = lease(lease_of({"shop"}, 2));
  settle(first.id, {{first.rows[0].meta.seq, 0, 1, "no"}});
  expect_balanced();
  settle(lease(lease_of({"shop"}, 2)).id);
  EXPECT_EQ(account("delivered"), 2);
  EXPECT_EQ(account("parked"), 1);
}

TEST_F(Leasing, AVerdictOnEventsThatWereNotLentChangesNothing) {
  commit({frame(app_, 1, {"a", "b", "c"})});
  const auto lent = lease(lease_of({"shop"}, 2));
  const store::Seq seq = lent.rows[0].meta.seq;
  for (const store::Rejected& wrong :
       {store::Rejected{seq, 2, 1, ""}, {seq + 1, 0, 1, ""}, {seq, 1, 2, ""}}) {
    const auto settled = store_->settle({lent.id, "upstream", {wrong}});
    ASSERT_FALSE(settled);
    EXPECT_EQ(settled.error().code(), ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(account("queued"), 3);
}

TEST_F(Leasing, ACrashTurnsALeaseBackIntoQueuedRows) {
  commit({frame(app_, 1, {"a"})});
  lease(lease_of({"shop"}));
  crash_and_reopen();
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), (Bodies{"a"}));
}

TEST_F(Leasing, HeldUsersAreSkippedUntilTheyAreNoLonger) {
  const auto other = client(2, "shop", 1001);
  commit({frame(app_, 1, {"mine"}), frame(other, 1, {"yours"})});
  auto request = lease_of({"shop"});
  request.held = {{1000, ""}};
  const auto first = lease(request);
  EXPECT_EQ(bodies_of(first), (Bodies{"yours"}));
  EXPECT_EQ(lease(request).id, 0u);
  request.held = {{1000, "mail"}};
  EXPECT_EQ(bodies_of(lease(request)), (Bodies{"mine"}));
}

TEST_F(Leasing, YoungRowsStayUntilTheyAreOldEnough) {
  using std::chrono::seconds;
  auto request = lease_of({"shop"});
  request.min_age = seconds(60);
  commit({frame(app_, 1, {"a"})});
  const BootMs first_due = clock_.boot_ms() + 60'000;
  clock_.advance(seconds(20));
  commit({frame(app_, 2, {"b"})});

  EXPECT_EQ(lease(request).id, 0u);
  EXPECT_EQ(lease(request).due_boot_ms, first_due);
  // The wall clock has no say.
  clock_.jump(std::chrono::hours(24 * 365));
  EXPECT_EQ(lease(request).due_boot_ms, first_due);

  clock_.advance(seconds(40));
  const auto old_enough = lease(request);
  EXPECT_EQ(bodies_of(old_enough), (Bodies{"a"}));
  EXPECT_FALSE(old_enough.due_boot_ms);
  EXPECT_EQ(lease(request).due_boot_ms, first_due + 20'000);

  request.min_age = seconds(0);
  EXPECT_EQ(bodies_of(lease(request)), (Bodies{"b"}));
}

TEST_F(Leasing, ARestartDoesNotMakeRowsOlderOrYounger) {
  auto request = lease_of({"shop"});
  request.min_age = std::chrono::seconds(60);
  commit({frame(app_, 1, {"a"})});
  clock_.advance(std::chrono::seconds(40));
  reopen();
  EXPECT_EQ(lease(request).due_boot_ms, clock_.boot_ms() + 20'000);
  clock_.advance(std::chrono::seconds(20));
  EXPECT_EQ(bodies_of(lease(request)), (Bodies{"a"}));
}

TEST_F(Leasing, ABacklogThatIsDeliveredMeanwhileDoesNotSendTheSearchForUrgentRowsBack) {
  constexpr std::uint64_t kBacklog = 5000;
  std::vector<store::Append> group;
  for (std::uint64_t n = 1; n <= kBacklog; ++n) {
    group.push_back(frame(app_, n, {"e"}));
    // Rows of one frame each.
    if (n % 2 == 0) group.back().persistence_class = event::Class::kLow;
  }
  commit(std::move(group));
  auto urgent = frame(app_, kBacklog + 1, {"now"});
  urgent.urgency = event::Urgency::kUrgent;
  commit({std::move(urgent)});

  auto first = lease_of({"shop"}, 10);
  auto search = first;
  search.urgent_only = true;
  int searches = 0;
  for (store::Lease found; found.id == 0 && searches < 10; ++searches) {
    settle(lease(first).id);
    found = lease(search);
    if (found.id != 0) {
      EXPECT_EQ(bodies_of(found), (Bodies{"now"}));
    } else {
      EXPECT_TRUE(found.unfinished);
    }
  }
  EXPECT_LE(searches, 3) << "2048 rows are looked at in each";
}

TEST_F(Leasing, SettlingAnUnknownLeaseIsAnError) {
  EXPECT_EQ(store_->settle({42, "upstream", {}}).error().code(), ErrorCode::kNotFound);
}

TEST_F(Leasing, TheOldestQueuedRowIsKnownPerApp) {
  const auto mail = client(2, "mail");
  commit({frame(app_, 1, {"a"})});
  const UnixMs then = clock_.unix_ms();
  clock_.advance(std::chrono::seconds(5));
  commit({frame(mail, 1, {"b"}), frame(app_, 2, {"c"})});
  EXPECT_EQ(store_->queue("shop")->oldest_unix_ms, then);
  EXPECT_EQ(store_->queue("mail")->oldest_unix_ms, then + 5000);
  EXPECT_EQ(store_->queue("shop")->events, 2u);
  settle(lease(lease_of({"shop"}, 1)).id);
  EXPECT_EQ(store_->queue("shop")->oldest_unix_ms, then + 5000);
  EXPECT_EQ(store_->queue("nobody")->oldest_unix_ms, std::nullopt);
}

}  // namespace
}  // namespace telemetryd::test
