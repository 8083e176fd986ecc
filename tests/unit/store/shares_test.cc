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

// Every small owner has more than the one before.
Shares as_many_as_fit() {
  Shares shares;
  for (std::uint32_t uid = 0; uid < Shares::kOwnersMax; ++uid) {
    shares.add(owner(uid, 1), uid + 1, 100 + uid);
  }
  return shares;
}

TEST(Shares, OneOwnerMoreTakesThePlaceOfTheSmallest) {
  Shares shares = as_many_as_fit();
  shares.add(owner(Shares::kOwnersMax, 1), 10'000, 5);
  EXPECT_EQ(shares.first(owner(Shares::kOwnersMax, 1)), 10'000u);
  EXPECT_EQ(shares.first(owner(0, 1)), 0u);
  EXPECT_EQ(shares.first(owner(1, 1)), 2u);
}

TEST(Shares, AFloodDoesNotHideBehindAsManySmallOwnersAsFit) {
  Shares shares = as_many_as_fit();
  for (Seq seq = 10'000; seq < 10'100; ++seq) shares.add(owner(99'999, 1), seq, 1000);
  EXPECT_EQ(shares.next_to_give_way({}), owner(99'999, 1));
  // Nor is it forgotten when many more small ones come.
  for (std::uint32_t uid = 20'000; uid < 21'000; ++uid) shares.add(owner(uid, 1), uid, 1);
  EXPECT_EQ(shares.next_to_give_way({}), owner(99'999, 1));
}

TEST(Shares, AreCountedAnewWhenNobodyIsLeftOrAsManyWereDisplacedAsFit) {
  EXPECT_TRUE(Shares().outdated());
  Shares shares = as_many_as_fit();
  for (std::uint32_t more = 1; more < Shares::kOwnersMax; ++more) {
    shares.add(owner(Shares::kOwnersMax + more, 1), 10'000 + more, 1);
  }
  EXPECT_FALSE(shares.outdated());
  shares.add(owner(1'000'000, 1), 1'000'000, 1);
  EXPECT_TRUE(shares.outdated());
}

}  // namespace
}  // namespace telemetryd::store
