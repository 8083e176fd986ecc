#include "gateway/connections.h"

#include <arpa/inet.h>
#include <array>
#include <netinet/in.h>
#include <sys/socket.h>
#include <vector>

#include <gtest/gtest.h>

#include "gateway/startup.h"
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
  const test::FakeClock clock;
  const auto connections = Connections::create(loop, clock).value();
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
  const test::FakeClock clock;
  const auto connections = Connections::create(loop, clock).value();
  std::vector<Pair> pairs(Connections::kPerUidMax + 1);
  for (std::size_t i = 0; i < Connections::kPerUidMax; ++i) {
    ASSERT_TRUE(connections->add(1000, pairs[i].ours.get()));
  }
  EXPECT_FALSE(connections->add(1000, pairs.back().ours.get()));
  EXPECT_TRUE(connections->add(1001, pairs.back().ours.get()));
}

// A listener on this machine and a stranger at `from`, one of the many loopback addresses.
class TcpPair {
 public:
  explicit TcpPair(const char* from) {
    UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in at = address("127.0.0.1");
    socklen_t size = sizeof at;
    EXPECT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&at), size), 0);
    EXPECT_EQ(::listen(listener.get(), 1), 0);
    EXPECT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&at), &size), 0);
    theirs = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in source = address(from);
    EXPECT_EQ(::bind(theirs.get(), reinterpret_cast<sockaddr*>(&source), sizeof source), 0);
    EXPECT_EQ(::connect(theirs.get(), reinterpret_cast<sockaddr*>(&at), size), 0);
    ours = UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }

  bool shut() const {
    char byte = 0;
    return ::recv(theirs.get(), &byte, 1, MSG_DONTWAIT) == 0;
  }

  UniqueFd ours;
  UniqueFd theirs;

 private:
  static sockaddr_in address(const char* text) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    ::inet_pton(AF_INET, text, &address.sin_addr);
    return address;
  }
};

TEST(Connections, StrangersOfOneAddressMakeRoomForEachOtherAndForNobodyElse) {
  loop::Loop loop;
  const test::FakeClock clock;
  const auto connections = Connections::create(loop, clock).value();
  std::vector<TcpPair> strangers;
  for (std::size_t i = 0; i <= Connections::kUnprovenPerAddressMax; ++i) {
    strangers.emplace_back("127.0.0.2");
    ASSERT_TRUE(connections->add(kRemoteUid, strangers.back().ours.get()));
  }
  EXPECT_EQ(connections->count(kRemoteUid), Connections::kUnprovenPerAddressMax);
  EXPECT_TRUE(strangers.front().shut());
  EXPECT_FALSE(strangers.back().shut());
  const TcpPair relay("127.0.0.3");
  ASSERT_TRUE(connections->add(kRemoteUid, relay.ours.get()));
  EXPECT_FALSE(strangers[1].shut());
  connections->prove(peer_of(strangers[1].ours.get()));
  strangers.emplace_back("127.0.0.2");
  ASSERT_TRUE(connections->add(kRemoteUid, strangers.back().ours.get()));
  EXPECT_FALSE(strangers[1].shut());
  EXPECT_FALSE(relay.shut());
}

TEST(Connections, AStrangerGoesWhenThePlaceIsNeededAndASenderStays) {
  loop::Loop loop;
  const test::FakeClock clock;
  const auto connections = Connections::create(loop, clock).value();
  std::vector<TcpPair> pairs;
  for (std::size_t i = 0; i < Connections::kRemoteMax; ++i) {
    pairs.emplace_back(("127.0.1." + std::to_string(1 + i / 4)).c_str());
    ASSERT_TRUE(connections->add(kRemoteUid, pairs.back().ours.get()));
    if (i != 5) connections->prove(peer_of(pairs.back().ours.get()));
  }
  const TcpPair relay("127.0.0.3");
  ASSERT_TRUE(connections->add(kRemoteUid, relay.ours.get()));
  EXPECT_TRUE(pairs[5].shut());
  connections->prove(peer_of(relay.ours.get()));
  const TcpPair more("127.0.0.4");
  EXPECT_FALSE(connections->add(kRemoteUid, more.ours.get()));
  // The users of this machine have places of their own.
  const Pair local;
  EXPECT_TRUE(connections->add(1000, local.ours.get()));
}

TEST(Connections, AStrangerWithoutACallIsClosedAfterTheDeadlineAndASenderIsNot) {
  loop::Loop loop;
  test::FakeClock clock;
  const auto connections = Connections::create(loop, clock, std::chrono::milliseconds(5)).value();
  const TcpPair stranger("127.0.0.2");
  const TcpPair sender("127.0.0.3");
  const Pair local;
  ASSERT_TRUE(connections->add(kRemoteUid, stranger.ours.get()));
  ASSERT_TRUE(connections->add(kRemoteUid, sender.ours.get()));
  ASSERT_TRUE(connections->add(1000, local.ours.get()));
  connections->prove(peer_of(sender.ours.get()));
  clock.advance(std::chrono::milliseconds(5));
  EXPECT_TRUE(turn_until(loop, [&] { return connections->count() == 2; }));
  EXPECT_TRUE(stranger.shut());
  EXPECT_FALSE(sender.shut());
}

TEST(Connections, OfAFlooderAreShutAndNobodyElses) {
  loop::Loop loop;
  const test::FakeClock clock;
  const auto connections = Connections::create(loop, clock).value();
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
