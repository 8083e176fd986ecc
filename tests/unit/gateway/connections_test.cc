#include "gateway/connections.h"

#include <array>
#include <sys/socket.h>
#include <vector>

#include <gtest/gtest.h>

#include "rig.h"

namespace telemetryd::gateway {
namespace {

struct Pair {
  Pair() {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    ours = UniqueFd(fds[0]);
    theirs = UniqueFd(fds[1]);
  }

  UniqueFd ours;
  UniqueFd theirs;
};

TEST(Connections, AreCountedUntilEitherSideClosesThem) {
  loop::Loop loop;
  const auto connections = Connections::create(loop).value();
  Pair first;
  Pair second;
  ASSERT_TRUE(connections->add(1000, first.ours.get()));
  ASSERT_TRUE(connections->add(1000, second.ours.get()));
  EXPECT_EQ(connections->count(1000), 2u);
  first.theirs.reset();
  EXPECT_TRUE(turn_until(loop, [&] { return connections->count(1000) == 1; }));
  // As gRPC does when it is done with one.
  ::shutdown(second.ours.get(), SHUT_RDWR);
  second.ours.reset();
  EXPECT_TRUE(turn_until(loop, [&] { return connections->count() == 0; }));
}

TEST(Connections, OfOneUidAreLimitedAndOthersStillGetTheirs) {
  loop::Loop loop;
  const auto connections = Connections::create(loop).value();
  std::vector<Pair> pairs(Connections::kPerUidMax + 1);
  for (std::size_t i = 0; i < Connections::kPerUidMax; ++i) {
    ASSERT_TRUE(connections->add(1000, pairs[i].ours.get()));
  }
  EXPECT_FALSE(connections->add(1000, pairs.back().ours.get()));
  EXPECT_TRUE(connections->add(1001, pairs.back().ours.get()));
}

TEST(Connections, OfAFlooderAreShutAndNobodyElses) {
  loop::Loop loop;
  const auto connections = Connections::create(loop).value();
  const Pair flooder;
  const Pair other;
  ASSERT_TRUE(connections->add(1000, flooder.ours.get()));
  ASSERT_TRUE(connections->add(1001, other.ours.get()));
  EXPECT_EQ(connections->shut(1000, ""), 1u);
  char byte = 0;
  EXPECT_EQ(::recv(flooder.theirs.get(), &byte, 1, MSG_DONTWAIT), 0);
  EXPECT_EQ(::recv(other.theirs.get(), &byte, 1, MSG_DONTWAIT), -1);
  EXPECT_TRUE(turn_until(loop, [&] { return connections->count() == 1; }));
}

}  // namespace
}  // namespace telemetryd::gateway
