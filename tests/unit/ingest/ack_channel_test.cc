#include "ingest/ack_channel.h"

#include <cerrno>

#include "fixture.h"
#include "ingest/control.h"

namespace telemetryd::ingest {
namespace {

class Channel : public testing::Test, private AckChannel::Owner {
 protected:
  Channel() {
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    peer = UniqueFd(pair[1]);
    channel = std::make_shared<AckChannel>(loop, UniqueFd(pair[0]));
    channel->attach(this);
  }

  ~Channel() override { channel->detach(); }

  void channel_changed() override { ++changes; }

  void high_water_known(const Result<std::optional<std::uint64_t>>&) override {}

  // Fills the socket until it takes nothing more; those bytes are not frames.
  std::size_t fill() {
    std::size_t filled = 0;
    const std::string block(4096, '.');
    for (;;) {
      const ssize_t sent = ::send(channel->fd(), block.data(), block.size(), MSG_DONTWAIT);
      if (sent <= 0) return filled;
      filled += static_cast<std::size_t>(sent);
    }
  }

  void drain(std::size_t bytes) {
    std::string sink(bytes, '\0');
    while (bytes > 0) {
      const ssize_t got = ::recv(peer.get(), sink.data(), bytes, 0);
      ASSERT_GT(got, 0);
      bytes -= static_cast<std::size_t>(got);
    }
  }

  std::string peer_reads() {
    std::string text(1 << 17, '\0');
    const ssize_t got = ::recv(peer.get(), text.data(), text.size(), 0);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }

  bool peer_at_end() {
    char byte = 0;
    return ::recv(peer.get(), &byte, 1, 0) == 0;
  }

  static store::Refusal refusal() {
    return {.code = frame::Code::kStoreFull, .retryable = true, .retry_after_ms = 9, .text = "q"};
  }

  static std::string refused(std::uint64_t number) {
    return refuse_frame(
        {.number = number, .code = frame::Code::kStoreFull, .retryable = true, .retry_after_ms = 9},
        "q");
  }

  loop::Loop loop;
  UniqueFd peer;
  std::shared_ptr<AckChannel> channel;
  int changes = 0;
};

TEST_F(Channel, WritesAtOnce) {
  channel->acknowledge(7);
  EXPECT_EQ(peer_reads(), ack_frame(7));
  channel->refuse(8, refusal());
  EXPECT_EQ(peer_reads(), refused(8));
}

TEST_F(Channel, WhileBlockedOnlyTheNewestAckWaitsAndNonePassesARefusal) {
  const std::size_t filled = fill();
  for (std::uint64_t number = 1; number <= 1000; ++number) channel->acknowledge(number);
  channel->refuse(1001, refusal());
  for (std::uint64_t number = 1002; number <= 2000; ++number) channel->acknowledge(number);
  EXPECT_TRUE(channel->blocked());
  loop.poll();
  EXPECT_EQ(changes, 1) << "the loop is asked once";
  drain(filled);
  channel->flush();
  // The first one was tried when the socket was found full, and stands for itself.
  EXPECT_EQ(peer_reads(), ack_frame(1) + ack_frame(1000) + refused(1001) + ack_frame(2000));
  EXPECT_FALSE(channel->blocked());
}

TEST_F(Channel, BreaksOffWhenTooMuchWaits) {
  fill();
  std::size_t waiting = 0;
  for (std::uint64_t number = 1; waiting < 2 * AckChannel::kWaitingBytesMax; ++number) {
    channel->refuse(number, refusal());
    waiting += refused(number).size();
    if (waiting < AckChannel::kWaitingBytesMax) {
      ASSERT_FALSE(channel->finished());
    }
  }
  EXPECT_TRUE(channel->finished());
  loop.poll();
  EXPECT_GE(changes, 1);
}

TEST_F(Channel, CountsFramesInFlightAndTellsWhenThereIsRoom) {
  for (std::uint64_t number = 1; number <= 64; ++number)
    ASSERT_TRUE(channel->reserve(number, 1, 1));
  EXPECT_FALSE(channel->reserve(65, 1, 1));
  channel->acknowledge(31);
  loop.poll();
  EXPECT_EQ(changes, 0);
  channel->refuse(32, refusal());
  loop.poll();
  EXPECT_EQ(changes, 1);
  EXPECT_TRUE(channel->reserve(65, 1, 1));
  channel->unreserve(65);
  for (std::uint64_t number = 65; number <= 96; ++number)
    ASSERT_TRUE(channel->reserve(number, 1, 1));
  EXPECT_FALSE(channel->reserve(97, 1, 1));
}

TEST_F(Channel, ClosesBehindThePendingAnswers) {
  ASSERT_TRUE(channel->reserve(1, 1, 1));
  channel->close_after_answers(frame::Code::kProtocol, "why");
  channel->close_after_answers(frame::Code::kStopping, "the first reason counts");
  EXPECT_FALSE(peer_at_end());
  EXPECT_FALSE(channel->finished());
  channel->acknowledge(1);
  EXPECT_EQ(peer_reads(), ack_frame(1) + closing_frame(frame::Code::kProtocol, "why"));
  EXPECT_TRUE(peer_at_end());
  EXPECT_TRUE(channel->finished());
  loop.poll();
  EXPECT_EQ(changes, 1);
}

TEST_F(Channel, ClosesOnlyWhenABlockedSocketTookEverything) {
  const std::size_t filled = fill();
  channel->close_after_answers(frame::Code::kProtocol, "why");
  EXPECT_FALSE(channel->finished());
  drain(filled);
  channel->flush();
  EXPECT_EQ(peer_reads(), closing_frame(frame::Code::kProtocol, "why"));
  EXPECT_TRUE(peer_at_end());
}

TEST_F(Channel, AbandonEndsItWhateverIsPending) {
  ASSERT_TRUE(channel->reserve(1, 1, 1));
  ASSERT_TRUE(channel->reserve(2, 1, 1));
  channel->abandon();
  const std::string last = peer_reads();
  EXPECT_EQ(last[4], static_cast<char>(frame::Type::kClosing));
  EXPECT_EQ(last[8], static_cast<char>(frame::Code::kUnknownOutcome));
  EXPECT_TRUE(peer_at_end());
  channel->acknowledge(2);
  EXPECT_EQ(peer_reads(), "");
}

TEST_F(Channel, APeerThatIsGoneIsNotAnEndOfItsOwn) {
  peer.reset();
  channel->acknowledge(1);
  channel->refuse(2, refusal());
  EXPECT_FALSE(channel->finished()) << "what the peer sent before is still to be read";
  channel->close_after_answers(frame::Code::kStopping, "");
  EXPECT_TRUE(channel->finished());
}

TEST_F(Channel, WithoutAnOwnerABlockedSocketIsShutDown) {
  fill();
  channel->detach();
  channel->acknowledge(1);
  EXPECT_TRUE(channel->finished());
  loop.poll();
  EXPECT_EQ(changes, 0);
}

TEST_F(Channel, KeepsItsDescriptorUntilTheLastHolderLetsGo) {
  const std::shared_ptr<store::AckSink> pending = channel;
  channel->detach();
  channel = std::make_shared<AckChannel>(loop, UniqueFd());
  EXPECT_FALSE(peer_at_end());
  pending->acknowledge(3);
  EXPECT_EQ(peer_reads(), ack_frame(3));
}

TEST_F(Channel, TextsAreCutBetweenCharacters) {
  std::string text;
  while (text.size() <= frame::kTextBytesMax) text += "\xe2\x82\xac";
  const std::string cut = closing_frame(frame::Code::kProtocol, text).substr(16);
  EXPECT_EQ(cut.size(), 510u);
  EXPECT_EQ(cut, text.substr(0, 510));
}

}  // namespace
}  // namespace telemetryd::ingest
