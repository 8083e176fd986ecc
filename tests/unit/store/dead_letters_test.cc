// What was refused for good: seen, sent again, thrown away.

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "telemetry/v1/event.pb.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

namespace v1 = ::telemetry::v1;

std::string encoded(const std::string& name,
                    v1::Urgency urgency = v1::URGENCY_NORMAL,
                    v1::PersistenceClass persistence_class = v1::PERSISTENCE_CLASS_NORMAL) {
  v1::Event event;
  Bytes16 id = random_bytes16();
  id[6] = static_cast<std::uint8_t>(0x70 | (id[6] & 0x0f));
  id[8] = static_cast<std::uint8_t>(0x80 | (id[8] & 0x3f));
  event.set_id(id.data(), id.size());
  event.set_name(name);
  event.set_time_unix_nano(1'700'000'000'000'000'000ull);
  event.set_urgency(urgency);
  event.set_persistence_class(persistence_class);
  return event.SerializeAsString();
}

class DeadLetters : public StoreTest {
 protected:
  // Sends events, each refused with its own words by `destination`.
  void park(const std::shared_ptr<const store::ClientInfo>& from,
            const std::vector<std::string>& events,
            const std::string& destination = "upstream") {
    commit({frame(from, ++numbers_[from->key], events)});
    const auto lent = lease(lease_of({from->app}));
    std::vector<store::Rejected> rejected;
    for (const store::LeasedRow& row : lent.rows) {
      for (std::uint32_t i = 0; i < row.count; ++i) {
        rejected.push_back({row.meta.seq, i, 1, "no " + std::to_string(i)});
      }
    }
    ASSERT_TRUE(store_->settle({lent.id, destination, rejected}));
  }

  std::vector<store::DeadLetter> letters(const store::DeadQuery& query = {}) {
    auto found = store_->dead_letters(query);
    EXPECT_TRUE(found) << found.error().message();
    return found ? found->letters : std::vector<store::DeadLetter>();
  }

  // As many as may lie in the way of two slices.
  void park_many(const std::shared_ptr<const store::ClientInfo>& from) {
    for (int i = 0; i < 10; ++i) park(from, std::vector<std::string>(1000, encoded("many")));
  }

  store::DeadMoved replay(const store::DeadQuery& query = {}) {
    const auto moved = store_->replay_dead(query);
    EXPECT_TRUE(moved) << moved.error().message();
    return moved ? *moved : store::DeadMoved();
  }

  store::DeadMoved drop(const store::DeadQuery& query = {}) {
    const auto moved = store_->drop_dead(query);
    EXPECT_TRUE(moved) << moved.error().message();
    return moved ? *moved : store::DeadMoved();
  }

  std::shared_ptr<const store::ClientInfo> shop_ = client(1);
  std::shared_ptr<const store::ClientInfo> mail_ = client(2, "mail", 1001);
  std::map<store::ClientKey, std::uint64_t> numbers_;
};

TEST_F(DeadLetters, AreShownWithTheWordsOfWhoRefusedThem) {
  const std::string first = encoded("a");
  const std::string second = encoded("b");
  park(shop_, {first, second});
  const auto found = letters();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].app, "shop");
  EXPECT_EQ(found[0].uid, 1000u);
  EXPECT_EQ(found[0].destination, "upstream");
  EXPECT_EQ(found[0].reason, "no 0");
  EXPECT_EQ(found[0].parked_unix_ms, clock_.unix_ms());
  EXPECT_EQ(found[0].event, first);
  EXPECT_EQ(found[0].context, "context of shop");
  EXPECT_EQ(found[1].event, second);
  EXPECT_LT(found[0].id, found[1].id);
}

TEST_F(DeadLetters, AreFoundByUserAppAndDestinationPageByPage) {
  park(shop_, {encoded("a"), encoded("b"), encoded("c")});
  park(mail_, {encoded("d")}, "elsewhere");
  EXPECT_EQ(letters({.uid = 1001}).size(), 1u);
  EXPECT_EQ(letters({.uid = 7}).size(), 0u);
  EXPECT_EQ(letters({.app = "shop"}).size(), 3u);
  EXPECT_EQ(letters({.destination = "elsewhere"}).size(), 1u);
  const auto page = letters({.limit = 2});
  ASSERT_EQ(page.size(), 2u);
  EXPECT_EQ(letters({.after_id = page[1].id}).size(), 2u);
  EXPECT_EQ(letters({.up_to_id = page[0].id}).size(), 1u);
}

TEST_F(DeadLetters, OneUsersAreFoundBehindManyOfAnotherSliceBySlice) {
  park_many(shop_);
  park(mail_, {encoded("a"), encoded("b")});
  store::DeadQuery query{.uid = 1001};
  std::size_t found = 0;
  int slices = 0;
  for (bool more = true; more; ++slices) {
    const auto page = store_->dead_letters(query);
    ASSERT_TRUE(page);
    EXPECT_LE(page->last_id - query.after_id, 4096 + 2);
    EXPECT_TRUE(page->last_id > query.after_id || !page->more) << "each slice gets on";
    found += page->letters.size();
    query.after_id = page->last_id;
    more = page->more;
  }
  EXPECT_EQ(found, 2u);
  EXPECT_GE(slices, 3);
}

TEST_F(DeadLetters, AMoveOfOneUsersGoesOnSliceBySliceToo) {
  park_many(shop_);
  park(mail_, {encoded("a"), encoded("b")});
  store::DeadQuery query{.uid = 1001, .limit = 1000};
  std::uint64_t moved = 0;
  for (bool more = true; more;) {
    const store::DeadMoved step = replay(query);
    moved += step.events;
    more = step.last_id != 0 && step.last_id < step.up_to_id;
    query.after_id = step.last_id;
    query.up_to_id = step.up_to_id;
  }
  EXPECT_EQ(moved, 2u);
  EXPECT_EQ(account("parked"), 10'000);
}

TEST_F(DeadLetters, AReplayedOneIsDeliveredLikeAnyOther) {
  const std::string event = encoded("a");
  park(shop_, {event, encoded("b")});
  const auto found = letters();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(account("parked"), 2);

  const auto moved = replay({.after_id = found[0].id - 1, .up_to_id = found[0].id});
  EXPECT_EQ(moved.events, 1u);
  EXPECT_EQ(moved.last_id, found[0].id);
  EXPECT_EQ(account("parked"), 1);
  EXPECT_EQ(account("queued"), 1);
  EXPECT_EQ(account("accepted"), 2) << "it is accepted once";
  expect_balanced();

  const auto lent = lease(lease_of({"shop"}));
  EXPECT_EQ(bodies_of(lent), std::vector<std::string>{event});
  ASSERT_EQ(lent.rows.size(), 1u);
  EXPECT_EQ(lent.rows[0].context, "context of shop");
  EXPECT_EQ(lent.rows[0].meta.uid, 1000u);
  settle(lent.id);
  EXPECT_EQ(account("delivered"), 1);
  EXPECT_EQ(account("queued_bytes"), 0);
}

TEST_F(DeadLetters, AReplaySurvivesACrashAndIsCountedOnce) {
  // A row that is not booked yet stands before those that are replayed.
  park(shop_, {encoded("a"), encoded("b")});
  commit({frame(mail_, 1, {encoded("c")})});
  EXPECT_EQ(replay().events, 2u);
  commit({frame(mail_, 2, {encoded("d")})});
  crash_and_reopen();
  EXPECT_EQ(account("queued"), 4);
  EXPECT_EQ(account("parked"), 0);
  EXPECT_EQ(account("accepted"), 4);
  expect_balanced();
  EXPECT_EQ(lease(lease_of({"shop", "mail"})).events, 4u);
}

TEST_F(DeadLetters, ALongReplayIsDoneInStepsAndEnds) {
  std::vector<std::string> events;
  for (int i = 0; i < 1000; ++i) events.push_back(encoded("e"));
  park(shop_, events);
  park(shop_, events);
  const auto first = replay({.limit = 5000});
  EXPECT_EQ(first.events, 1000u) << "of one transaction";
  EXPECT_LT(first.last_id, first.up_to_id);
  // Refused again before the second step.
  park(shop_, {encoded("late")});
  const auto second =
      replay({.after_id = first.last_id, .up_to_id = first.up_to_id, .limit = 5000});
  EXPECT_EQ(second.events, 1000u);
  EXPECT_EQ(second.last_id, second.up_to_id);
  EXPECT_EQ(account("queued") + account("parked"), 2001);
}

TEST_F(DeadLetters, ThoseThatAreBeingErasedCannotBeSavedFromIt) {
  // Two leases are out when the erasure comes, and it waits for both.
  commit({frame(shop_, ++numbers_[shop_->key], {encoded("a")})});
  const auto first = lease(lease_of({"shop"}));
  const auto other = client(3, "tool");
  commit({frame(other, 1, {encoded("b")})});
  const auto second = lease(lease_of({"tool"}));
  ASSERT_TRUE(store_->erase(1000, ""));
  settle(first.id, {{first.rows.front().meta.seq, 0, 1, "no"}});
  EXPECT_EQ(letters().size(), 0u);
  EXPECT_EQ(replay().events, 0u);
  store_->release(second.id);
  EXPECT_EQ(account("parked"), 0);
  EXPECT_EQ(account("queued"), 0);
  EXPECT_EQ(account("erased", "withdrawn"), 2);
}

TEST_F(DeadLetters, KeepTheirClassAndUrgency) {
  park(shop_, {encoded("a", v1::URGENCY_URGENT, v1::PERSISTENCE_CLASS_CRITICAL)});
  std::vector<store::QueueChange> told;
  store_->observe_queue([&](const store::QueueChange& change) { told.push_back(change); }, 0, 0);
  EXPECT_EQ(replay().events, 1u);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_TRUE(told[0].urgent);
  EXPECT_EQ(told[0].app, "shop");
  EXPECT_EQ(told[0].events, 1u);
  const auto lent = lease(lease_of({"shop"}));
  ASSERT_EQ(lent.rows.size(), 1u);
  EXPECT_EQ(lent.rows[0].meta.urgency, event::Urgency::kUrgent);
  EXPECT_EQ(lent.rows[0].meta.persistence_class, event::Class::kCritical);
}

TEST_F(DeadLetters, WhatCannotBeReadStaysAndIsSaid) {
  park(shop_, {"no event at all"});
  park(shop_, {encoded("a")});
  const auto moved = replay();
  EXPECT_EQ(moved.events, 1u);
  EXPECT_EQ(moved.unreadable, 1u);
  EXPECT_EQ(account("parked"), 1);
  EXPECT_EQ(drop().events, 1u);
  EXPECT_EQ(account("dropped", "dead_letter"), 1);
}

TEST_F(DeadLetters, DroppedOnesAreGoneAndCounted) {
  park(shop_, {encoded("a"), encoded("b")});
  park(mail_, {encoded("c")});
  EXPECT_EQ(drop({.app = "shop"}).events, 2u);
  EXPECT_EQ(account("dropped", "dead_letter"), 2);
  EXPECT_EQ(account("parked"), 1);
  reopen();
  EXPECT_EQ(letters().size(), 1u);
  expect_balanced();
}

TEST_F(DeadLetters, NothingFoundMovesNothing) {
  EXPECT_EQ(replay().last_id, 0);
  EXPECT_EQ(drop().last_id, 0);
  EXPECT_EQ(account("dropped", "dead_letter"), 0);
}

TEST_F(DeadLetters, AReplayThatFindsNoRoomLeavesThemWhereTheyAre) {
  park(shop_, {encoded(std::string(60, 'x'))});
  store_.reset();
  auto options = small_store(dir_.path());
  // More than any disk has.
  options.free_disk_bytes_min = UINT64_MAX / 2;
  open(options);
  const auto moved = store_->replay_dead({});
  ASSERT_FALSE(moved);
  EXPECT_EQ(moved.error().code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(letters().size(), 1u);
  EXPECT_EQ(drop().events, 1u) << "dropping makes room";
}

}  // namespace
}  // namespace telemetryd::test
