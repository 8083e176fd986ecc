// Who gives way at the quota, when a few have more than their share.

#include "store/shares.h"

#include <gtest/gtest.h>

namespace telemetryd::store {
namespace {

using event::Class;

constexpr Owner owner(std::uint32_t uid, AppId app, Class persistence_class = Class::kNormal) {
  return {uid, app, persistence_class};
}

TEST(Shares, NobodyGivesWayWhenNothingIsKnown) {
  EXPECT_EQ(Shares().next_to_give_way({}), std::nullopt);
}

TEST(Shares, TheUserWithMoreThanTheMeanLosesWhateverTheClass) {
  Shares shares;
  shares.add(owner(1, 1, Class::kLow), 1, 100);
  shares.add(owner(2, 2, Class::kCritical), 2, 900);
  EXPECT_EQ(shares.next_to_give_way({}), owner(2, 2, Class::kCritical));
}

TEST(Shares, OfAUsersAppsTheOneWithMoreThanTheMeanLoses) {
  Shares shares;
  shares.add(owner(1, 1, Class::kLow), 1, 100);
  shares.add(owner(1, 2), 2, 900);
  EXPECT_EQ(shares.next_to_give_way({}), owner(1, 2));
}

TEST(Shares, AmongThoseWithTheirFullShareTheLowestClassLosesThenTheMostBytes) {
  Shares shares;
  shares.add(owner(1, 1, Class::kCritical), 1, 500);
  shares.add(owner(1, 1, Class::kLow), 2, 10);
  shares.add(owner(1, 1), 3, 490);
  EXPECT_EQ(shares.next_to_give_way({}), owner(1, 1, Class::kLow));
  shares.remove(owner(1, 1, Class::kLow), 10);
  EXPECT_EQ(shares.next_to_give_way({}), owner(1, 1));
  shares.add(owner(2, 7), 4, 1000);
  EXPECT_EQ(shares.next_to_give_way({}), owner(2, 7));
}

TEST(Shares, WhoCannotGiveWayIsLeftOut) {
  Shares shares;
  shares.add(owner(1, 1), 1, 10);
  shares.add(owner(2, 2), 2, 90);
  EXPECT_EQ(shares.next_to_give_way({owner(2, 2)}), owner(1, 1));
  EXPECT_EQ(shares.next_to_give_way({owner(1, 1), owner(2, 2)}), std::nullopt);
}

TEST(Shares, OwnersAreBounded) {
  Shares shares;
  for (std::uint32_t uid = 0; uid < Shares::kOwnersMax + 5; ++uid) shares.add(owner(uid, 1), 1, 1);
  shares.add(owner(Shares::kOwnersMax + 1, 1), 1, 1'000'000);
  EXPECT_NE(shares.next_to_give_way({})->uid, Shares::kOwnersMax + 1);
}

}  // namespace
}  // namespace telemetryd::store
