// What happens to frames when the daemon refuses, dies or remembers.

#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "client_harness.h"

namespace telemetryd::client {
namespace {

namespace v1 = ::telemetry::v1;

class ResendTest : public ClientTest {
 protected:
  // `count` frames of one event each: classes alternate, so no two events share a frame.
  static void track_frames(telemetry_client_t* client, int count) {
    for (int i = 0; i < count; ++i) {
      telemetry_event_t event = TELEMETRY_EVENT_INIT;
      const std::string name = "event" + std::to_string(i);
      event.name = name.c_str();
      event.persistence_class = static_cast<telemetry_class_t>(i % 2);
      ASSERT_EQ(telemetry_send(client, &event, kLong), TELEMETRY_OK);
    }
  }

  static void expect_each_once_in_order(const test::FakeDaemon& daemon, std::size_t count) {
    const auto all = daemon.events();
    ASSERT_EQ(all.size(), 1u);
    const auto& events = all.begin()->second;
    ASSERT_EQ(events.size(), count);
    for (std::size_t i = 0; i < count; ++i)
      EXPECT_EQ(events[i].name(), "event" + std::to_string(i));
  }
};

TEST_F(ResendTest, AfterADisconnectTheSameNumbersCarryTheSameBytes) {
  test::FakeDaemon daemon(socket_path());
  daemon.on_events([&](auto& peer, const auto& frame) {
    if (peer.connection() == 1) {
      if (frame.prefix.number == 5) peer.hang_up();
    } else {
      daemon.accept(peer, frame);
    }
  });
  daemon.start();
  telemetry_client_t* client = open();
  track_frames(client, 20);
  const telemetry_stats_t last = close(client);
  EXPECT_EQ(last.acknowledged, 20u);
  EXPECT_EQ(last.reconnects, 1u);
  EXPECT_GE(last.frames_resent, 5u);
  expect_each_once_in_order(daemon, 20);
  std::map<std::uint64_t, std::string> bytes;
  std::set<std::string> instances;
  for (const auto& frame : daemon.received()) {
    instances.insert(frame.instance);
    const auto [known, fresh] = bytes.emplace(frame.prefix.number, frame.bytes);
    EXPECT_TRUE(fresh || known->second == frame.bytes) << frame.prefix.number;
  }
  EXPECT_EQ(instances.size(), 1u);
  EXPECT_EQ(bytes.size(), 20u);
}

TEST_F(ResendTest, WhatTheWelcomeCallsDurableIsNotLostAndCountsAsAcknowledged) {
  test::FakeDaemon daemon(socket_path());
  daemon.on_hello([](auto& peer) { peer.welcome(peer.connection() == 1 ? 0 : 5); });
  daemon.on_events([&](auto& peer, const auto& frame) {
    if (peer.connection() > 1) return daemon.accept(peer, frame);
    if (frame.prefix.number == 5) peer.hang_up();  // stored, but the answer never left
  });
  daemon.start();
  telemetry_client_t* client = open();
  track_frames(client, 5);
  EXPECT_EQ(telemetry_flush(client, kLong), TELEMETRY_OK);
  EXPECT_EQ(stats(client).acknowledged, 5u);
  close(client);
}

TEST_F(ResendTest, AFinalRefusalCostsOneFrameAndIsCounted) {
  test::FakeDaemon daemon(socket_path());
  daemon.on_events([&](auto& peer, const auto& frame) {
    if (frame.prefix.number == 3) {
      peer.refuse({.number = 3, .code = frame::Code::kInvalidEvent, .retryable = false}, "no");
    } else {
      daemon.accept(peer, frame);
    }
  });
  daemon.start();
  telemetry_client_t* client = open();
  track_frames(client, 6);
  EXPECT_EQ(telemetry_flush(client, kLong), TELEMETRY_OK);
  const telemetry_stats_t last = close(client);
  EXPECT_EQ(last.acknowledged, 5u);
  EXPECT_EQ(last.refused, 1u);
  EXPECT_EQ(last.frames_resent, 0u) << "what was refused for good must not come back";
}

// The daemon as docs/formats/frame.md describes it: it refuses everything behind a frame that it
// refused with "later" until that number returns.
TEST_F(ResendTest, ARefusalInTheMiddleOfTheWindowLosesAndDoublesNothing) {
  test::FakeDaemon daemon(socket_path());
  std::uint64_t waiting_for = 0;
  int refusals = 0;
  std::map<std::uint64_t, int> accepted;
  daemon.on_events([&](auto& peer, const auto& frame) {
    const std::uint64_t number = frame.prefix.number;
    if (waiting_for != 0 && number > waiting_for) {
      return peer.refuse({.number = number,
                          .code = frame::Code::kOutOfOrder,
                          .retryable = true,
                          .retry_after_ms = 1},
                         "");
    }
    const bool refuse_now = (number == 7 && refusals < 2) || (number == 20 && refusals < 3);
    if (refuse_now) {
      ++refusals;
      waiting_for = number;
      return peer.refuse({.number = number,
                          .code = frame::Code::kStoreFull,
                          .retryable = true,
                          .retry_after_ms = 1},
                         "full");
    }
    waiting_for = 0;
    ++accepted[number];
    daemon.accept(peer, frame);
  });
  daemon.start();
  telemetry_client_t* client = open();
  track_frames(client, 40);
  const telemetry_stats_t last = close(client);
  EXPECT_EQ(last.acknowledged, 40u);
  EXPECT_EQ(last.refused, 0u);
  daemon.stop();
  EXPECT_EQ(refusals, 3);
  expect_each_once_in_order(daemon, 40);
  for (const auto& [number, times] : accepted) EXPECT_EQ(times, 1) << number;
}

// Numbers as the real daemon keeps them: what it knows, or what the HELLO says comes first.
class NumberKeeper {
 public:
  void hello(const v1::ClientHello& hello) {
    high_water_ = std::max(high_water_, hello.first_frame() - 1);
  }

  // True when this number is next or known already.
  bool takes(std::uint64_t number) {
    if (number > high_water_ + 1) return false;
    high_water_ = std::max(high_water_, number);
    return true;
  }

  void restore(std::uint64_t high_water) { high_water_ = high_water; }

  std::uint64_t high_water() const { return high_water_; }

 private:
  std::uint64_t high_water_ = 0;
};

void refuse_out_of_order(test::FakeDaemon::Peer& peer, std::uint64_t number) {
  peer.refuse(
      {.number = number, .code = frame::Code::kOutOfOrder, .retryable = true, .retry_after_ms = 1},
      "an earlier frame is missing");
}

// Frame 6 was refused for good while 5 and 7 waited, then the daemon came back with a copy of its
// database from before that: it waits for a 6 that never comes.
TEST_F(ResendTest, ADaemonWithAnOlderDatabaseIsNotAskedTheSameForEver) {
  for (const std::uint64_t restored : {0u, 2u, 4u}) {
    SCOPED_TRACE(restored);
    test::FakeDaemon daemon(socket_path());
    NumberKeeper keeper;
    daemon.on_hello([&](auto& peer) {
      if (peer.connection() == 2) keeper.restore(restored);
      keeper.hello(peer.hello());
      peer.welcome(keeper.high_water());
    });
    bool refused = false;
    daemon.on_events([&](auto& peer, const auto& frame) {
      const std::uint64_t number = frame.prefix.number;
      if (peer.connection() == 1 && number >= 5) {
        if (number == 6) {
          peer.refuse({.number = 6, .code = frame::Code::kInvalidEvent, .retryable = false}, "no");
          refused = true;
        }
        if (refused && number == 20) peer.hang_up();
        return;
      }
      if (!keeper.takes(number)) return refuse_out_of_order(peer, number);
      daemon.accept(peer, frame);
    });
    daemon.start();
    telemetry_client_t* client = open();
    track_frames(client, 20);
    const telemetry_stats_t last = close(client);
    EXPECT_EQ(last.acknowledged, 19u);
    EXPECT_EQ(last.refused, 1u);
    EXPECT_EQ(last.reconnects, 2u);
    const auto hellos = daemon.hellos();
    ASSERT_EQ(hellos.size(), 3u);
    EXPECT_EQ(hellos[1].first_frame(), 5u);
    EXPECT_EQ(hellos[2].first_frame(), 7u) << "what will never come is no longer waited for";
  }
}

TEST_F(ResendTest, AnOldestFrameOutOfOrderIsSentOncePerConnection) {
  test::FakeDaemon daemon(socket_path());
  daemon.on_events([&](auto& peer, const auto& frame) {
    if (peer.connection() >= 4) return daemon.accept(peer, frame);
    refuse_out_of_order(peer, frame.prefix.number);
  });
  daemon.start();
  telemetry_client_t* client = open();
  track_frames(client, 5);
  EXPECT_EQ(close(client).acknowledged, 5u);
  std::set<std::pair<int, std::uint64_t>> seen;
  for (const auto& frame : daemon.received()) {
    EXPECT_TRUE(seen.emplace(frame.connection, frame.prefix.number).second)
        << "frame " << frame.prefix.number << " again on connection " << frame.connection;
  }
  expect_each_once_in_order(daemon, 5);
}

TEST_F(ResendTest, ADaemonThatForgotEverythingGetsWhatIsUnsettledAndNothingElse) {
  test::FakeDaemon daemon(socket_path());
  NumberKeeper keeper;
  daemon.on_hello([&](auto& peer) {
    if (peer.connection() == 2) keeper.restore(0);
    keeper.hello(peer.hello());
    peer.welcome(keeper.high_water());
  });
  daemon.on_events([&](auto& peer, const auto& frame) {
    if (peer.connection() == 1 && frame.prefix.number > 10) return peer.hang_up();
    if (!keeper.takes(frame.prefix.number)) return refuse_out_of_order(peer, frame.prefix.number);
    daemon.accept(peer, frame);
  });
  daemon.start();
  telemetry_client_t* client = open();
  track_frames(client, 30);
  const telemetry_stats_t last = close(client);
  EXPECT_EQ(last.acknowledged, 30u);
  EXPECT_EQ(last.reconnects, 1u);
  ASSERT_EQ(daemon.hellos().size(), 2u);
  expect_each_once_in_order(daemon, 30);
}

TEST_F(ResendTest, AtMostSixtyFourFramesWaitForTheirAnswer) {
  test::FakeDaemon daemon(socket_path());
  std::atomic<bool> answering = false;
  daemon.on_events([&](auto& peer, const auto& frame) {
    if (answering) daemon.accept(peer, frame);
  });
  daemon.start();
  telemetry_client_t* client = open();
  track_frames(client, 200);
  ASSERT_TRUE(daemon.wait_for_frames(64));
  EXPECT_EQ(telemetry_flush(client, 20), TELEMETRY_TIMEOUT);
  EXPECT_EQ(daemon.received().size(), 64u);
  EXPECT_EQ(daemon.received().back().flags, frame::kFlagCommitNow) << "a full window waits";
  answering = true;
  daemon.with_peers([](auto& peer) { peer.hang_up(); });
  EXPECT_EQ(close(client).acknowledged, 200u);
  expect_each_once_in_order(daemon, 200);
}

TEST_F(ResendTest, FlushAsksForTheCommit) {
  test::FakeDaemon daemon(socket_path());
  daemon.on_events([&](auto&, const auto&) {});
  daemon.start();
  telemetry_client_t* client = open();
  track(client, "x");
  ASSERT_TRUE(daemon.wait_for_frames(1));
  EXPECT_EQ(telemetry_flush(client, 20), TELEMETRY_TIMEOUT);
  const bool flagged = daemon.received().at(0).flags == frame::kFlagCommitNow;
  EXPECT_TRUE(flagged || daemon.wait_until([&] { return daemon.flushes_locked() > 0; }));
  close(client, 0, TELEMETRY_TIMEOUT);
}

TEST_F(ResendTest, GarbageFromTheDaemonEndsTheConnectionAndNothingElse) {
  test::FakeDaemon daemon(socket_path());
  daemon.on_hello([&](auto& peer) {
    if (peer.connection() == 1) return peer.garbage(std::string(100, '\xff'));
    peer.welcome(0);
  });
  daemon.on_events([&](auto& peer, const auto& frame) {
    if (peer.connection() > 1) daemon.accept(peer, frame);
  });
  daemon.start();
  telemetry_client_t* client = open();
  track_frames(client, 10);
  EXPECT_EQ(close(client).acknowledged, 10u);
  expect_each_once_in_order(daemon, 10);
}

// Frames of 64 KiB overrun the socket's buffer, so that some are cut in half by the disconnect and
// others are half written when the WELCOME releases them.
TEST_F(ResendTest, LargeFramesSurviveRepeatedDisconnects) {
  test::FakeDaemon daemon(socket_path());
  std::atomic<int> seen = 0;
  daemon.on_events([&](auto& peer, const auto& frame) {
    daemon.accept(peer, frame);
    if (++seen % 7 == 0 && peer.connection() < 6) peer.hang_up();
  });
  daemon.start();
  telemetry_client_t* client = open();
  const std::string text(10'000, 't');
  for (int i = 0; i < 400; ++i) {
    telemetry_event_t event = TELEMETRY_EVENT_INIT;
    const std::string name = "event" + std::to_string(i);
    event.name = name.c_str();
    event.user_id = text.c_str();
    ASSERT_EQ(telemetry_send(client, &event, kLong), TELEMETRY_OK);
  }
  EXPECT_EQ(close(client).acknowledged, 400u);
  expect_each_once_in_order(daemon, 400);
  EXPECT_EQ(daemon.protocol_errors(), 0);
}

}  // namespace
}  // namespace telemetryd::client
