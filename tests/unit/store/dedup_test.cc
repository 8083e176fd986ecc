// What becomes of a frame: stored, known already, or refused; and in which order.

#include <algorithm>

#include <gtest/gtest.h>

#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

using store::Answer;
using enum Answer::Kind;

std::vector<Answer::Kind> kinds(const std::vector<Answer>& answers) {
  std::vector<Answer::Kind> result;
  for (const Answer& answer : answers) result.push_back(answer.kind);
  return result;
}

class Dedup : public StoreTest {
 protected:
  void reopen_for(std::uint32_t clients_max) {
    ASSERT_TRUE(store_->close());
    store_.reset();
    store::Options options = small_store(dir_.path());
    options.clients_max = clients_max;
    open(options);
  }
};

TEST_F(Dedup, AFrameIsStoredOnce) {
  const auto app = client(1);
  EXPECT_EQ(kinds(commit({frame(app, 1, {"a"}), frame(app, 1, {"a"})})),
            (std::vector{kStored, kDuplicate}));
  EXPECT_EQ(kinds(commit({frame(app, 1, {"a"})})), (std::vector{kDuplicate}));
  EXPECT_EQ(account("accepted"), 1);
  EXPECT_EQ(account("duplicates"), 2);
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), (std::vector<std::string>{"a"}));
}

TEST_F(Dedup, EveryNumberIsConsumedAndEveryFrameKept) {
  const auto app = client(1);
  for (std::uint64_t number = 1; number <= 200; ++number) {
    ASSERT_EQ(kinds(commit({frame(app, number, {"a"})})), (std::vector{kStored}));
    ASSERT_EQ(kinds(commit({frame(app, number, {"a"})})), (std::vector{kDuplicate}));
  }
  EXPECT_EQ(store_->list({.limit = 1000})->size(), 200u);
}

TEST_F(Dedup, TheUserWithTheMostInstancesLosesTheOldest) {
  reopen_for(16);
  const auto neighbour = client(1, "shop", 7);
  commit({frame(neighbour, 1, {"a"})});
  for (std::uint8_t instance = 1; instance <= 100; ++instance) {
    clock_.advance(std::chrono::seconds(1));
    const auto sender = client(instance, "shop", 8);
    // A duplicate has to be counted, so the table takes over what the rows say.
    commit({frame(sender, 1, {"b"}), frame(sender, 1, {"b"})});
  }
  reopen();
  EXPECT_EQ(store_->high_water(neighbour->key).value(), 1u);
  EXPECT_EQ(store_->high_water(client(1, "shop", 8)->key).value(), std::nullopt);
  EXPECT_EQ(store_->high_water(client(100, "shop", 8)->key).value(), 1u);
}

TEST_F(Dedup, InstancesOfManyUsersAreBoundedToo) {
  reopen_for(16);
  constexpr std::uint32_t kUsers = 60;
  for (std::uint32_t uid = 1; uid <= kUsers; ++uid) {
    clock_.advance(std::chrono::seconds(1));
    const auto sender = client(1, "shop", uid);
    commit({frame(sender, 1, {"b"}), frame(sender, 1, {"b"})});
  }
  reopen();
  std::uint32_t known = 0;
  for (std::uint32_t uid = 1; uid <= kUsers; ++uid) {
    known += store_->high_water(client(1, "shop", uid)->key)->has_value() ? 1u : 0u;
  }
  EXPECT_LE(known, 17u) << "looked at with every sixteenth of the limit";
  EXPECT_TRUE(store_->high_water(client(1, "shop", kUsers)->key)->has_value());
}

TEST_F(Dedup, AnUnknownInstanceBeginsWhereItsHelloSays) {
  auto late = std::make_shared<store::ClientInfo>(*client(1));
  late->first_frame = 7;
  EXPECT_EQ(kinds(commit({frame(late, 6, {"old"}), frame(late, 7, {"first"})})),
            (std::vector{kDuplicate, kStored}));
  EXPECT_EQ(store_->high_water(late->key).value(), 7u);
}

TEST_F(Dedup, AClientAheadOfARestoredStoreGoesOnWhereItsHelloSays) {
  const auto app = client(1);
  commit({frame(app, 1, {"a"}), frame(app, 2, {"b"})});
  auto ahead = std::make_shared<store::ClientInfo>(*app);
  ahead->first_frame = 10;
  EXPECT_EQ(kinds(commit({frame(ahead, 9, {"settled"}), frame(ahead, 10, {"c"})})),
            (std::vector{kDuplicate, kStored}));
  EXPECT_EQ(store_->high_water(app->key).value(), 10u);
}

TEST_F(Dedup, AHelloAheadCountsBesideAnOlderConnectionInTheSameGroup) {
  const auto app = client(1);
  auto ahead = std::make_shared<store::ClientInfo>(*app);
  ahead->first_frame = 10;
  EXPECT_EQ(kinds(commit({frame(app, 1, {"a"}), frame(ahead, 10, {"b"})})),
            (std::vector{kStored, kStored}));
}

TEST_F(Dedup, AHelloBehindDoesNotTurnTheHighWaterBack) {
  const auto app = client(1);
  commit({frame(app, 1, {"a"}), frame(app, 2, {"b"})});
  EXPECT_EQ(kinds(commit({frame(std::make_shared<store::ClientInfo>(*app), 2, {"b"})})),
            (std::vector{kDuplicate}));
}

TEST_F(Dedup, AGapIsRefusedUntilItIsFilled) {
  const auto app = client(1);
  const auto answers = commit({frame(app, 1, {"a"}), frame(app, 3, {"c"})});
  EXPECT_EQ(kinds(answers), (std::vector{kStored, kRefused}));
  EXPECT_EQ(answers[1].refusal.code, frame::Code::kOutOfOrder);
  EXPECT_TRUE(answers[1].refusal.retryable);
  EXPECT_EQ(kinds(commit({frame(app, 2, {"b"}), frame(app, 3, {"c"})})),
            (std::vector{kStored, kStored}));
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), (std::vector<std::string>{"a", "b", "c"}));
}

TEST_F(Dedup, ARetryableRefusalInTheMiddleOfAWindowStopsWhatFollowsUntilItReturns) {
  const auto app = client(1);
  EXPECT_EQ(
      kinds(commit({frame(app, 1, {"a"}), refused_frame(app, 2, true), frame(app, 3, {"c"})})),
      (std::vector{kStored, kRefused, kRefused}));
  EXPECT_EQ(kinds(commit({frame(app, 4, {"d"})})), (std::vector{kRefused}));
  EXPECT_EQ(kinds(commit({frame(app, 2, {"b"}), frame(app, 3, {"c"}), frame(app, 4, {"d"})})),
            (std::vector{kStored, kStored, kStored}));
  EXPECT_EQ(account("refused", "stopping"), 0);
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), (std::vector<std::string>{"a", "b", "c", "d"}));
}

TEST_F(Dedup, APermanentRefusalConsumesItsNumberAndIsCounted) {
  const auto app = client(1);
  EXPECT_EQ(
      kinds(commit({frame(app, 1, {"a"}), refused_frame(app, 2, false, 5), frame(app, 3, {"c"})})),
      (std::vector{kStored, kRefused, kStored}));
  EXPECT_EQ(account("refused", "invalid_event"), 5);
  EXPECT_EQ(account("accepted"), 2);
  EXPECT_EQ(kinds(commit({refused_frame(app, 2, false, 5)})), (std::vector{kDuplicate}));
  EXPECT_EQ(account("refused", "invalid_event"), 5);
}

TEST_F(Dedup, ClientsDoNotShareNumbers) {
  const auto one = client(1);
  const auto same_instance_other_user = client(1, "shop", 1001);
  EXPECT_EQ(kinds(commit({frame(one, 1, {"a"}), frame(same_instance_other_user, 1, {"b"})})),
            (std::vector{kStored, kStored}));
}

TEST_F(Dedup, TheHighWaterSurvivesACrashAndAClose) {
  const auto app = client(1);
  commit({frame(app, 1, {"a"}), frame(app, 2, {"b"})});
  crash_and_reopen();
  EXPECT_EQ(store_->high_water(app->key).value(), 2u);
  reopen();
  EXPECT_EQ(kinds(commit({frame(app, 2, {"b"}), frame(app, 3, {"c"})})),
            (std::vector{kDuplicate, kStored}));
}

TEST_F(Dedup, AForgottenClientIsUnknown) {
  const auto app = client(1);
  commit({frame(app, 1, {"a"})});
  ASSERT_TRUE(store_->forget(app->key));
  EXPECT_EQ(store_->high_water(app->key).value(), std::nullopt);
}

TEST_F(Dedup, MoreClientsThanTheCacheHoldsAreStillKnown) {
  const auto many = [](std::uint32_t i) { return client(1, "shop", i); };
  std::vector<store::Append> group;
  for (std::uint32_t i = 0; i < 5000; ++i) group.push_back(frame(many(i), 1, {"x"}));
  commit(group);
  EXPECT_EQ(kinds(commit({frame(many(0), 1, {"x"}), frame(many(4999), 1, {"x"})})),
            (std::vector{kDuplicate, kDuplicate}));
}

TEST_F(Dedup, AClientNotSeenForAMonthIsForgottenAtTheNextStart) {
  const auto app = client(1);
  commit({frame(app, 1, {"a"})});
  reopen();
  reopen();
  reopen();
  clock_.advance(std::chrono::hours(24 * 31));
  reopen();
  EXPECT_EQ(store_->high_water(app->key).value(), std::nullopt);
}

TEST_F(Dedup, AClockThatLeapsForgetsNoClientOfTheLastStarts) {
  const auto app = client(1);
  commit({frame(app, 1, {"a"})});
  clock_.advance(std::chrono::hours(24 * 365 * 30));
  reopen();
  EXPECT_EQ(kinds(commit({frame(app, 1, {"a"})})), (std::vector{kDuplicate}));
}

TEST_F(Dedup, OneUserCannotTakeTheAppsOfAnother) {
  std::vector<store::Append> group;
  for (std::uint32_t i = 0; i < 600; ++i) {
    auto info = std::make_shared<store::ClientInfo>(*client(1, "app" + std::to_string(i)));
    info->key.instance[0] = static_cast<std::uint8_t>(i);
    info->key.instance[1] = static_cast<std::uint8_t>(i >> 8);
    group.push_back(frame(info, 1, {"a"}));
  }
  const auto answers = commit(group);
  EXPECT_EQ(std::ranges::count(kinds(answers), kStored), 512);
  EXPECT_EQ(answers.back().refusal.text, "this user has too many apps");
  EXPECT_FALSE(answers.back().refusal.retryable);
  EXPECT_EQ(account("refused", "invalid_event"), 88);
  EXPECT_EQ(store_->ledger()->at("(other)").get("refused", "invalid_event"), 88);
  EXPECT_EQ(std::ranges::count(store_->apps(), "(other)"), 0) << "nothing is queued under it";

  const auto late = frame(client(3, "late"), 1, {"a"});
  crash_and_reopen();
  EXPECT_EQ(kinds(commit({late})), (std::vector{kRefused})) << "a restart forgot who had them";
  EXPECT_EQ(kinds(commit(
                {frame(client(2, "other", 1001), 1, {"a"}), frame(client(4, "app0"), 1, {"a"})})),
            (std::vector{kStored, kStored}));
}

TEST_F(Dedup, ConsecutiveFramesOfOneClientShareARow) {
  const auto app = client(1);
  const auto other = client(2);
  commit({frame(app, 1, {"a"}), frame(other, 1, {"x"}), frame(app, 2, {"b"})});
  EXPECT_EQ(store_->check_ledger()->rows, 2u);
}

TEST_F(Dedup, ClassesDoNotShareARow) {
  const auto app = client(1);
  commit({frame(app, 1, {"a"}), frame(app, 2, {"b"}, event::Class::kLow), frame(app, 3, {"c"})});
  EXPECT_EQ(store_->check_ledger()->rows, 3u);
  EXPECT_EQ(bodies_of(lease(lease_of({"shop"}))), (std::vector<std::string>{"a", "b", "c"}));
}

TEST_F(Dedup, ARowEndsAtItsLimitsButTakesOneFrameOfAnySize) {
  const auto app = client(1);
  const std::string big(300u << 10, 'x');
  commit({frame(app, 1, {"a"}), frame(app, 2, {big}), frame(app, 3, {"c"})});
  EXPECT_EQ(store_->check_ledger()->rows, 3u);
  EXPECT_EQ(lease(lease_of({"shop"})).events, 3u);
}

}  // namespace
}  // namespace telemetryd::test
