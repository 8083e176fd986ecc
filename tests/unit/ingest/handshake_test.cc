#include "fixture.h"

namespace telemetryd::ingest {
namespace {

using Handshake = Ingest;
using frame::Code;
using frame::Type;

TEST_F(Handshake, WelcomesWithModeRuleHighWaterAndLimits) {
  start();
  Bytes16 instance{};
  std::copy(kInstance.begin(), kInstance.end(), instance.begin());
  stub().high_waters[{::geteuid(), instance}] = 41;
  decision = {consent::Mode::kLocal, "all_record"};
  auto client = connect();
  client->send(hello_frame());
  const Answer welcome = answer_of(*client);
  EXPECT_EQ(welcome.type, Type::kWelcome);
  EXPECT_EQ(frame::get_u16(welcome.bytes()), frame::kVersion);
  EXPECT_EQ(welcome.text(),
            wire_number(1, 2) + wire_bytes(2, "all_record") + wire_number(3, 41) +
                wire_number(4, 65536) + wire_number(5, 1u << 20) + wire_number(6, 64) +
                wire_bytes(7, TELEMETRYD_TEST_VERSION));
}

TEST_F(Handshake, TakesEventsThatCameWithTheHello) {
  start();
  auto client = connect();
  client->send(hello_frame() + events_frame(1, 2) + events_frame(2));
  EXPECT_EQ(answer_of(*client).type, Type::kWelcome);
  serve_until([&] { return stub().submitted.size() == 2; });
  const store::Append& append = stub().submitted[0].append;
  EXPECT_EQ(append.client->key.uid, ::geteuid());
  EXPECT_EQ(append.client->app, "my-tool");
  EXPECT_EQ(append.client->context, wire_bytes(1, "my-tool"));
  EXPECT_EQ(append.client->first_frame, 1u);
  EXPECT_EQ(append.number, 1u);
  EXPECT_EQ(append.summary.count, 2u);
  EXPECT_EQ(append.events, wire_bytes(1, event_bytes()) + wire_bytes(1, event_bytes()));
  stub().settle_all();
  EXPECT_EQ(answer_of(*client).number(), 1u);
  EXPECT_EQ(answer_of(*client).number(), 2u);
  EXPECT_EQ(server->stats().frames_accepted, 2u);
  EXPECT_EQ(server->stats().events_accepted, 3u);
}

TEST_F(Handshake, SaysWhatIsWrong) {
  start();
  const std::string bad_instance = wire_bytes(1, "short") + wire_bytes(2, wire_bytes(1, "a"));
  const std::string no_instance = wire_bytes(2, wire_bytes(1, "a"));

  const struct {
    std::string bytes;
    Code code;
    std::string text;
  } cases[] = {
      {"GET / HTTP/1.1\r\n\r\n", Code::kProtocol, "the first frame must be HELLO"},
      {std::string(64, '\xff'), Code::kProtocol, "the first frame must be HELLO"},
      {events_frame(1), Code::kProtocol, "the first frame must be HELLO"},
      {hello_frame(hello_message(), 1, "ELF!"), Code::kProtocol, "TLMF"},
      {hello_frame(hello_message(), 9), Code::kVersionUnsupported, "speaks version 1"},
      {raw_frame(Type::kHello, "TL"), Code::kProtocol, "TLMF"},
      {hello_frame(std::string(4096, 'x')), Code::kProtocol, "the limit is 4096"},
      {hello_frame(bad_instance), Code::kProtocol, "instance is not 16 bytes"},
      {hello_frame(no_instance), Code::kProtocol, "instance is missing"},
      {hello_frame(wire_bytes(1, kInstance)), Code::kProtocol, "app name"},
      {hello_frame(hello_message("No Spaces")), Code::kProtocol, "app name"},
      {hello_frame(hello_message() + wire_bytes(7, "\xff")), Code::kProtocol, "UTF-8"},
      {hello_frame(hello_message() + wire_number(7, 1)), Code::kProtocol, "wire type"},
      {hello_frame(hello_message() + "\x80"), Code::kProtocol, "not a protobuf message"},
  };

  std::uint64_t count = 0;
  for (const auto& each : cases) {
    SCOPED_TRACE(each.text);
    auto client = connect();
    client->send(each.bytes);
    expect_closing(*client, each.code, each.text);
    EXPECT_EQ(server->stats().protocol_errors, ++count);
  }
  EXPECT_TRUE(stub().submitted.empty());
}

TEST_F(Handshake, RefusesASecondHello) {
  start();
  auto client = welcomed();
  client->send(hello_frame());
  expect_closing(*client, Code::kProtocol, "second HELLO");
}

TEST_F(Handshake, EndsWhenTheStoreCannotBeRead) {
  start();
  stub().unreadable = true;
  auto client = connect();
  client->send(hello_frame());
  expect_closing(*client, Code::kDiskUnavailable, "cannot be read");
}

TEST_F(Handshake, WaitsForRoomInTheStoresQueue) {
  start();
  stub().posts_full = true;
  auto client = connect();
  client->send(hello_frame());
  serve();
  EXPECT_FALSE(client->next());
  stub().posts_full = false;
  server->resume_reading();
  EXPECT_EQ(answer_of(*client).type, Type::kWelcome);
}

TEST_F(Handshake, MustComeWithinItsDeadline) {
  options.hello_deadline = std::chrono::milliseconds(5);
  start();
  auto silent = connect();
  expect_closing(*silent, Code::kDeadline, "no HELLO within 5 ms");
  auto slow = connect();
  slow->send(hello_frame().substr(0, 20));
  expect_closing(*slow, Code::kDeadline, "no HELLO within 5 ms");
}

TEST_F(Handshake, OnceWelcomedAClientMayBeSilent) {
  options.hello_deadline = std::chrono::milliseconds(20);
  options.frame_deadline = std::chrono::milliseconds(1);
  start();
  auto quiet = welcomed();
  auto late = connect();  // its deadline ends after the quiet client's would have
  expect_closing(*late, Code::kDeadline, "no HELLO");
  EXPECT_FALSE(quiet->at_end());
  quiet->send(events_frame(1));
  serve_until([&] { return stub().submitted.size() == 1; });
}

TEST_F(Handshake, OffWinsFromEitherSide) {
  start();

  const struct {
    consent::Mode ours;
    std::uint64_t theirs;
    std::uint64_t effective;
  } cases[] = {
      {consent::Mode::kOn, 0, 1},
      {consent::Mode::kOn, 1, 1},
      {consent::Mode::kOn, 3, 3},
      {consent::Mode::kOn, 9, 3},
      {consent::Mode::kLocal, 1, 2},
      {consent::Mode::kLocal, 2, 2},
      {consent::Mode::kOff, 1, 3},
      {consent::Mode::kUndecided, 1, 3},
      {consent::Mode::kOn, 2, 3},  // stored would mean sent, which this client does not want
  };

  for (const auto& each : cases) {
    decision = {each.ours, "rule"};
    auto client = connect();
    client->send(hello_frame(hello_message() + wire_number(6, each.theirs)));
    EXPECT_EQ(answer_of(*client).text().substr(0, 2), wire_number(1, each.effective));
  }
}

}  // namespace
}  // namespace telemetryd::ingest
