#include <cerrno>
#include <cstring>
#include <sys/socket.h>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "loop/loop.h"
#include "until.h"

namespace telemetryd::loop {
namespace {

class AStream : public testing::Test {
 protected:
  AStream() {
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    ours = UniqueFd(pair[0]);
    peer = UniqueFd(pair[1]);
  }

  void open() {
    stream = std::make_unique<Stream>(loop,
                                      std::move(ours),
                                      Stream::Hooks{.on_data =
                                                        [this](std::span<const std::uint8_t> data) {
                                                          received += as_text(data);
                                                          if (on_data) on_data();
                                                        },
                                                    .on_end =
                                                        [this] {
                                                          ++ends;
                                                          if (on_end) on_end();
                                                        }});
  }

  void send(const std::string& text) {
    ASSERT_EQ(::send(peer.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }

  std::string peer_reads() {
    std::string text(1 << 16, '\0');
    const ssize_t got = ::recv(peer.get(), text.data(), text.size(), 0);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }

  Loop loop;
  UniqueFd ours;
  UniqueFd peer;
  std::string received;
  int ends = 0;
  std::function<void()> on_data;
  std::function<void()> on_end;
  std::unique_ptr<Stream> stream;
};

TEST_F(AStream, DeliversBytesAndThenTheEndOnce) {
  open();
  send("hello");
  serve_until(loop, [&] { return received == "hello"; });
  peer.reset();
  serve_until(loop, [&] { return ends == 1; });
  for (int i = 0; i < 10; ++i) loop.poll();
  EXPECT_EQ(ends, 1);
}

TEST_F(AStream, ReadsNothingWhilePaused) {
  open();
  stream->pause();
  send("later");
  for (int i = 0; i < 10; ++i) loop.poll();
  EXPECT_EQ(received, "");
  stream->resume();
  serve_until(loop, [&] { return received == "later"; });
}

TEST_F(AStream, MayBePausedInItsDataHook) {
  open();
  on_data = [&] { stream->pause(); };
  send("a");
  serve_until(loop, [&] { return received == "a"; });
  send("b");
  for (int i = 0; i < 10; ++i) loop.poll();
  EXPECT_EQ(received, "a");
  stream->resume();
  serve_until(loop, [&] { return received == "ab"; });
}

TEST_F(AStream, DeliversWhatAPeerSentBeforeItReset) {
  open();
  ASSERT_EQ(stream->write("an answer nobody reads"), 0u);
  send("last words");
  peer.reset();  // unread bytes in its socket make this a reset, not an end of file
  serve_until(loop, [&] { return ends == 1; });
  EXPECT_EQ(received, "last words");
}

TEST_F(AStream, DeliversWhatAPeerSentBeforeItResetAlsoAfterAPause) {
  open();
  stream->pause();
  ASSERT_EQ(stream->write("an answer nobody reads"), 0u);
  send("last words");
  peer.reset();
  loop.poll();
  stream->resume();
  serve_until(loop, [&] { return ends == 1; });
  EXPECT_EQ(received, "last words");
}

TEST_F(AStream, QueuesWhatTheSocketDoesNotTakeAndKeepsTheOrder) {
  open();
  std::string sent;
  std::size_t waiting = 0;
  for (int i = 0; waiting == 0; ++i) {
    const std::string piece(10000, static_cast<char>('a' + i % 26));
    sent += piece;
    waiting = stream->write(piece);
  }
  EXPECT_EQ(stream->write("!"), waiting + 1);
  sent += "!";
  std::string read;
  serve_until(loop, [&] {
    read += peer_reads();
    return read.size() == sent.size();
  });
  EXPECT_EQ(read, sent);
  EXPECT_EQ(stream->write(""), 0u);
}

TEST_F(AStream, WritingToADeadPeerIsHarmless) {
  open();
  peer.reset();
  EXPECT_EQ(stream->write("x"), 0u);
  EXPECT_EQ(stream->write("y"), 0u);
  serve_until(loop, [&] { return ends == 1; });
}

TEST_F(AStream, MayBeDestroyedInItsDataHook) {
  open();
  on_data = [&] { stream.reset(); };
  send("bye");
  serve_until(loop, [&] { return stream == nullptr; });
  EXPECT_EQ(received, "bye");
  EXPECT_EQ(peer_reads(), "");
  EXPECT_EQ(ends, 0);
}

TEST_F(AStream, MayBeDestroyedInItsEndHook) {
  open();
  on_end = [&] { stream.reset(); };
  peer.reset();
  serve_until(loop, [&] { return stream == nullptr; });
  EXPECT_EQ(ends, 1);
}

TEST_F(AStream, ClosesItsDescriptorWhenDestroyed) {
  open();
  stream.reset();
  char byte = 0;
  EXPECT_EQ(::recv(peer.get(), &byte, 1, 0), 0);
}

TEST_F(AStream, DropsDescriptorsThatAPeerPassesAlong) {
  constexpr std::size_t kMany = 253;  // as many as the kernel takes in one message
  open();
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
  UniqueFd passed(pair[0]);
  const UniqueFd witness(pair[1]);
  char byte = 'x';
  iovec part{.iov_base = &byte, .iov_len = 1};
  alignas(cmsghdr) char control[CMSG_SPACE(kMany * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(kMany * sizeof(int));
  const std::vector<int> numbers(kMany, passed.get());
  std::memcpy(CMSG_DATA(header), numbers.data(), kMany * sizeof(int));
  ASSERT_EQ(::sendmsg(peer.get(), &message, 0), 1);
  passed.reset();
  EXPECT_EQ(::recv(witness.get(), &byte, 1, 0), -1) << "the descriptor is under way and open";
  serve_until(loop, [&] { return received == "x"; });
  EXPECT_EQ(::recv(witness.get(), &byte, 1, 0), 0) << "nobody holds it any more";
}

TEST_F(AStream, ReadsNoMoreThanItsAllowance) {
  std::size_t allowance = 3;
  const Stream limited(loop,
                       std::move(ours),
                       {.on_data =
                            [&](std::span<const std::uint8_t> data) {
                              EXPECT_LE(data.size(), allowance);
                              received += as_text(data);
                            },
                        .on_end = [] {},
                        .allowance = [&] { return allowance; }});
  send("abcdefgh");
  serve_until(loop, [&] { return received == "abcdefgh"; });
}

}  // namespace
}  // namespace telemetryd::loop
