#include "gateway/session.h"

#include <fstream>

#include <gtest/gtest.h>

#include "rig.h"

namespace telemetryd::gateway {
namespace {

using Kind = Session::Kind;

TEST(Publish, IsAnsweredAfterTheAckAndNotBefore) {
  HubRig rig;
  rig.daemon.on_events([](FakeDaemon::Peer&, const test::ReceivedFrame&) {});
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublish);
  EXPECT_EQ(call.caller->reads, 1);
  call.send(request_bytes(1));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.received().size() == 1; }));
  EXPECT_EQ(rig.daemon.received()[0].flags, frame::kFlagCommitNow);
  EXPECT_FALSE(call.caller->over());
  rig.daemon.with_peers([](FakeDaemon::Peer& peer) { peer.ack(1); });
  ASSERT_TRUE(turn_until(rig.loop, [&] { return call.caller->over(); }));
  EXPECT_EQ(call.caller->ended->code, StatusCode::kOk);
  EXPECT_EQ(words_of(call.caller->said.at(0)), "ack 1");
  EXPECT_EQ(rig.hub.calls(), 0u);
}

// The service manager holds ingest.sock then, and nobody would ever answer there.
TEST(Publish, IsRefusedWhenThePolicyIsOffAlthoughTheSocketIsThere) {
  HubRig rig;
  rig.daemon.start();
  std::ofstream(rig.folder / "policy") << "mode = off\n";
  const auto call = rig.begin(Kind::kPublish);
  call.send(request_bytes(1));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return call.caller->over(); }));
  EXPECT_EQ(call.caller->ended->code, StatusCode::kPermissionDenied);
  EXPECT_EQ(rig.daemon.connections(), 0);
}

TEST(Publish, WithoutAnInstanceManyCallsShareOneConnection) {
  HubRig rig;
  rig.daemon.start();
  const std::string alone = field(1, event_bytes()) + field(5, kContext);
  std::vector<HubRig::Running> calls;
  for (int i = 0; i < 10; ++i) {
    calls.push_back(rig.begin(Kind::kPublish));
    calls.back().send(alone);
  }
  for (const auto& call : calls) {
    ASSERT_TRUE(turn_until(rig.loop, [&] { return call.caller->over(); }));
    EXPECT_EQ(call.caller->ended->code, StatusCode::kOk);
    EXPECT_EQ(words_of(call.caller->said.at(0)), "ack 0");
  }
  EXPECT_EQ(rig.daemon.connections(), 1);
  EXPECT_EQ(rig.daemon.received().size(), 10u);
}

TEST(Publish, NobodysNumbersMeetAnothersAtTheSameInstance) {
  HubRig rig;
  rig.daemon.start();
  const auto one = rig.begin(Kind::kPublish, 1000);
  const auto other = rig.begin(Kind::kPublish, 1001);
  one.send(request_bytes(1));
  other.send(request_bytes(1));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return one.caller->over() && other.caller->over(); }));
  ASSERT_EQ(rig.daemon.hellos().size(), 2u);
  EXPECT_NE(rig.daemon.hellos()[0].peer_uid(), rig.daemon.hellos()[1].peer_uid());
}

TEST(Publish, ASenderThatSaysWhatIsSettledGoesOnBehindIt) {
  HubRig rig;
  rig.daemon.start();
  for (const std::string& message :
       {request_bytes(1), request_bytes(9, "e", 9), request_bytes(10, "e", 9)}) {
    const auto call = rig.begin(Kind::kPublish);
    call.send(message);
    ASSERT_TRUE(turn_until(rig.loop, [&] { return call.caller->over(); }));
    EXPECT_EQ(call.caller->ended->code, StatusCode::kOk) << call.caller->ended->text;
  }
  ASSERT_EQ(rig.daemon.hellos().size(), 2u);
  EXPECT_EQ(rig.daemon.hellos()[1].first_frame(), 9u);
}

TEST(Publish, WithoutADaemonIsUnavailableAndToldWhenToComeBack) {
  HubRig rig;
  rig.daemon.stop();
  const auto call = rig.begin(Kind::kPublish);
  call.send(request_bytes(1));
  ASSERT_TRUE(call.caller->over());
  EXPECT_EQ(call.caller->ended->code, StatusCode::kUnavailable);
  EXPECT_EQ(call.caller->ended->retry_after, kRetryAfterDefault);
}

TEST(Publish, WithoutARequestIsInvalid) {
  HubRig rig;
  const auto call = rig.begin(Kind::kPublish);
  call.session->half_closed();
  EXPECT_EQ(call.caller->ended->code, StatusCode::kInvalidArgument);
}

TEST(Stream, ReadsUntilTheWindowIsFullAndGoesOnWithTheAcks) {
  HubRig rig;
  rig.daemon.on_events([](FakeDaemon::Peer&, const test::ReceivedFrame&) {});
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublishStream);
  for (std::uint64_t number = 1; number <= Session::kWindow; ++number) {
    EXPECT_EQ(call.caller->reads, static_cast<int>(number));
    call.send(request_bytes(number));
  }
  EXPECT_EQ(call.caller->reads, static_cast<int>(Session::kWindow));
  ASSERT_TRUE(
      turn_until(rig.loop, [&] { return rig.daemon.received().size() == Session::kWindow; }));
  rig.daemon.with_peers([](FakeDaemon::Peer& peer) { peer.ack(10); });
  ASSERT_TRUE(turn_until(rig.loop, [&] { return !call.caller->said.empty(); }));
  EXPECT_EQ(call.caller->reads, static_cast<int>(Session::kWindow) + 1);
}

TEST(Stream, NobodyWaitsForACommitThatIsDelayed) {
  HubRig rig;
  rig.daemon.on_events([](FakeDaemon::Peer&, const test::ReceivedFrame&) {});
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublishStream);
  for (const std::uint64_t number : {1u, 2u, 3u}) call.send(request_bytes(number));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.received().size() == 3; }));
  EXPECT_EQ(rig.daemon.received()[0].flags, frame::kFlagCommitNow) << "it may be all there is";
  EXPECT_EQ(rig.daemon.received()[1].flags, 0) << "gathered while the first is committed";
  EXPECT_EQ(rig.daemon.flushes(), 0);
  rig.daemon.with_peers([](FakeDaemon::Peer& peer) { peer.ack(1); });
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.flushes() == 1; }));
  rig.daemon.with_peers([](FakeDaemon::Peer& peer) { peer.ack(3); });
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.hub.upstreams().requests_unanswered() == 0; }));
  EXPECT_EQ(rig.daemon.flushes(), 1);
}

TEST(Stream, ARefusalAlsoBringsWhatWasGatheredBehindIt) {
  HubRig rig;
  rig.daemon.on_events([](FakeDaemon::Peer& peer, const test::ReceivedFrame& frame) {
    if (frame.prefix.number != 2) return;
    peer.refuse(
        {.number = 1, .code = frame::Code::kInvalidEvent, .retryable = false, .retry_after_ms = 0},
        "bad");
  });
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublishStream);
  for (const std::uint64_t number : {1u, 2u}) call.send(request_bytes(number));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.flushes() == 1; }));
}

TEST(Stream, WhatIsSentAgainWhileItIsOutIsCommittedNow) {
  HubRig rig;
  rig.daemon.on_events([](FakeDaemon::Peer&, const test::ReceivedFrame&) {});
  rig.daemon.start();
  auto first = rig.begin(Kind::kPublishStream);
  for (const std::uint64_t number : {1u, 2u}) first.send(request_bytes(number));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.received().size() == 2; }));
  first.session->cancelled();
  first.session.reset();
  const auto again = rig.begin(Kind::kPublishStream);
  again.send(request_bytes(2));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.flushes() == 1; }));
  EXPECT_EQ(rig.daemon.received().size(), 2u);
}

TEST(Stream, AnswersThatComeWhileOneIsWrittenAreGathered) {
  HubRig rig;
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublishStream);
  call.send(request_bytes(1));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return call.caller->said.size() == 1; }));
  for (const std::uint64_t number : {2u, 3u, 4u}) call.send(request_bytes(number));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.hub.upstreams().requests_unanswered() == 0; }));
  EXPECT_EQ(call.caller->said.size(), 1u);
  call.session->written();
  ASSERT_EQ(call.caller->said.size(), 2u);
  EXPECT_EQ(words_of(call.caller->said[0]), "ack 1");
  EXPECT_EQ(words_of(call.caller->said[1]), "ack 4");
  call.session->written();
  call.session->half_closed();
  EXPECT_EQ(call.caller->ended->code, StatusCode::kOk);
}

TEST(Stream, ARefusalIsAMessageAndNothingIsReadWhileItWaits) {
  HubRig rig;
  rig.daemon.on_events([&](FakeDaemon::Peer& peer, const test::ReceivedFrame& frame) {
    if (frame.prefix.number == 1) return rig.daemon.accept(peer, frame);
    peer.refuse({.number = frame.prefix.number,
                 .code = frame::Code::kInvalidEvent,
                 .retryable = false,
                 .retry_after_ms = 0},
                "bad");
  });
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublishStream);
  call.send(request_bytes(1));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return call.caller->said.size() == 1; }));
  call.send(request_bytes(2));  // its refusal waits behind the write
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.hub.upstreams().requests_unanswered() == 0; }));
  call.send(request_bytes(3));
  const int reads = call.caller->reads;
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.hub.upstreams().requests_unanswered() == 0; }));
  EXPECT_EQ(call.caller->reads, reads);
  call.session->written();
  call.session->written();
  ASSERT_EQ(call.caller->said.size(), 3u);
  EXPECT_EQ(words_of(call.caller->said[1]), "ack 3 refused 2 INVALID_EVENT");
  EXPECT_EQ(words_of(call.caller->said[2]), "ack 3 refused 3 INVALID_EVENT");
  call.session->written();
  EXPECT_GT(call.caller->reads, reads);
  EXPECT_FALSE(call.caller->over());
}

TEST(Stream, EndsWhenWhatItIsAboutChanges) {
  const std::string events = field(1, event_bytes());
  const std::pair<std::string, const char*> rows[] = {
      {events + field(2, instance_bytes('x')) + field(3, 2), "the instance changed"},
      {events + field(3, 2) + field(5, field(1, "other")), "the context changed"},
      {events, "number is 0"},
      {"\xff\xff", "malformed protobuf"},
  };
  for (const auto& [message, words] : rows) {
    HubRig rig;
    rig.daemon.start();
    const auto call = rig.begin(Kind::kPublishStream);
    call.send(request_bytes(1));
    call.send(events + field(3, 2));  // leaves out what does not change
    ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.received().size() == 2; }));
    call.send(message);
    ASSERT_TRUE(call.caller->over()) << words;
    EXPECT_EQ(call.caller->ended->code, StatusCode::kInvalidArgument);
    EXPECT_NE(call.caller->ended->text.find(words), std::string::npos) << call.caller->ended->text;
  }
}

TEST(Stream, WhatWasOnItsWayIsCommittedWhenTheSenderGivesUp) {
  HubRig rig;
  rig.daemon.start();
  auto call = rig.begin(Kind::kPublishStream);
  call.send(request_bytes(1));
  call.send(request_bytes(2));
  call.session->cancelled();
  EXPECT_TRUE(call.caller->over());
  call.session.reset();
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.events_stored() == 2; }));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.hub.upstreams().requests_unanswered() == 0; }));
}

TEST(Stream, TheLastAnswersComeBeforeTheEnd) {
  HubRig rig;
  rig.daemon.on_events([](FakeDaemon::Peer&, const test::ReceivedFrame&) {});
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublishStream);
  call.send(request_bytes(1));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.received().size() == 1; }));
  call.session->half_closed();
  EXPECT_FALSE(call.caller->over());
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.flushes() == 1; }));
  rig.daemon.with_peers([](FakeDaemon::Peer& peer) { peer.ack(1); });
  ASSERT_TRUE(turn_until(rig.loop, [&] { return call.caller->said.size() == 1; }));
  EXPECT_FALSE(call.caller->over());
  call.session->written();
  EXPECT_EQ(call.caller->ended->code, StatusCode::kOk);
}

TEST(Stream, AHalfCloseBeforeTheWelcomeCommitsWhatFollowsIt) {
  HubRig rig;
  rig.daemon.on_events([](FakeDaemon::Peer&, const test::ReceivedFrame&) {});
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublishStream);
  call.send(request_bytes(1));
  call.session->half_closed();  // the loop has not turned, so no WELCOME has been read
  ASSERT_TRUE(turn_until(rig.loop, [&] { return rig.daemon.flushes() == 1; }));
  EXPECT_EQ(rig.daemon.received().size(), 1u);
}

TEST(Stream, AnAnswerThatNobodyReadsEndsIt) {
  HubRig rig(std::chrono::hours(1), std::chrono::milliseconds(1));
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublishStream);
  call.send(request_bytes(1));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return call.caller->aborted; }));
  EXPECT_EQ(call.caller->said.size(), 1u);
  EXPECT_EQ(rig.daemon.events_stored(), 1u);
}

TEST(Publish, AnAnswerThatNobodyReadsEndsIt) {
  HubRig rig(std::chrono::hours(1), std::chrono::milliseconds(1));
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublish);
  call.send(request_bytes(1));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return call.caller->over(); }));
  EXPECT_EQ(call.caller->ended->code, StatusCode::kOk);
  EXPECT_FALSE(call.caller->aborted);
  rig.clock.advance(std::chrono::milliseconds(1));
  EXPECT_TRUE(turn_until(rig.loop, [&] { return call.caller->aborted; }));
}

TEST(Stream, ALostDaemonEndsIt) {
  HubRig rig;
  rig.daemon.on_events([](FakeDaemon::Peer& peer, const test::ReceivedFrame&) { peer.hang_up(); });
  rig.daemon.start();
  const auto call = rig.begin(Kind::kPublishStream);
  call.send(request_bytes(1));
  ASSERT_TRUE(turn_until(rig.loop, [&] { return call.caller->over(); }));
  EXPECT_EQ(call.caller->ended->code, StatusCode::kUnavailable);
  EXPECT_TRUE(call.caller->ended->retry_after);
}

}  // namespace
}  // namespace telemetryd::gateway
