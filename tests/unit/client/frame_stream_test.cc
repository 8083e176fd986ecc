#include "telemetry_core/frame_stream.h"

#include <algorithm>
#include <cstring>
#include <poll.h>
#include <vector>

#include <gtest/gtest.h>

#include "support/fake_daemon.h"
#include "support/temp_dir.h"
#include "telemetry_core/encoder.h"

namespace telemetryd::client {
namespace {

constexpr std::uint32_t kLong = 20'000;

class FrameStreamTest : public testing::Test {
 protected:
  FrameStreamTest() {
    hello_.app = "importer";
    hello_.consent = Collection::kOn;
    std::memset(hello_.instance, 7, sizeof hello_.instance);
  }

  std::string path() const { return dir_ / "ingest.sock"; }

  static std::string record(const std::string& name) {
    telemetry_event_t event = TELEMETRY_EVENT_INIT;
    event.name = name.c_str();
    const std::uint8_t id[16] = {1};
    event.id = id;
    std::uint8_t bytes[512];
    EncodedEvent encoded{};
    EXPECT_EQ(encode_event(event,
                           {.session = nullptr, .time_unix_nano = 1},
                           sizeof bytes,
                           bytes,
                           sizeof bytes,
                           encoded),
              TELEMETRY_OK);
    return {reinterpret_cast<const char*>(encoded.record), encoded.record_bytes};
  }

  static telemetry_status_t send(FrameStream& stream, std::uint64_t number) {
    const std::string bytes = record("event" + std::to_string(number));
    return stream.send_frame({.number = number,
                              .count = 1,
                              .persistence_class = 0,
                              .urgency = 0,
                              .records = reinterpret_cast<const std::uint8_t*>(bytes.data()),
                              .size = bytes.size(),
                              .commit_now = false},
                             kLong);
  }

  test::TempDir dir_;
  Hello hello_{};
};

TEST_F(FrameStreamTest, SendsMoreFramesThanTheWindowHolds) {
  test::FakeDaemon daemon(path());
  daemon.start();
  FrameStream stream;
  const std::string where = path();
  ASSERT_EQ(stream.connect(where.c_str(), hello_, kLong), TELEMETRY_OK);
  for (std::uint64_t i = 1; i <= 500; ++i) ASSERT_EQ(send(stream, i), TELEMETRY_OK);
  EXPECT_EQ(stream.wait_all(kLong), TELEMETRY_OK);
  EXPECT_EQ(stream.goodbye(kLong), TELEMETRY_OK);
  EXPECT_EQ(stream.counters().acknowledged_frames, 500u);
  EXPECT_EQ(daemon.events_stored(), 500u);
  EXPECT_EQ(daemon.hellos()[0].instance(), std::string(16, '\7'));
}

TEST_F(FrameStreamTest, RepeatingAnImportFindsDuplicatesOnly) {
  test::FakeDaemon daemon(path());
  daemon.start();
  const std::string where = path();
  for (const std::uint64_t duplicates : {0u, 100u}) {
    FrameStream stream;
    ASSERT_EQ(stream.connect(where.c_str(), hello_, kLong), TELEMETRY_OK);
    for (std::uint64_t i = 1; i <= 100; ++i) ASSERT_EQ(send(stream, i), TELEMETRY_OK);
    EXPECT_EQ(stream.wait_all(kLong), TELEMETRY_OK);
    EXPECT_EQ(stream.counters().duplicate_frames, duplicates);
    EXPECT_EQ(stream.counters().acknowledged_frames, 100u);
  }
  EXPECT_EQ(daemon.events_stored(), 100u);
  EXPECT_EQ(daemon.received().size(), 100u) << "nothing is sent twice";
}

TEST_F(FrameStreamTest, KeepsTheTextOfTheRefusalAndGoesOn) {
  test::FakeDaemon daemon(path());
  daemon.on_events([&](auto& peer, const auto& frame) {
    if (frame.prefix.number != 2) return daemon.accept(peer, frame);
    peer.refuse({.number = 2, .code = frame::Code::kInvalidEvent, .retryable = false},
                "event 0: name\nmissing");
  });
  daemon.start();
  const std::string where = path();
  FrameStream stream;
  ASSERT_EQ(stream.connect(where.c_str(), hello_, kLong), TELEMETRY_OK);
  for (std::uint64_t i = 1; i <= 3; ++i) ASSERT_EQ(send(stream, i), TELEMETRY_OK);
  EXPECT_EQ(stream.wait_all(kLong), TELEMETRY_OK);
  EXPECT_EQ(stream.counters().refused_frames, 1u);
  EXPECT_EQ(stream.counters().acknowledged_frames, 2u);
  EXPECT_STREQ(stream.last_refusal(), "event 0: name?missing");
}

TEST_F(FrameStreamTest, ReconnectsAndSendsAgain) {
  test::FakeDaemon daemon(path());
  daemon.on_events([&](auto& peer, const auto& frame) {
    if (peer.connection() == 1 && frame.prefix.number == 10) return peer.hang_up();
    daemon.accept(peer, frame);
  });
  daemon.start();
  const std::string where = path();
  FrameStream stream;
  ASSERT_EQ(stream.connect(where.c_str(), hello_, kLong), TELEMETRY_OK);
  for (std::uint64_t i = 1; i <= 100; ++i) ASSERT_EQ(send(stream, i), TELEMETRY_OK);
  EXPECT_EQ(stream.wait_all(kLong), TELEMETRY_OK);
  EXPECT_EQ(stream.counters().acknowledged_frames, 100u);
  EXPECT_EQ(daemon.events_stored(), 100u);
}

// Bounded by the clock that the test hands in: no waiting, the jitter comes from a fixed seed.
TEST_F(FrameStreamTest, AnOldestFrameOutOfOrderAgainAndAgainBacksOffToSeconds) {
  test::FakeDaemon daemon(path());
  daemon.on_events([](auto& peer, const auto& frame) {
    peer.refuse({.number = frame.prefix.number,
                 .code = frame::Code::kOutOfOrder,
                 .retryable = true,
                 .retry_after_ms = 0},
                "");
  });
  daemon.start();
  const std::string where = path();
  std::vector<std::uint8_t> window(1u << 20);
  Session session;
  session.reset(hello_, window.data(), window.size(), 1);
  const std::string bytes = record("event");
  std::size_t room = 0;
  std::uint8_t* out = session.window().open(4096, 4096, room);
  std::memcpy(out + Window::kFrameOverhead, bytes.data(), bytes.size());
  session.close_frame({.number = 0,
                       .count = 1,
                       .persistence_class = 0,
                       .urgency = 0,
                       .record_bytes = static_cast<std::uint32_t>(bytes.size()),
                       .commit_now = false,
                       .mark = 1});
  std::uint64_t now = 1;
  std::uint64_t longest = 0;
  for (int refused = 0; refused < 12; ++refused) {
    ASSERT_TRUE(session.connect(where.c_str(), now));
    for (int turns = 0; session.connected(); ++turns) {
      ASSERT_LT(turns, 200) << "the connection is kept and the frame sent for ever";
      session.pump(now);
      pollfd fd{.fd = session.fd(), .events = POLLIN, .revents = 0};
      if (session.connected()) ::poll(&fd, 1, 100);
    }
    longest = std::max(longest, session.retry_at() - now);
    now = session.retry_at();
  }
  EXPECT_GT(longest, 1'000'000'000u);
  EXPECT_LE(longest, std::uint64_t{kBackoffMaxMs} * 1'000'000);
  EXPECT_EQ(daemon.received().size(), 12u);
}

// close() would report its events as lost and then finish sending them.
TEST_F(FrameStreamTest, AHalfWrittenFrameIsNotCountedAsNeverSent) {
  const test::FakeDaemon deaf(path());  // never started: it accepts nothing and reads nothing
  const std::string where = path();
  std::vector<std::uint8_t> window(16u << 20);
  Session session;
  session.reset(hello_, window.data(), window.size(), 1);
  constexpr std::size_t kRecordBytes = 4u << 20;  // more than a socket holds
  for (const std::uint32_t count : {10u, 7u}) {
    std::size_t room = 0;
    const std::size_t whole = Window::kFrameOverhead + kRecordBytes;
    ASSERT_NE(session.window().open(whole, whole, room), nullptr);
    session.close_frame({.number = 0,
                         .count = count,
                         .persistence_class = 0,
                         .urgency = 0,
                         .record_bytes = kRecordBytes,
                         .commit_now = false,
                         .mark = count});
  }
  EXPECT_EQ(session.unsent_events(), 17u);
  ASSERT_TRUE(session.connect(where.c_str(), 1));
  session.pump(1);
  ASSERT_TRUE(session.wants_write());
  EXPECT_EQ(session.unsent_events(), 7u) << "the other half follows while the connection lives";
  session.shut_down();
  EXPECT_EQ(session.unsent_events(), 17u);
}

TEST_F(FrameStreamTest, GoesOnWhenADaemonWithAnOlderDatabaseIsToldTheFirstFrameAnew) {
  test::FakeDaemon daemon(path());
  daemon.on_events([&](auto& peer, const auto& frame) {
    if (peer.connection() > 1 || frame.prefix.number < 3) return daemon.accept(peer, frame);
    peer.refuse({.number = frame.prefix.number,
                 .code = frame::Code::kOutOfOrder,
                 .retryable = true,
                 .retry_after_ms = 1},
                "");
  });
  daemon.start();
  const std::string where = path();
  FrameStream stream;
  ASSERT_EQ(stream.connect(where.c_str(), hello_, kLong), TELEMETRY_OK);
  for (std::uint64_t i = 1; i <= 5; ++i) ASSERT_EQ(send(stream, i), TELEMETRY_OK);
  EXPECT_EQ(stream.wait_all(kLong), TELEMETRY_OK);
  EXPECT_EQ(stream.counters().acknowledged_frames, 5u);
  ASSERT_EQ(daemon.hellos().size(), 2u);
  EXPECT_EQ(daemon.hellos()[1].first_frame(), 3u);
}

TEST_F(FrameStreamTest, AnAcknowledgementOfWhatWasNeverSentSettlesNothing) {
  test::FakeDaemon daemon(path());
  daemon.on_hello([](auto& peer) {
    peer.ack(1'000'000);
    peer.welcome(0);
  });
  daemon.on_events([](auto&, const auto&) {});
  daemon.start();
  const std::string where = path();
  FrameStream stream;
  ASSERT_EQ(stream.connect(where.c_str(), hello_, kLong), TELEMETRY_OK);
  for (std::uint64_t i = 1; i <= 3; ++i) ASSERT_EQ(send(stream, i), TELEMETRY_OK);
  EXPECT_EQ(stream.wait_all(10), TELEMETRY_TIMEOUT);
  EXPECT_EQ(stream.counters().acknowledged_frames, 0u);
}

TEST_F(FrameStreamTest, KeepsItsDeadlineWithoutADaemon) {
  const std::string where = path();
  FrameStream stream;
  EXPECT_EQ(stream.connect(where.c_str(), hello_, 20), TELEMETRY_TIMEOUT);
}

TEST_F(FrameStreamTest, RefusesNumbersThatDoNotRiseAndFramesAboveTheLimit) {
  test::FakeDaemon daemon(path());
  daemon.start();
  const std::string where = path();
  FrameStream stream;
  EXPECT_EQ(send(stream, 1), TELEMETRY_INVALID) << "not connected";
  ASSERT_EQ(stream.connect(where.c_str(), hello_, kLong), TELEMETRY_OK);
  EXPECT_EQ(send(stream, 0), TELEMETRY_INVALID);
  EXPECT_EQ(send(stream, 5), TELEMETRY_OK);
  EXPECT_EQ(send(stream, 5), TELEMETRY_INVALID);
  const std::vector<std::uint8_t> large(frame::kFrameBytesMaxDefault);
  EXPECT_EQ(stream.send_frame(
                {.number = 6, .count = 1, .records = large.data(), .size = large.size()}, kLong),
            TELEMETRY_INVALID);
}

}  // namespace
}  // namespace telemetryd::client
