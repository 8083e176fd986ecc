#include "server/failure_limiter.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string>

#include <gtest/gtest.h>

#include "server/peer_network.h"

namespace telemetryd::server {
namespace {

Bytes16 network(const std::string& text) {
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  if (::inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) {
    return peer_network(reinterpret_cast<const sockaddr*>(&v4));
  }
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  EXPECT_EQ(::inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr), 1) << text;
  return peer_network(reinterpret_cast<const sockaddr*>(&v6));
}

TEST(PeerNetwork, IsTheAddressOrOfIpv6TheNetworkOf64Bits) {
  const struct {
    const char* name;
    const char* one;
    const char* other;
    bool same;
  } rows[] = {
      {"two IPv4 addresses", "192.0.2.1", "192.0.2.2", false},
      {"IPv4 with and without IPv6 around it", "192.0.2.1", "::ffff:192.0.2.1", true},
      {"two IPv4 addresses in IPv6", "::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
      {"one IPv6 network", "2001:db8::1", "2001:db8::ffff:1:2:3", true},
      {"two IPv6 networks", "2001:db8:0:1::1", "2001:db8:0:2::1", false},
      {"loopback of both", "127.0.0.1", "::1", false},
  };

  for (const auto& row : rows) {
    EXPECT_EQ(network(row.one) == network(row.other), row.same) << row.name;
  }
  EXPECT_EQ(to_hex(network("192.0.2.1")), "00000000000000000000ffffc0000201");
  EXPECT_EQ(to_hex(network("2001:db8::1")), "20010db8000000000000000000000000");
  EXPECT_EQ(peer_network(nullptr), Bytes16{});
}

constexpr std::int64_t kNowS = 125;

void fail_often(FailureLimiter& limiter, const FailureLimiter::Sender& sender) {
  for (std::uint32_t i = 0; i < FailureLimiter::kPerMinuteMax; ++i) {
    EXPECT_FALSE(limiter.wait_s(sender, kNowS)) << i;
    limiter.count(sender, kNowS);
  }
}

TEST(FailureLimiter, HoldsWhoFailedOftenUntilTheMinuteTurnsAndNobodyElse) {
  FailureLimiter limiter;
  const FailureLimiter::Sender bad{.network = network("192.0.2.1"), .application = 1, .token = 7};
  fail_often(limiter, bad);

  const struct {
    const char* name;
    FailureLimiter::Sender sender;
    std::int64_t now_s;
    std::optional<std::int64_t> wait_s;
  } rows[] = {
      {"the same", bad, kNowS, 55},
      {"in the last second", bad, 179, 1},
      {"from elsewhere", {network("192.0.2.2"), 1, 7}, kNowS, std::nullopt},
      {"another application", {bad.network, 2, 7}, kNowS, std::nullopt},
      {"another token", {bad.network, 1, 8}, kNowS, std::nullopt},
      {"no token", {bad.network, 1, 0}, kNowS, std::nullopt},
      {"in the next minute", bad, 180, std::nullopt},
      {"after the clock was put back", bad, 100, std::nullopt},
  };

  for (const auto& row : rows) {
    EXPECT_EQ(limiter.wait_s(row.sender, row.now_s), row.wait_s) << row.name;
  }
}

TEST(FailureLimiter, AFullTableRefusesNobodyItDoesNotKnow) {
  FailureLimiter limiter;
  const FailureLimiter::Sender known{.network = network("192.0.2.1"), .application = 1};
  fail_often(limiter, known);
  for (std::size_t i = 0; i < FailureLimiter::kPairsMax; ++i) {
    limiter.count({.network = {}, .application = static_cast<std::int64_t>(i + 2)}, kNowS);
  }
  const FailureLimiter::Sender beyond{.network = network("192.0.2.3"), .application = 1};
  fail_often(limiter, beyond);
  EXPECT_FALSE(limiter.wait_s(beyond, kNowS));
  EXPECT_TRUE(limiter.wait_s(known, kNowS));
}

}  // namespace
}  // namespace telemetryd::server
