#include "gateway/upstream.h"

#include <deque>

#include <gtest/gtest.h>

#include "rig.h"

namespace telemetryd::gateway {
namespace {

// Remembers each answer in words.
class RecordingWaiter final : public Waiter {
 public:
  void settled(std::uint64_t number, std::uint64_t acknowledged) override {
    said.push_back("settled " + std::to_string(number) + " of " + std::to_string(acknowledged));
  }

  void refused(const Refusal& refusal, std::uint64_t) override {
    said.push_back("refused " + std::to_string(refusal.number) + " " + code_word(refusal.code) +
                   (refusal.retryable ? " again: " : ": ") + refusal.text);
  }

  void lost(const Status& status) override { said.push_back("lost: " + status.text); }

  std::deque<std::string> said;
};

class UpstreamTest : public testing::Test {
 protected:
  ~UpstreamTest() override { daemon.stop(); }

  void open(std::uint64_t first_frame = 1, bool own_numbers = true) {
    auto connected = loop::connect_unix(daemon.path());
    ASSERT_TRUE(connected);
    upstream = std::make_unique<Upstream>(loop,
                                          std::move(*connected),
                                          Upstream::Sender{.peer_uid = 4711,
                                                           .instance = instance_of(),
                                                           .context = kContext,
                                                           .first_frame = first_frame,
                                                           .own_numbers = own_numbers},
                                          [](Change) {});
  }

  void submit(std::uint64_t number, std::uint64_t oldest = 0) {
    auto request = convert(request_bytes(number));
    ASSERT_TRUE(request);
    upstream->submit({.number = number,
                      .oldest_number = oldest,
                      .frame = std::move(request->frame),
                      .held = std::move(request->held),
                      .waiter = waiter});
  }

  std::string next() {
    if (!turn_until(loop, [this] { return !waiter->said.empty(); })) return "nothing";
    const std::string said = waiter->said.front();
    waiter->said.pop_front();
    return said;
  }

  test::TempDir folder;
  FakeDaemon daemon{(folder / "ingest.sock").native()};
  loop::Loop loop;
  std::shared_ptr<RecordingWaiter> waiter = std::make_shared<RecordingWaiter>();
  std::unique_ptr<Upstream> upstream;
};

TEST_F(UpstreamTest, HelloSaysWhoseEventsTheyAreAndClaimsNothingTheSenderDidNot) {
  daemon.start();
  open();
  submit(1);
  EXPECT_EQ(next(), "settled 1 of 1");
  const auto hello = daemon.hellos().at(0);
  EXPECT_EQ(hello.peer_uid(), 4711u);
  EXPECT_EQ(hello.instance(), instance_bytes());
  EXPECT_EQ(hello.first_frame(), 1u);
  EXPECT_EQ(hello.context().app(), "tool");
}

TEST_F(UpstreamTest, ANumberThatTheDaemonHasIsSettledAndNotSentAgain) {
  daemon.on_hello([](FakeDaemon::Peer& peer) { peer.welcome(5); });
  daemon.start();
  open();
  submit(4);
  submit(6);
  EXPECT_EQ(next(), "settled 4 of 5");
  EXPECT_EQ(next(), "settled 6 of 6");
  EXPECT_EQ(daemon.received().size(), 1u);
}

TEST_F(UpstreamTest, AGapIsSentBackWithTheNumberThatIsExpected) {
  daemon.start();
  open();
  submit(3);
  EXPECT_EQ(next(), "refused 3 OUT_OF_ORDER again: number 3 leaves a gap; expected number 1");
  submit(1);
  EXPECT_EQ(next(), "settled 1 of 1");
  EXPECT_EQ(daemon.received().size(), 1u);
}

TEST_F(UpstreamTest, WhereTheSenderBeginsIsWhereItsNumbersGoOn) {
  daemon.start();
  open(7);
  submit(7, 7);
  EXPECT_EQ(next(), "settled 7 of 7");
  EXPECT_FALSE(upstream->needs_new_hello(
      {.number = 8, .oldest_number = 8, .frame = {}, .held = {}, .waiter = {}}));
  EXPECT_TRUE(upstream->needs_new_hello(
      {.number = 9, .oldest_number = 9, .frame = {}, .held = {}, .waiter = {}}));
  EXPECT_FALSE(upstream->needs_new_hello(
      {.number = 9, .oldest_number = 0, .frame = {}, .held = {}, .waiter = {}}));
}

TEST_F(UpstreamTest, ARefusalForGoodUsesTheNumberUp) {
  daemon.on_events([this](FakeDaemon::Peer& peer, const test::ReceivedFrame& frame) {
    if (frame.prefix.number != 1) return daemon.accept(peer, frame);
    peer.refuse(
        {.number = 1, .code = frame::Code::kInvalidEvent, .retryable = false, .retry_after_ms = 0},
        "bad");
  });
  daemon.start();
  open();
  submit(1);
  EXPECT_EQ(next(), "refused 1 INVALID_EVENT: bad");
  submit(2);
  EXPECT_EQ(next(), "settled 2 of 2");
}

TEST_F(UpstreamTest, AfterARefusalForNowTheSameNumberComesNext) {
  int refusals = 0;
  daemon.on_events([&](FakeDaemon::Peer& peer, const test::ReceivedFrame& frame) {
    if (refusals == 2) return daemon.accept(peer, frame);
    ++refusals;
    const bool first = frame.prefix.number == 1;
    peer.refuse({.number = frame.prefix.number,
                 .code = first ? frame::Code::kStoreFull : frame::Code::kOutOfOrder,
                 .retryable = true,
                 .retry_after_ms = 20},
                "");
  });
  daemon.start();
  open();
  submit(1);
  submit(2);
  EXPECT_EQ(next(), "refused 1 STORE_FULL again: ");
  EXPECT_EQ(next(), "refused 2 OUT_OF_ORDER again: ");
  submit(2);
  EXPECT_EQ(next(), "refused 2 OUT_OF_ORDER again: number 2 leaves a gap; expected number 1");
  submit(1);
  submit(2);
  EXPECT_EQ(next(), "settled 1 of 1");
  EXPECT_EQ(next(), "settled 2 of 2");
}

TEST_F(UpstreamTest, ANumberOnItsWayIsNotSentTwiceAndItsAnswerGoesToWhoStillWaits) {
  daemon.on_events([](FakeDaemon::Peer&, const test::ReceivedFrame&) {});
  daemon.start();
  open();
  submit(1);
  ASSERT_TRUE(turn_until(loop, [this] { return daemon.received().size() == 1; }));
  submit(1);
  EXPECT_EQ(next(), "refused 1 OUT_OF_ORDER again: number 1 is on its way already");
  waiter = std::make_shared<RecordingWaiter>();  // the sender gave the first call up
  submit(1);
  EXPECT_TRUE(waiter->said.empty());
  daemon.with_peers([](FakeDaemon::Peer& peer) { peer.ack(1); });
  EXPECT_EQ(next(), "settled 1 of 1");
  EXPECT_EQ(daemon.received().size(), 1u);
}

TEST_F(UpstreamTest, OneAckSettlesEverythingBeforeIt) {
  daemon.on_events([](FakeDaemon::Peer& peer, const test::ReceivedFrame& frame) {
    if (frame.prefix.number == 3) peer.ack(3);
  });
  daemon.start();
  open();
  for (const std::uint64_t number : {1u, 2u, 3u}) submit(number);
  EXPECT_EQ(next(), "settled 1 of 3");
  EXPECT_EQ(next(), "settled 2 of 3");
  EXPECT_EQ(next(), "settled 3 of 3");
  EXPECT_TRUE(upstream->idle());
}

TEST_F(UpstreamTest, ALostDaemonIsToldToEverybodyWhoWaits) {
  daemon.on_events([](FakeDaemon::Peer& peer, const test::ReceivedFrame& frame) {
    if (frame.prefix.number == 2) peer.hang_up();
  });
  daemon.start();
  open();
  submit(1);
  submit(2);
  EXPECT_EQ(next(), "lost: telemetryd closed the connection");
  EXPECT_EQ(next(), "lost: telemetryd closed the connection");
  EXPECT_TRUE(upstream->closed());
  submit(3);
  EXPECT_EQ(next(), "lost: the connection to telemetryd was lost");
}

TEST_F(UpstreamTest, ClosingPassesTheDaemonsReasonOn) {
  daemon.on_events([](FakeDaemon::Peer& peer, const test::ReceivedFrame&) {
    peer.closing(frame::Code::kUnknownOutcome, "the commit failed");
  });
  daemon.start();
  open();
  submit(1);
  EXPECT_EQ(next(), "lost: telemetryd closed the connection: the commit failed");
}

TEST_F(UpstreamTest, BytesThatAreNoFramesEndTheConnection) {
  const std::string too_large("\x00\x00\x10\x00\x41\x00\x00\x00", 8);
  const std::string unknown("\x00\x00\x00\x00\x63\x00\x00\x00", 8);
  const std::string early_ack("\x08\x00\x00\x00\x41\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00",
                              16);
  for (const std::string& noise : {too_large, unknown, early_ack}) {
    FakeDaemon noisy((folder / "noisy.sock").native());
    noisy.on_hello([&](FakeDaemon::Peer& peer) { peer.garbage(noise); });
    noisy.start();
    auto connected = loop::connect_unix(noisy.path());
    ASSERT_TRUE(connected);
    upstream =
        std::make_unique<Upstream>(loop,
                                   std::move(*connected),
                                   Upstream::Sender{.instance = instance_of(), .context = kContext},
                                   [](Change) {});
    submit(1);
    EXPECT_NE(next().find("lost: telemetryd sent a"), std::string::npos);
    upstream.reset();
    noisy.stop();
  }
}

TEST_F(UpstreamTest, NumbersOfItsOwnGoOnAfterARefusalForNowAndEndWithGoodbye) {
  bool full = true;
  daemon.on_events([&](FakeDaemon::Peer& peer, const test::ReceivedFrame& frame) {
    if (!full) return daemon.accept(peer, frame);
    peer.refuse({.number = frame.prefix.number,
                 .code = frame::Code::kStoreFull,
                 .retryable = true,
                 .retry_after_ms = 0},
                "full");
    full = false;
  });
  daemon.start();
  open(1, false);
  submit(0);
  EXPECT_EQ(next(), "refused 1 STORE_FULL again: full");
  submit(0);
  submit(0);
  EXPECT_EQ(next(), "settled 1 of 1");
  EXPECT_EQ(next(), "settled 2 of 2");
  upstream.reset();
  EXPECT_TRUE(daemon.wait_until([this] { return daemon.goodbyes_locked() == 1; }));
}

TEST_F(UpstreamTest, AnInstanceOfTheSendersIsNotForgottenForIt) {
  daemon.start();
  open();
  submit(1);
  EXPECT_EQ(next(), "settled 1 of 1");
  upstream.reset();
  open();
  submit(2);
  EXPECT_EQ(next(), "settled 2 of 2");
  EXPECT_EQ(daemon.goodbyes(), 0);
}

}  // namespace
}  // namespace telemetryd::gateway
