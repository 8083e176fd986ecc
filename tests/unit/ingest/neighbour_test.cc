// What one user's flood costs another: nothing that is counted here.

#include "fixture.h"

namespace telemetryd::ingest {
namespace {

constexpr std::uint32_t kFlooder = 4711;
constexpr std::uint32_t kNeighbour = 4712;
constexpr std::uint64_t kShareBytes = 256u << 10;
constexpr std::uint32_t kEventsPerFrame = 400;

// The connections are the gateway's, so that they can be of any user.
class Neighbours : public Ingest {
 protected:
  void start_for_all() {
    options.events_per_second_per_uid_max = 0;
    options.events_per_second_per_app_max = 0;
    start();
    server->believe([](const Peer&) { return true; });
  }

  std::unique_ptr<Client> of(std::uint32_t uid) {
    auto client = connect();
    client->send(hello_frame(hello_message() + wire_number(8, uid)));
    EXPECT_EQ(answer_of(*client).type, frame::Type::kWelcome);
    return client;
  }

  // As much of `bytes` as the daemon reads, until it reads no more.
  static std::size_t offer(Client& client, std::string_view bytes, Neighbours& daemon) {
    std::size_t sent = 0;
    for (int quiet = 0; quiet < 20 && sent < bytes.size();) {
      const std::size_t more = client.send_some(bytes.substr(sent));
      sent += more;
      quiet = more > 0 ? 0 : quiet + 1;
      daemon.serve();
    }
    return sent;
  }

  static std::string frames(std::uint64_t first, std::uint64_t last) {
    std::string bytes;
    for (std::uint64_t number = first; number <= last; ++number) {
      bytes += events_frame(number, kEventsPerFrame);
    }
    return bytes;
  }

  std::uint64_t bytes_submitted(std::uint32_t uid) {
    std::uint64_t bytes = 0;
    for (const auto& each : stub().submitted) {
      if (each.append.client->key.uid == uid) bytes += each.append.events.size();
    }
    return bytes;
  }
};

TEST_F(Neighbours, OnlyAShareOfOneUsersBytesIsOnItsWayWhenOthersAreThere) {
  start_for_all();
  auto flooder = of(kFlooder);
  auto neighbour = of(kNeighbour);
  const std::string flood = frames(1, 40);
  std::size_t sent = offer(*flooder, flood, *this);
  const std::uint64_t frame_bytes = flood.size() / 40;
  EXPECT_GE(bytes_submitted(kFlooder), kShareBytes);
  EXPECT_LE(bytes_submitted(kFlooder), kShareBytes + frame_bytes);
  EXPECT_GE(stub().commits_now, 1) << "what waits for room may be what somebody waits for";

  neighbour->send(events_frame(1));
  serve_until([&] { return bytes_submitted(kNeighbour) > 0; });

  // Nothing of it is lost or refused; it comes as the answers go.
  std::uint64_t answered = 0;
  serve_until([&] {
    sent += flooder->send_some(std::string_view(flood).substr(sent));
    stub().settle_all();
    while (const auto answer = flooder->next()) {
      EXPECT_EQ(answer->type, frame::Type::kAck);
      answered = answer->number();
    }
    return answered == 40;
  });
}

TEST_F(Neighbours, OneUserAloneHasTheStore) {
  start_for_all();
  auto first = of(kFlooder);
  auto second = of(kFlooder);
  const std::string flood = frames(1, 40);
  EXPECT_EQ(offer(*first, flood, *this), flood.size());
  EXPECT_EQ(stub().submitted.size(), 40u);
  EXPECT_EQ(submitted_numbers().back(), 40u) << "far beyond a share";
}

TEST_F(Neighbours, AFullShareIsGivenBackAlsoByAConnectionThatIsGone) {
  start_for_all();
  auto first = of(kFlooder);
  auto second = of(kFlooder);
  auto neighbour = of(kNeighbour);
  offer(*first, frames(1, 40), *this);
  second->send(events_frame(77));
  serve();
  const std::size_t of_first = stub().submitted.size();
  first->close();
  // Frames that were read go on their way, the rest of the stream with them.
  serve_until([&] {
    stub().settle(1);
    for (const auto& each : stub().submitted) {
      if (each.append.number == 77) return true;
    }
    return false;
  });
  EXPECT_GT(of_first, 1u);
}

TEST_F(Neighbours, ConnectionsOfOneUserTakeTurns) {
  start_for_all();
  auto first = of(kFlooder);
  auto second = of(kFlooder);
  auto neighbour = of(kNeighbour);
  const std::string of_first = frames(1, 60);
  const std::string of_second = frames(1001, 1060);
  std::size_t sent_first = 0;
  std::size_t sent_second = 0;
  std::uint64_t frames_of_second = 0;
  for (int round = 0; round < 200 && sent_first < of_first.size(); ++round) {
    sent_first += first->send_some(std::string_view(of_first).substr(sent_first));
    sent_second += second->send_some(std::string_view(of_second).substr(sent_second));
    serve();
    for (const auto& each : stub().submitted)
      frames_of_second += each.append.number > 1000 ? 1u : 0u;
    stub().settle_all();
  }
  EXPECT_GT(frames_of_second, 15u) << "beside 60 of the first";
}

TEST_F(Neighbours, AUserOverTheRateIsNotReadAhead) {
  options.events_per_second_per_uid_max = 100;
  start();
  auto first = welcomed();
  auto second = welcomed();
  first->send(events_frame(1, 150));
  serve_until([&] { return stub().submitted.size() == 1; });
  second->send(events_frame(2, 50, std::string(200, 'n')));
  serve();
  EXPECT_EQ(stub().submitted.size(), 1u);
  EXPECT_EQ(server->stats().kept_bytes, 0u) << "it waits in the socket";
  EXPECT_GE(server->stats().rate_waits, 2u);
  clock.advance(std::chrono::milliseconds(500));
  serve_until([&] { return stub().submitted.size() == 2; });
}

TEST_F(Neighbours, AnAppOverItsRateIsReadLaterAndTheUsersOtherAppsAreNot) {
  options.events_per_second_per_app_max = 100;
  start();
  auto noisy = welcomed();
  auto quiet = connect();
  quiet->send(hello_frame(hello_message("other")));
  ASSERT_EQ(answer_of(*quiet).type, frame::Type::kWelcome);
  noisy->send(events_frame(1, 150) + events_frame(2, 50));
  serve_until([&] { return stub().submitted.size() == 1; });
  quiet->send(events_frame(1, 50));
  serve_until([&] { return stub().submitted.size() == 2; });
  serve();
  EXPECT_EQ(stub().submitted.size(), 2u) << "the first one's second frame waits";
  clock.advance(std::chrono::milliseconds(500));
  serve_until([&] { return stub().submitted.size() == 3; });
}

TEST_F(Neighbours, AReportCountsForTheRateLikeTheEventsOfATransaction) {
  options.events_per_second_per_uid_max = 250;
  start();
  auto client = welcomed();
  const std::string report = raw_frame(frame::Type::kReport, "");
  for (int i = 0; i < 6; ++i) client->send(report);
  serve();
  EXPECT_EQ(stub().reports.size(), 3u);
  clock.advance(std::chrono::milliseconds(200));
  serve_until([&] { return stub().reports.size() == 4; });
}

TEST_F(Neighbours, UnfinishedFramesOfOneUserAreBoundedTogether) {
  start_for_all();
  std::string large(frame::kHeaderBytes, '\0');
  frame::encode_header({.length = 1u << 20, .type = frame::Type::kEvents, .flags = 0},
                       reinterpret_cast<std::uint8_t*>(large.data()));
  large += std::string(1000 * 1000, 'x');
  std::vector<std::unique_ptr<Client>> hoarders;
  for (int i = 0; i < 12; ++i) {
    hoarders.push_back(of(kFlooder));
    offer(*hoarders.back(), large, *this);
  }
  constexpr std::uint64_t kUserMax = 8u << 20;
  constexpr std::uint64_t kAlways = 4096;
  EXPECT_GT(server->stats().kept_bytes, kUserMax / 2);
  EXPECT_LE(server->stats().kept_bytes, kUserMax + 12 * kAlways);

  // Neither the neighbour's large frame nor the user's own small one waits for that.
  auto neighbour = of(kNeighbour);
  const std::string whole = events_frame(5, 20'000);
  EXPECT_EQ(offer(*neighbour, whole, *this), whole.size());
  auto own = of(kFlooder);
  own->send(events_frame(6));
  serve_until([&] { return stub().submitted.size() == 2; });

  for (auto& each : hoarders) each->close();
  serve_until([&] { return server->stats().kept_bytes == 0; });
  EXPECT_GT(server->stats().frames_cut_short, 0u);
}

TEST_F(Neighbours, AFrameThatIsCutShortLeavesNothingButACount) {
  start();
  auto client = welcomed();
  client->send(events_frame(1) + events_frame(2).substr(0, 30));
  serve_until([&] { return stub().submitted.size() == 1; });
  EXPECT_EQ(server->stats().kept_bytes, 30u);
  client->close();
  serve_until([&] { return server->stats().connections == 0; });
  EXPECT_EQ(server->stats().frames_cut_short, 1u);
  EXPECT_EQ(server->stats().kept_bytes, 0u);
  EXPECT_EQ(stub().submitted.size(), 1u);
}

TEST_F(Neighbours, AFreezeIsNoReasonToCloseConnections) {
  options.frame_deadline = std::chrono::milliseconds(50);
  start();
  auto client = welcomed();
  const std::string bytes = events_frame(1);
  client->send(bytes.substr(0, 9));
  serve_until([&] { return server->stats().kept_bytes == 9; });
  // The timer fires an hour after it was set, as far as the clock knows.
  clock.advance(std::chrono::hours(1));
  const auto begun = std::chrono::steady_clock::now();
  expect_closing(*client, frame::Code::kDeadline, "within 50 ms");
  EXPECT_GE(std::chrono::steady_clock::now() - begun, options.frame_deadline)
      << "it had its whole time again, once";
}

}  // namespace
}  // namespace telemetryd::ingest
