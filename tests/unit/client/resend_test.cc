// What happens to frames when the daemon refuses, dies or remembers.

#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "client_harness.h"

namespace telemetryd::client {
namespace {

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
