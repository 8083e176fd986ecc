// What a hostile client can cost, and that it is the one who pays.

#include <dirent.h>

#include "fixture.h"
#include "ingest/frame_reader.h"

namespace telemetryd::ingest {
namespace {

using HostileClient = Ingest;
using frame::Code;
using frame::Type;

std::string header_of(Type type, std::uint32_t length) {
  std::string bytes(frame::kHeaderBytes, '\0');
  frame::encode_header({.length = length, .type = type, .flags = 0},
                       reinterpret_cast<std::uint8_t*>(bytes.data()));
  return bytes;
}

TEST_F(HostileClient, IsRefusedByTheHeaderAlone) {
  options.frame_bytes_max = 1000;
  start();

  const struct {
    std::string bytes;
    Code code;
    std::string text;
  } cases[] = {
      {header_of(Type::kEvents, kFrameBytesDiscardMax + 1),
       Code::kFrameTooLarge,
       "frame_bytes_max is 1000"},
      {header_of(Type::kEvents, 0xffffffff), Code::kFrameTooLarge, "frame_bytes_max is 1000"},
      {header_of(Type::kEvents, 15), Code::kProtocol, "too short"},
      {header_of(Type::kReport, 257), Code::kProtocol, "the limit is 256"},
      {header_of(Type::kFlush, 1), Code::kProtocol, "no payload"},
      {header_of(Type::kGoodbye, 1), Code::kProtocol, "no payload"},
      {header_of(Type::kAck, 8), Code::kProtocol, "unknown frame type 65"},
      {header_of(static_cast<Type>(0), 0), Code::kProtocol, "unknown frame type 0"},
      {events_frame(0), Code::kProtocol, "start at 1"},
  };

  for (const auto& each : cases) {
    SCOPED_TRACE(each.text);
    auto client = welcomed();
    client->send(each.bytes);
    expect_closing(*client, each.code, each.text);
  }
}

TEST_F(HostileClient, MustFinishAFrameItStarted) {
  options.frame_deadline = std::chrono::milliseconds(5);
  start();
  auto slow = welcomed();
  slow->send(events_frame(1) + events_frame(2).substr(0, 3));
  serve_until([&] { return stub().submitted.size() == 1; });
  stub().settle_all();
  EXPECT_EQ(answer_of(*slow).number(), 1u);
  expect_closing(*slow, Code::kDeadline, "within 5 ms");
}

TEST_F(HostileClient, MustFinishAFrameThatIsDiscarded) {
  options.frame_bytes_max = 1000;
  options.frame_deadline = std::chrono::milliseconds(5);
  start();
  auto slow = welcomed();
  slow->send(events_frame(1, 100).substr(0, 2000));
  expect_closing(*slow, Code::kDeadline, "within 5 ms");
  EXPECT_TRUE(stub().submitted.empty());
}

TEST_F(HostileClient, DoesNotGetMoreTimeByDribbling) {
  options.frame_deadline = std::chrono::milliseconds(50);
  start();
  auto slow = welcomed();
  // A byte at a time this takes seconds, and no byte is late.
  const std::string bytes = events_frame(1, 20000);
  std::size_t sent = 0;
  serve_until([&] {
    sent += slow->send_some(std::string_view(bytes).substr(sent, 1));
    return sent == bytes.size() || server->stats().protocol_errors == 1;
  });
  EXPECT_LT(sent, bytes.size());
  expect_closing(*slow, Code::kDeadline, "within 50 ms");
}

TEST_F(HostileClient, GetsOnlyItsShareOfConnections) {
  options.connections_per_uid_max = 2;
  start();
  auto first = welcomed();
  auto second = welcomed();
  auto third = connect();
  expect_closing(*third, Code::kTooManyConnections, "connections_per_uid_max is 2");
  EXPECT_EQ(server->stats().connections_refused, 1u);
  EXPECT_EQ(server->stats().connections, 2u);
  first->close();
  serve_until([&] { return server->stats().connections == 1; });
  welcomed();
  EXPECT_EQ(server->stats().connections_total, 3u);
}

TEST_F(HostileClient, CannotTakeEverybodysConnections) {
  options.connections_max = 1;
  start();
  auto first = welcomed();
  auto second = connect();
  second->send(hello_frame());
  expect_closing(*second, Code::kTooManyConnections, "connections_max is 1");
}

TEST_F(HostileClient, ThatNeverReadsItsAnswersLosesItsConnection) {
  start();
  auto deaf = welcomed();
  auto other = welcomed();
  const std::string long_text(frame::kTextBytesMax, 't');
  // Each refusal is half a kilobyte and nobody reads: the socket fills, then the queue behind it.
  std::uint64_t number = 0;
  const auto refuse_some = [&] {
    deaf->send_some(events_frame(++number));
    stub().refusals[number] = {Code::kStoreFull, true, 0, long_text};
    serve();
    stub().settle_all();
    char byte = 0;
    return ::send(deaf->fd().get(), &byte, 0, MSG_NOSIGNAL) < 0 || number > 5000;
  };
  while (!refuse_some()) {
  }
  EXPECT_LT(number, 5000u) << "what waits for a client is bounded";
  serve();
  other->send(events_frame(1'000'000));
  serve_until([&] { return stub().submitted.size() == 1; });
}

TEST_F(HostileClient, IsReadNoFasterThanItsRate) {
  options.events_per_second_per_uid_max = 100;
  start();
  auto client = welcomed();
  client->send(events_frame(1, 100) + events_frame(2, 50) + events_frame(3));
  serve();
  EXPECT_EQ(submitted_numbers(), (std::vector<std::uint64_t>{1, 2})) << "the bucket is overdrawn";
  clock.advance(std::chrono::milliseconds(400));
  server->resume_reading();
  serve();
  EXPECT_EQ(stub().submitted.size(), 2u);
  clock.advance(std::chrono::milliseconds(100));
  // No outside help: the server's own timer looks again.
  serve_until([&] { return stub().submitted.size() == 3; });
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

TEST_F(HostileClient, LeavesNoDescriptorsBehind) {
  start();
  serve();
  const std::size_t before = open_descriptors();
  {
    auto client = welcomed();
    char byte = 'x';
    iovec part{.iov_base = &byte, .iov_len = 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int passed = client->fd().get();
    std::copy_n(reinterpret_cast<const unsigned char*>(&passed), sizeof passed, CMSG_DATA(header));
    ASSERT_EQ(::sendmsg(passed, &message, 0), 1);
    serve();
    EXPECT_EQ(open_descriptors(), before + 3) << "client, connection, and the answers' duplicate";
  }
  serve();
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace telemetryd::ingest
