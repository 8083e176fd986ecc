#include "gateway/hub.h"

#include <gtest/gtest.h>

#include "rig.h"

namespace telemetryd::gateway {
namespace {

using namespace std::chrono_literals;
using Kind = Session::Kind;

TEST(Idle, TheGatewayStopsWhenNothingIsUnansweredAndNothingCame) {
  HubRig rig(1ms);
  rig.clock.advance(1ms);
  const auto quiet = rig.begin(Kind::kPublishStream);
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.stopped == 1; }));
  EXPECT_EQ(rig.stopping, 1);
  EXPECT_EQ(quiet.caller->ended->code, StatusCode::kUnavailable);
  EXPECT_TRUE(quiet.caller->ended->retry_after);
  const auto late = rig.begin(Kind::kPublish);
  EXPECT_EQ(late.caller->ended->code, StatusCode::kUnavailable);
}

TEST(Idle, ARequestWithoutItsAnswerKeepsTheGateway) {
  HubRig rig(1ms);
  rig.daemon.on_events([](FakeDaemon::Peer&, const test::ReceivedFrame&) {});
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublish);
  call.send(request_bytes(1));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.received().size() == 1; }));
  for (int i = 0; i < 50; ++i) {
    rig.clock.advance(1ms);
    rig.loop.poll();
  }
  EXPECT_EQ(rig.stopping, 0);
  rig.daemon.with_peers([](FakeDaemon::Peer& peer) { peer.ack(1); });
  ASSERT_TRUE(turn_until(rig.loop, [&] { return call.caller->over(); }));
  EXPECT_EQ(call.caller->ended->code, StatusCode::kOk);
  ASSERT_TRUE(turn_until(rig.loop, [&] {
    rig.clock.advance(1ms);
    return rig.stopped == 1;
  }));
}

// A connection that telemetryd closes, or that ended for being quiet, is nobody's request.
TEST(Idle, TheEndOfAQuietConnectionToTelemetrydDoesNotPutItOff) {
  HubRig rig(20ms);
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublish);
  call.send(request_bytes(1));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return call.caller->over(); }));
  EXPECT_EQ(rig.hub.upstreams().connections(), 1u);
  rig.clock.advance(19ms);
  rig.daemon.with_peers([](FakeDaemon::Peer& peer) { peer.hang_up(); });
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.hub.upstreams().connections() == 0; }));
  EXPECT_EQ(rig.stopping, 0);
  rig.clock.advance(1ms);
  EXPECT_TRUE(turn_until(rig.loop, [&] { return rig.stopped == 1; }));
}

TEST(Idle, AnAnswerIsTheLastThingThatHappened) {
  HubRig rig(20ms);
  rig.daemon.on_events([](FakeDaemon::Peer&, const test::ReceivedFrame&) {});
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublish);
  call.send(request_bytes(1));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.received().size() == 1; }));
  rig.clock.advance(19ms);
  rig.daemon.with_peers([](FakeDaemon::Peer& peer) { peer.ack(1); });
  ASSERT_TRUE(turn_until(rig.loop, [&] { return call.caller->over(); }));
  rig.clock.advance(19ms);
  // Longer than the timer takes that was set when the hub began.
  const auto later = std::chrono::steady_clock::now() + 60ms;
  ASSERT_TRUE(turn_until(rig.loop, [&] { return std::chrono::steady_clock::now() > later; }));
  EXPECT_EQ(rig.stopping, 0);
  rig.clock.advance(1ms);
  EXPECT_TRUE(turn_until(rig.loop, [&] { return rig.stopped == 1; }));
}

TEST(Stopping, WaitsForTheAnswersThatAreOnTheirWay) {
  HubRig rig;
  rig.daemon.on_events([](FakeDaemon::Peer&, const test::ReceivedFrame&) {});
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublish);
  call.send(request_bytes(1));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.received().size() == 1; }));
  rig.hub.stop("test");
  EXPECT_EQ(rig.stopping, 1);
  EXPECT_EQ(rig.stopped, 0);
  rig.daemon.with_peers([](FakeDaemon::Peer& peer) { peer.ack(1); });
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.stopped == 1; }));
  EXPECT_EQ(call.caller->ended->code, StatusCode::kOk);
}

std::string large_request(char fill) {
  return field(1, event_bytes("e", field(99, std::string(1u << 20, 'x')))) +
         field(2, instance_bytes(fill)) + field(3, 1) + field(5, kContext);
}

TEST(Room, WhatManyCallsBringAtOnceIsTurnedAwayAboveTheBytesOfAUid) {
  HubRig rig;
  bool answer = false;
  rig.daemon.on_events([&](FakeDaemon::Peer& peer, const test::ReceivedFrame& frame) {
    if (answer) rig.daemon.accept(peer, frame);
  });
  rig.daemon.start();
  std::vector<HubRig::Running> calls;
  for (int i = 0; i < 24; ++i) calls.push_back(rig.begin(Kind::kPublish));
  // All were read while nothing was held, and all bring a message.
  for (std::size_t i = 0; i < calls.size(); ++i) {
    EXPECT_EQ(calls[i].caller->reads, 1);
    calls[i].send(large_request(static_cast<char>(i + 1)));
  }
  EXPECT_LE(rig.hub.room()->held(1000), Room::kBytesPerUidMax);
  for (std::size_t i = 0; i < calls.size(); ++i) {
    EXPECT_EQ(calls[i].caller->over(), i >= 15) << i;
    if (i < 15) continue;
    EXPECT_EQ(calls[i].caller->ended->code, StatusCode::kResourceExhausted);
    EXPECT_TRUE(calls[i].caller->ended->retry_after);
  }
  const auto other = rig.begin(Kind::kPublish, 1001);
  other.send(large_request('o'));
  EXPECT_FALSE(other.caller->over());
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.received().size() == 16; }));
  rig.daemon.with_peers([&](FakeDaemon::Peer& peer) {
    answer = true;
    peer.ack(1);
  });
  for (std::size_t i = 0; i < 15; ++i) {
    ASSERT_TRUE(turn_until(rig.loop, [&] { return calls[i].caller->over(); }));
    EXPECT_EQ(calls[i].caller->ended->code, StatusCode::kOk);
  }
  EXPECT_EQ(rig.hub.room()->held(1000), 0u);
}

TEST(Room, IsGivenBackByWhatIsInvalidAndByWhoGivesUp) {
  HubRig rig;
  const auto invalid = rig.begin(Kind::kPublish);
  invalid.send(field(2, std::string(9u << 20, 'x')));
  EXPECT_TRUE(invalid.caller->over());
  EXPECT_EQ(rig.hub.room()->held(1000), 0u);

  const auto waits = rig.begin(Kind::kPublish);
  auto taken = rig.begin(Kind::kPublish);
  auto work = taken.session->prepare(
      field(1, event_bytes("e", field(99, std::string(9u << 20, 'x')))) + field(5, kContext));
  EXPECT_GT(rig.hub.room()->held(1000), Room::kReadBelow);
  const auto late = rig.begin(Kind::kPublish);
  EXPECT_EQ(waits.caller->reads, 1);
  EXPECT_EQ(late.caller->reads, 0);
  taken.session->cancelled();
  work();
  work = nullptr;
  EXPECT_EQ(rig.hub.room()->held(1000), 0u);
  EXPECT_TRUE(turn_until(rig.loop, [&] { return late.caller->reads == 1; }));
}

TEST(Room, OfAllUsersTogetherIsBoundedAndOneLargerThanItsShareIsTakenAlone) {
  const auto room = std::make_shared<Room>();
  auto alone = room->take(1, Room::kBytesPerUidMax + 1);
  EXPECT_TRUE(alone);
  EXPECT_FALSE(room->take(1, 1));
  std::vector<Room::Held> held;
  for (std::uint32_t uid = 2; auto each = room->take(uid, Room::kBytesPerUidMax); ++uid) {
    ASSERT_LT(uid, 10u);
    held.push_back(*std::move(each));
  }
  // What was taken alone lies in two of the parts.
  EXPECT_EQ(held.size(), Room::kBytesMax / Room::kBytesPerUidMax - 2);
  held.pop_back();
  EXPECT_TRUE(room->take(9, Room::kBytesPerUidMax));
}

TEST(Room, AboveTheBytesOfAUidOnlyItsCallsAreNotRead) {
  HubRig rig;
  rig.daemon.on_events([](FakeDaemon::Peer&, const test::ReceivedFrame&) {});
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublishStream);
  const std::string large = field(1, event_bytes("e", field(99, std::string(1u << 20, 'x'))));
  call.send(large + field(2, instance_bytes()) + field(3, 1) + field(5, kContext));
  for (std::uint64_t number = 2; number <= 8; ++number) call.send(large + field(3, number));
  const auto same = rig.begin(Kind::kPublish);
  const auto other = rig.begin(Kind::kPublish, 1001);
  EXPECT_EQ(same.caller->reads, 0);
  EXPECT_EQ(other.caller->reads, 1);
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.received().size() == 8; }));
  rig.daemon.with_peers([](FakeDaemon::Peer& peer) { peer.ack(1); });
  ASSERT_TRUE(turn_until(rig.loop, [&] { return same.caller->reads == 1; }));
}

TEST(Flood, ASenderThatGivesUpAThousandCallsInASecondIsCutOffOnce) {
  HubRig rig;
  for (std::uint32_t i = 0; i < Hub::kGivenUpMax - 1; ++i) rig.hub.given_up(1000, "");
  rig.hub.given_up(1001, "");
  EXPECT_TRUE(rig.floods.empty());
  rig.clock.advance(Hub::kGivenUpWindow);
  for (std::uint32_t i = 0; i < Hub::kGivenUpMax - 1; ++i) rig.hub.given_up(1000, "");
  EXPECT_TRUE(rig.floods.empty());
  for (int i = 0; i < 5; ++i) rig.hub.given_up(1000, "");
  ASSERT_EQ(rig.floods.size(), 1u);
  EXPECT_EQ(rig.floods[0].first, 1000u);
}

TEST(Flood, ASenderWithMoreCallsThanItsConnectionsMayHaveOpenIsCutOff) {
  HubRig rig;
  rig.connections = 2;
  constexpr std::size_t kHonest = 2 * Hub::kCallsPerConnectionMax;
  rig.hub.has_open(1000, "", kHonest + Hub::kGivenUpMax);
  EXPECT_TRUE(rig.floods.empty());
  rig.hub.has_open(1000, "", kHonest + Hub::kGivenUpMax + 1);
  ASSERT_EQ(rig.floods.size(), 1u);
  EXPECT_EQ(rig.floods[0].first, 1000u);
}

// Every sender can bring the line about, with every request.
TEST(Upstreams, ThatTelemetrydRefusesTheGatewayIsLoggedOnceForAllSenders) {
  HubRig rig;
  rig.daemon.on_hello([](FakeDaemon::Peer& peer) {
    peer.closing(frame::Code::kProtocol, "not its gateway");
    peer.hang_up();
  });
  rig.daemon.start();
  testing::internal::CaptureStdout();
  for (std::uint32_t i = 0; i < 12; ++i) {
    const auto call = rig.begin(Kind::kPublish, 1000 + i % 3);
    call.send(request_bytes(1));
    const bool over = turn_until(rig.loop, [&] { return call.caller->over(); });
    EXPECT_TRUE(over && call.caller->ended->code == StatusCode::kUnavailable) << i;
  }
  const std::string log = testing::internal::GetCapturedStdout();
  const std::string_view line = "daemon_refused_gateway";
  const std::size_t first = log.find(line);
  ASSERT_NE(first, std::string::npos) << log;
  EXPECT_EQ(log.find(line, first + 1), std::string::npos) << log;
  EXPECT_NE(log.find("reason=\"protocol: not its gateway\""), std::string::npos) << log;
}

TEST(Upstreams, ThereAreOnlySoManyInstancesOfAUserAndIdleOnesMakeRoom) {
  HubRig rig;
  bool answer = false;
  rig.daemon.on_events([&](FakeDaemon::Peer& peer, const test::ReceivedFrame& frame) {
    if (answer) rig.daemon.accept(peer, frame);
  });
  rig.daemon.start();
  const auto with_instance = [](char fill) {
    return field(1, event_bytes()) + field(2, instance_bytes(fill)) + field(3, 1) +
           field(5, kContext);
  };
  std::vector<HubRig::Running> calls;
  for (std::size_t i = 0; i < Upstreams::kConnectionsPerUidMax; ++i) {
    calls.push_back(rig.begin(Kind::kPublish));
    calls.back().send(with_instance(static_cast<char>(i + 1)));
  }
  const auto refused = rig.begin(Kind::kPublish);
  refused.send(with_instance('z'));
  ASSERT_TRUE(refused.caller->over());
  EXPECT_EQ(refused.caller->ended->code, StatusCode::kUnavailable);
  EXPECT_TRUE(refused.caller->ended->retry_after);

  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.received().size() == calls.size(); }));
  rig.daemon.with_peers([&answer](FakeDaemon::Peer& peer) {
    answer = true;
    peer.ack(1);
  });
  for (const auto& call : calls) {
    ASSERT_TRUE(turn_until(rig.loop, [&] { return call.caller->over(); }));
  }
  const auto taken = rig.begin(Kind::kPublish);
  taken.send(with_instance('z'));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return taken.caller->over(); }));
  EXPECT_EQ(taken.caller->ended->code, StatusCode::kOk);
  EXPECT_EQ(rig.hub.upstreams().connections(), Upstreams::kConnectionsPerUidMax);
}

}  // namespace
}  // namespace telemetryd::gateway
