// Whose events these are: the kernel says, or the gateway, and nobody else.

#include "fixture.h"
#include "ingest/control.h"

namespace telemetryd::ingest {
namespace {

using frame::Code;
using frame::Type;

constexpr std::uint32_t kSomebody = 4711;

std::string hello_for(std::uint32_t uid, const std::string& context = wire_bytes(1, "my-tool")) {
  return hello_frame(wire_bytes(1, kInstance) + wire_bytes(2, context) + wire_number(4, 1) +
                     wire_number(8, uid));
}

class Gateway : public Ingest {
 protected:
  // We are the gateway, until somebody says otherwise.
  void start_believing() {
    start();
    server->believe([this](const Peer& peer) {
      asked = peer;
      return believed;
    });
  }

  std::unique_ptr<Client> speaking_for(std::uint32_t uid) {
    auto client = connect();
    client->send(hello_for(uid));
    return client;
  }

  bool believed = true;
  Peer asked;
};

TEST_F(Gateway, IsToldByProcessAndUser) {
  start_believing();
  auto client = speaking_for(kSomebody);
  EXPECT_EQ(answer_of(*client).type, Type::kWelcome);
  EXPECT_EQ(asked.pid, ::getpid());
  EXPECT_EQ(asked.uid, ::geteuid());
}

TEST_F(Gateway, SpeaksForWhomItSays) {
  start_believing();
  Bytes16 instance{};
  std::copy(kInstance.begin(), kInstance.end(), instance.begin());
  stub().high_waters[{kSomebody, instance}] = 7;
  auto client = speaking_for(kSomebody);
  const Answer welcome = answer_of(*client);
  ASSERT_EQ(welcome.type, Type::kWelcome);
  EXPECT_NE(welcome.text().find(wire_number(3, 7)), std::string::npos) << "that user's high water";
  client->send(events_frame(8));
  serve_until([&] { return stub().submitted.size() == 1; });
  EXPECT_EQ(stub().submitted[0].append.client->key.uid, kSomebody);
}

TEST_F(Gateway, NobodyElseSpeaksForAnother) {
  start_believing();
  believed = false;
  for (const std::uint32_t uid : {kSomebody, 0u, ::geteuid(), kForeignUid}) {
    auto client = speaking_for(uid);
    expect_closing(*client, Code::kProtocol, "only the gateway may say peer_uid");
  }
  EXPECT_EQ(server->stats().peer_uids_refused, 4u);
  EXPECT_EQ(server->stats().protocol_errors, 4u);
  auto plain = connect();
  plain->send(hello_frame() + events_frame(1));
  EXPECT_EQ(answer_of(*plain).type, Type::kWelcome);
  serve_until([&] { return stub().submitted.size() == 1; });
  EXPECT_EQ(stub().submitted[0].append.client->key.uid, ::geteuid());
}

TEST_F(Gateway, NobodyIsBelievedBeforeItIsKnown) {
  start();
  auto client = speaking_for(kSomebody);
  expect_closing(*client, Code::kProtocol, "only the gateway");
}

TEST_F(Gateway, APeerUidIsAUid) {
  start_believing();
  auto client = connect();
  client->send(hello_frame(hello_message() + wire_number(8, 1ull << 32)));
  expect_closing(*client, Code::kProtocol, "peer_uid is no uid");
}

TEST_F(Gateway, ConsentIsAskedForTheUserItSpeaksFor) {
  store = std::make_unique<store::StoreThread>(std::make_unique<test::StubStore>(),
                                               store::StoreThreadOptions{},
                                               store::StoreThread::Hooks{});
  server = std::make_unique<IngestServer>(
      loop,
      std::move(*loop::listen_unix(path(), 0600, 64)),
      *store,
      clock,
      [](std::uint32_t uid, std::string_view) {
        return consent::Decision{uid == kSomebody ? consent::Mode::kOff : consent::Mode::kOn, "r"};
      },
      options);
  server->believe([](const Peer&) { return true; });
  auto off = speaking_for(kSomebody);
  EXPECT_EQ(answer_of(*off).text().substr(0, 2), wire_number(1, 3));
  auto on = speaking_for(kSomebody + 1);
  EXPECT_EQ(answer_of(*on).text().substr(0, 2), wire_number(1, 1));
}

TEST_F(Gateway, ItsConnectionsCountForTheirUsers) {
  options.connections_per_uid_max = 2;
  start_believing();
  std::vector<std::unique_ptr<Client>> clients;
  for (const std::uint32_t uid : {1u, 2u, 3u, 1u, 2u, 3u}) {
    clients.push_back(speaking_for(uid));
    EXPECT_EQ(answer_of(*clients.back()).type, Type::kWelcome) << uid;
  }
  auto third = speaking_for(1);
  expect_closing(*third, Code::kTooManyConnections, "connections_per_uid_max is 2");
  EXPECT_EQ(server->stats().connections_refused, 1u);

  believed = false;
  auto own = welcomed();
  EXPECT_TRUE(own) << "the gateway's own user has its share untouched";

  believed = true;
  clients.front()->close();
  serve();
  auto again = speaking_for(1);
  EXPECT_EQ(answer_of(*again).type, Type::kWelcome);
}

TEST_F(Gateway, ItsConnectionsCountForTheMachineFromTheStart) {
  options.connections_max = 2;
  start_believing();
  auto first = connect();
  auto second = speaking_for(1);
  EXPECT_EQ(answer_of(*second).type, Type::kWelcome);
  auto third = connect();
  expect_closing(*third, Code::kTooManyConnections, "connections_max is 2");
  first->close();
  serve();
  auto fourth = speaking_for(2);
  EXPECT_EQ(answer_of(*fourth).type, Type::kWelcome);
}

TEST_F(Gateway, EventsAreMeteredForTheirUser) {
  options.events_per_second_per_uid_max = 10;
  start_believing();
  auto greedy = speaking_for(1);
  auto modest = speaking_for(2);
  EXPECT_EQ(answer_of(*greedy).type, Type::kWelcome);
  EXPECT_EQ(answer_of(*modest).type, Type::kWelcome);
  greedy->send(events_frame(1, 20) + events_frame(2));
  modest->send(events_frame(3));
  serve_until([&] { return stub().submitted.size() == 2; });
  serve();
  const auto numbers = submitted_numbers();
  EXPECT_EQ((std::set<std::uint64_t>(numbers.begin(), numbers.end())),
            (std::set<std::uint64_t>{1, 3}));
}

TEST_F(Gateway, OnlyAForeignMachineHasAnIdOfItsOwn) {
  start_believing();
  const std::string with_id =
      wire_bytes(1, "my-tool") + wire_bytes(7, "elsewhere") + wire_bytes(2, "1.0");
  const std::string without = wire_bytes(1, "my-tool") + wire_bytes(2, "1.0");

  const struct {
    bool gateway;
    std::string hello;
    std::string stored;
  } cases[] = {
      {false,
       hello_frame(wire_bytes(1, kInstance) + wire_bytes(2, with_id) + wire_number(4, 1)),
       without},
      {true, hello_for(kSomebody, with_id), without},
      {true, hello_for(kForeignUid, with_id), with_id},
      {true, hello_for(kForeignUid, without), without},
  };

  for (const auto& each : cases) {
    believed = each.gateway;
    stub().submitted.clear();
    auto client = connect();
    client->send(each.hello + events_frame(1));
    serve_until([&] { return stub().submitted.size() == 1; });
    EXPECT_EQ(stub().submitted[0].append.client->context, each.stored);
    stub().settle_all();
  }
}

TEST_F(Gateway, AForeignMachinesIdIsBounded) {
  start_believing();
  auto client = connect();
  client->send(
      hello_for(kForeignUid, wire_bytes(1, "my-tool") + wire_bytes(7, std::string(129, 'x'))));
  expect_closing(*client, Code::kProtocol, "machine_id is longer than 128 bytes");
}

}  // namespace
}  // namespace telemetryd::ingest
