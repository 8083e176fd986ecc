#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <set>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "client_harness.h"
#include "telemetry_core/ticks.h"

namespace telemetryd::client {
namespace {

namespace v1 = ::telemetry::v1;

std::size_t entries(const char* folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

TEST_F(ClientTest, DeliversWhatWasTrackedAndSaysGoodbye) {
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  telemetry_client_t* client = open();
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(track(client, "event" + std::to_string(i)), TELEMETRY_OK);
  }
  EXPECT_EQ(telemetry_flush(client, kLong), TELEMETRY_OK);
  EXPECT_EQ(stats(client).acknowledged, 100u);
  const telemetry_stats_t last = close(client);
  EXPECT_EQ(last.acknowledged, 100u);
  EXPECT_EQ(last.lost_shutdown, 0u);
  ASSERT_TRUE(daemon.wait_until([&] { return daemon.goodbyes_locked() == 1; }));

  const auto events = daemon.events();
  ASSERT_EQ(events.size(), 1u);
  const auto& mine = events.begin()->second;
  ASSERT_EQ(mine.size(), 100u);
  std::set<std::string> ids;
  for (std::size_t i = 0; i < 100; ++i) {
    EXPECT_EQ(mine[i].name(), "event" + std::to_string(i));
    EXPECT_EQ(mine[i].session_id(), daemon.hellos()[0].session_id());
    ids.insert(mine[i].id());
  }
  EXPECT_EQ(ids.size(), 100u);
  EXPECT_EQ(daemon.protocol_errors(), 0);
}

TEST_F(ClientTest, IntroducesItselfCompletely) {
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  telemetry_client_t* client = open();
  track(client, "x");
  close(client);
  const auto hello = daemon.hellos().at(0);
  EXPECT_EQ(hello.instance().size(), 16u);
  EXPECT_EQ(hello.session_id().size(), 16u);
  EXPECT_EQ(hello.context().app(), "mytool");
  EXPECT_EQ(hello.context().app_version(), "1.2.3");
  EXPECT_EQ(hello.context().language(), "c");
  EXPECT_EQ(hello.context().sdk(), std::string("libtelemetry/") + telemetry_version());
  EXPECT_EQ(hello.first_frame(), 1u);
  EXPECT_EQ(hello.consent(), telemetry::v1::COLLECTION_MODE_ON);
  EXPECT_EQ(hello.consent_rule(), "opt_out_default");
}

TEST_F(ClientTest, FramesAreHomogeneousInClassAndUrgency) {
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  telemetry_client_t* client = open();
  for (int i = 0; i < 60; ++i) {
    telemetry_event_t event = TELEMETRY_EVENT_INIT;
    event.name = "x";
    event.persistence_class = static_cast<telemetry_class_t>(i / 10 % 3);
    event.urgency = static_cast<telemetry_urgency_t>(i / 30);
    ASSERT_EQ(telemetry_track(client, &event), TELEMETRY_OK);
  }
  close(client);
  EXPECT_EQ(daemon.events_stored(), 60u);
  std::uint64_t number = 0;
  const auto frames = daemon.received();
  for (const auto& received : frames) {
    EXPECT_EQ(received.prefix.number, ++number);
    telemetry::v1::EventBatch batch;
    ASSERT_TRUE(batch.ParseFromString(received.batch));
    for (const auto& event : batch.events()) {
      EXPECT_EQ(event.persistence_class(), received.prefix.persistence_class);
      EXPECT_EQ(event.urgency(), received.prefix.urgency);
    }
  }
}

TEST_F(ClientTest, ClosesFramesAtTheTarget) {
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  telemetry_client_t* client = open(0, 0, 2048);
  const std::string name(200, 'n');
  for (int i = 0; i < 500; ++i) ASSERT_EQ(track(client, name), TELEMETRY_OK);
  close(client);
  EXPECT_EQ(daemon.events_stored(), 500u);
  for (const auto& received : daemon.received()) EXPECT_LE(received.batch.size(), 2048u);
}

TEST_F(ClientTest, ABadEventCostsItselfOnly) {
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  telemetry_client_t* client = open();
  EXPECT_EQ(track(client, "good"), TELEMETRY_OK);
  EXPECT_EQ(track(client, "\xff"), TELEMETRY_INVALID);
  telemetry_event_t large = TELEMETRY_EVENT_INIT;
  const std::string text(70'000, 'x');
  large.name = "large";
  large.user_id = text.c_str();
  EXPECT_EQ(telemetry_track(client, &large), TELEMETRY_TOO_LARGE);
  EXPECT_EQ(track(client, "good"), TELEMETRY_OK);
  const telemetry_stats_t last = close(client);
  EXPECT_EQ(last.acknowledged, 2u);
  EXPECT_EQ(last.dropped_invalid, 1u);
  EXPECT_EQ(last.dropped_too_large, 1u);
  ASSERT_TRUE(daemon.wait_until([&] { return daemon.goodbyes_locked() == 1; }));
  ASSERT_FALSE(daemon.reports().empty());
  EXPECT_EQ(daemon.reports().back().dropped_invalid(), 1u);
  EXPECT_EQ(daemon.reports().back().dropped_too_large(), 1u);
}

TEST_F(ClientTest, WithoutADaemonTheRingBoundsMemoryAndDropsAreCounted) {
  telemetry_client_t* client = open(1u << 18, 1, 1024);
  const std::string name(250, 'n');
  std::uint64_t accepted = 0;
  std::uint64_t dropped = 0;
  while (dropped < 1000 && accepted < 100'000) {
    track(client, name) == TELEMETRY_OK ? ++accepted : ++dropped;
  }
  const telemetry_stats_t now = stats(client);
  EXPECT_EQ(now.accepted, accepted);
  EXPECT_EQ(now.queued, accepted);
  EXPECT_EQ(now.dropped_queue_full, dropped);
  EXPECT_LT(accepted, 3000u);
  const telemetry_stats_t last = close(client, 1, TELEMETRY_TIMEOUT);
  EXPECT_EQ(last.lost_shutdown, accepted);
}

TEST_F(ClientTest, FlushAndCloseKeepTheirDeadlinesWithoutADaemon) {
  telemetry_client_t* client = open();
  track(client, "x");
  const std::uint64_t start = monotonic_ns();
  EXPECT_EQ(telemetry_flush(client, 20), TELEMETRY_TIMEOUT);
  const std::uint64_t flushed = monotonic_ns();
  EXPECT_GE(flushed - start, 20 * kNanosPerMilli);
  const telemetry_stats_t last = close(client, 20, TELEMETRY_TIMEOUT);
  EXPECT_EQ(last.lost_shutdown, 1u);
  EXPECT_LT(monotonic_ns() - start, 5000 * kNanosPerMilli);
}

TEST_F(ClientTest, FramesMadeAfterTheWelcomeKeepTheDaemonsLimit) {
  test::FakeDaemon daemon(socket_path());
  daemon.on_hello(
      [](auto& peer) { peer.welcome(0, v1::COLLECTION_MODE_ON, "opt_out_default", 3000); });
  daemon.start();
  telemetry_client_t* client = open();
  track(client, "first");
  ASSERT_EQ(telemetry_flush(client, kLong), TELEMETRY_OK);
  for (int i = 0; i < 1000; ++i) track(client, "event" + std::to_string(i));
  EXPECT_EQ(close(client).acknowledged, 1001u);
  for (const auto& frame : daemon.received()) {
    EXPECT_LE(frame.bytes.size() - frame::kHeaderBytes, 3000u) << frame.prefix.number;
  }
}

TEST_F(ClientTest, FlushWithNothingToSayReturnsAtOnce) {
  telemetry_client_t* client = open();
  EXPECT_EQ(telemetry_flush(client, 0), TELEMETRY_OK);
  EXPECT_EQ(close(client, 0).accepted, 0u);
}

TEST_F(ClientTest, SendWaitsForRoomUntilItsDeadlineAndCountsNoDrop) {
  telemetry_client_t* client = open(1u << 18, 1, 1024);
  const std::string name(250, 'n');
  while (track(client, name) == TELEMETRY_OK) continue;
  const std::uint64_t dropped = stats(client).dropped_queue_full;
  telemetry_event_t event = TELEMETRY_EVENT_INIT;
  event.name = name.c_str();
  const std::uint64_t start = monotonic_ns();
  // Room may still appear while the sender moves what it can into its window.
  while (telemetry_send(client, &event, 20) == TELEMETRY_OK) continue;
  EXPECT_GE(monotonic_ns() - start, 20 * kNanosPerMilli);
  EXPECT_EQ(stats(client).dropped_queue_full, dropped);
  close(client, 0, TELEMETRY_TIMEOUT);
}

TEST_F(ClientTest, SendLosesNothingFromManyThreadsThroughASmallRing) {
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  telemetry_client_t* client = open(1u << 18, 0, 4096);
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      telemetry_event_t event = TELEMETRY_EVENT_INIT;
      event.name = "bulk";
      for (int i = 0; i < 2500; ++i) {
        if (telemetry_send(client, &event, kLong) != TELEMETRY_OK) ++failed;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  const telemetry_stats_t last = close(client);
  EXPECT_EQ(last.acknowledged, 10'000u);
  std::set<std::string> ids;
  const auto events = daemon.events();
  for (const auto& event : events.begin()->second) ids.insert(event.id());
  EXPECT_EQ(ids.size(), 10'000u) << "identifiers are unique across threads";
}

TEST_F(ClientTest, AClientThatIsOffHasNoThreadAndNoDescriptor) {
  struct Off {
    const char* variable;
    const char* value;
    const char* rule;
  };

  for (const Off& off : {Off{"DO_NOT_TRACK", "1", "DO_NOT_TRACK"},
                         Off{"DNT", "1", "DNT"},
                         Off{"DNT", "what", "DNT"},
                         Off{"MYTOOL_TELEMETRY", "off", "tool_variable"}}) {
    setenv(off.variable, off.value, 1);
    const std::size_t threads = entries("/proc/self/task");
    const std::size_t descriptors = entries("/proc/self/fd");
    telemetry_client_t* client = open();
    ASSERT_NE(client, nullptr);
    EXPECT_EQ(track(client, "x"), TELEMETRY_DISABLED);
    EXPECT_EQ(entries("/proc/self/task"), threads);
    EXPECT_EQ(entries("/proc/self/fd"), descriptors);
    char rule[32];
    EXPECT_EQ(telemetry_client_mode(client, rule, sizeof rule), TELEMETRY_MODE_OFF);
    EXPECT_STREQ(rule, off.rule);
    EXPECT_EQ(close(client).dropped_disabled, 1u);
    unsetenv(off.variable);
  }
}

TEST_F(ClientTest, TheConsentFileAndThePolicyDecideTogether) {
  char rule[32];
  publish_policy("mode = opt-in\n");
  telemetry_client_t* client = open();
  EXPECT_EQ(telemetry_client_mode(client, rule, sizeof rule), TELEMETRY_MODE_OFF);
  EXPECT_STREQ(rule, "opt_in_default");
  close(client);

  write_consent("version = 1\nstate = \"enabled\"\n");
  client = open();
  EXPECT_EQ(telemetry_client_mode(client, rule, sizeof rule), TELEMETRY_MODE_UNDECIDED);
  EXPECT_STREQ(rule, "consent_file");
  close(client);

  publish_policy("off");
  client = open();
  EXPECT_EQ(telemetry_client_mode(client, rule, sizeof rule), TELEMETRY_MODE_OFF);
  EXPECT_STREQ(rule, "machine_policy");
  close(client);

  publish_policy("mode = opt-out");
  write_consent("state = what\n");
  client = open();
  EXPECT_EQ(telemetry_client_mode(client, rule, sizeof rule), TELEMETRY_MODE_OFF);
  EXPECT_STREQ(rule, "consent_file");
  close(client);
}

TEST_F(ClientTest, LocalConsentIsToldToTheDaemon) {
  write_consent("version = 1\nstate = \"local\"\n");
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  telemetry_client_t* client = open();
  track(client, "x");
  close(client);
  EXPECT_EQ(daemon.hellos().at(0).consent(), telemetry::v1::COLLECTION_MODE_LOCAL);
  EXPECT_EQ(daemon.hellos().at(0).consent_rule(), "consent_file");
}

TEST_F(ClientTest, UndecidedWithoutAPolicyItWaitsAndSendsOnceOneAllowsIt) {
  std::filesystem::remove(dir_ / "policy");
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  telemetry_client_t* client = open();
  EXPECT_EQ(track(client, "early"), TELEMETRY_OK);
  EXPECT_EQ(telemetry_flush(client, 30), TELEMETRY_TIMEOUT);
  EXPECT_EQ(daemon.connections(), 0) << "nobody has allowed it";
  publish_policy("opt-out");
  EXPECT_EQ(telemetry_flush(client, kLong), TELEMETRY_OK);
  EXPECT_EQ(close(client).acknowledged, 1u);
}

TEST_F(ClientTest, UndecidedEventsAreDiscardedWhenThePolicyTurnsOutToBeOptIn) {
  std::filesystem::remove(dir_ / "policy");
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  telemetry_client_t* client = open();
  EXPECT_EQ(track(client, "early"), TELEMETRY_OK);
  publish_policy("opt-in");
  EXPECT_EQ(telemetry_flush(client, kLong), TELEMETRY_OK);
  EXPECT_EQ(daemon.connections(), 0);
  EXPECT_EQ(stats(client).refused, 1u);
  EXPECT_EQ(track(client, "late"), TELEMETRY_DISABLED);
  char rule[32];
  EXPECT_EQ(telemetry_client_mode(client, rule, sizeof rule), TELEMETRY_MODE_OFF);
  EXPECT_STREQ(rule, "opt_in_default");
  close(client);
}

TEST_F(ClientTest, ModeOffStopsTakingEventsAndModeOnStartsAgain) {
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  telemetry_client_t* client = open();
  track(client, "before");
  ASSERT_EQ(telemetry_flush(client, kLong), TELEMETRY_OK);
  char rule[32];
  EXPECT_EQ(telemetry_client_mode(client, rule, sizeof rule), TELEMETRY_MODE_ON);
  EXPECT_STREQ(rule, "opt_out_default");

  daemon.with_peers(
      [](auto& peer) { peer.mode(telemetry::v1::COLLECTION_MODE_OFF, "app_record"); });
  while (telemetry_client_mode(client, rule, sizeof rule) != TELEMETRY_MODE_OFF) {
    std::this_thread::yield();
  }
  EXPECT_STREQ(rule, "app_record");
  while (track(client, "refused") != TELEMETRY_DISABLED) std::this_thread::yield();

  daemon.with_peers([](auto& peer) { peer.mode(telemetry::v1::COLLECTION_MODE_ON, "app_record"); });
  while (track(client, "after") != TELEMETRY_OK) std::this_thread::yield();
  EXPECT_GT(close(client).dropped_disabled, 0u);
}

TEST_F(ClientTest, TheEnvironmentNamesTheSocketWhenTheAppDoesNot) {
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  setenv("TELEMETRYD_SOCKET", socket_path().c_str(), 1);
  telemetry_options_t options = TELEMETRY_OPTIONS_INIT;
  options.app = "mytool";
  telemetry_client_t* client = nullptr;
  ASSERT_EQ(telemetry_client_open(&options, &client), TELEMETRY_OK);
  track(client, "x");
  EXPECT_EQ(close(client).acknowledged, 1u);
  unsetenv("TELEMETRYD_SOCKET");
}

TEST_F(ClientTest, ADaemonThatDiesRaisesNoSignal) {
  static volatile std::sig_atomic_t raised = 0;
  raised = 0;
  const auto before = std::signal(SIGPIPE, [](int) { raised = 1; });
  test::FakeDaemon daemon(socket_path());
  daemon.on_hello([](auto& peer) { peer.hang_up(); });
  daemon.start();
  telemetry_client_t* client = open();
  for (int i = 0; i < 1000; ++i) track(client, "x");
  ASSERT_TRUE(daemon.wait_until([&] { return daemon.connections_locked() >= 3; }));
  close(client, 0, TELEMETRY_TIMEOUT);
  std::signal(SIGPIPE, before);
  EXPECT_EQ(raised, 0);
}

// The client's descriptors: both ends of its pipe and the socket that is connected to `path`.
std::vector<int> descriptors_of_client(const std::string& path, const std::set<int>& before) {
  std::vector<int> found;
  for (int fd = 3; fd < 256; ++fd) {
    if (before.contains(fd)) continue;
    struct stat status{};
    if (fstat(fd, &status) != 0) continue;
    sockaddr_un address{};
    socklen_t size = sizeof address;
    const bool connected = getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
                           path == address.sun_path;
    if (connected || S_ISFIFO(status.st_mode)) found.push_back(fd);
  }
  return found;
}

// What a program that makes itself a daemon does: it closes everything and opens files of its own,
// which get the same numbers.
TEST_F(ClientTest, WhatTakesTheNumbersOfItsDescriptorsIsNeitherReadNorWritten) {
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  std::set<int> before;
  for (int fd = 0; fd < 256; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) before.insert(fd);
  }
  telemetry_client_t* client = open();
  track(client, "one");
  ASSERT_EQ(telemetry_flush(client, kLong), TELEMETRY_OK);
  const std::vector<int> numbers = descriptors_of_client(socket_path(), before);
  ASSERT_EQ(numbers.size(), 3u);

  std::vector<int> far_ends;
  for (const int number : numbers) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    ASSERT_EQ(write(ends[1], "theirs", 6), 6);
    ASSERT_EQ(dup2(ends[0], number), number);
    ::close(ends[0]);
    far_ends.push_back(ends[1]);
  }
  track(client, "two");
  EXPECT_EQ(close(client).acknowledged, 2u);

  for (std::size_t i = 0; i < numbers.size(); ++i) {
    char text[64];
    EXPECT_EQ(read(far_ends[i], text, sizeof text), -1) << "nothing was written to " << i;
    EXPECT_EQ(read(numbers[i], text, sizeof text), 6) << "nothing was read from " << i;
    ::close(far_ends[i]);
    ::close(numbers[i]);
  }
}

TEST_F(ClientTest, OptionsThatBreakARuleAreInvalid) {
  const std::string path = socket_path();
  const std::string long_path(200, 'p');
  telemetry_options_t valid = TELEMETRY_OPTIONS_INIT;
  valid.app = "mytool";
  valid.socket_path = path.c_str();
  const auto expect_invalid = [&valid](auto break_rule) {
    telemetry_options_t options = valid;
    break_rule(options);
    telemetry_client_t* client = reinterpret_cast<telemetry_client_t*>(&options);
    EXPECT_EQ(telemetry_client_open(&options, &client), TELEMETRY_INVALID);
    EXPECT_EQ(client, nullptr);
  };
  expect_invalid([](auto& o) { o.size = 4; });
  expect_invalid([](auto& o) { o.app = nullptr; });
  expect_invalid([](auto& o) { o.app = "My Tool"; });
  expect_invalid([](auto& o) { o.app_version = "\xff"; });
  expect_invalid([&](auto& o) { o.socket_path = long_path.c_str(); });
  expect_invalid([](auto& o) { o.queue_bytes_max = (256u << 20) + 1; });
  expect_invalid([](auto& o) { o.frame_bytes_target = (1u << 20) + 1; });
}

TEST_F(ClientTest, ANullClientIsAllowedEverywhere) {
  telemetry_event_t event = TELEMETRY_EVENT_INIT;
  event.name = "x";
  telemetry_stats_t none = TELEMETRY_STATS_INIT;
  EXPECT_EQ(telemetry_track(nullptr, &event), TELEMETRY_DISABLED);
  EXPECT_EQ(telemetry_send(nullptr, &event, 0), TELEMETRY_DISABLED);
  EXPECT_EQ(telemetry_flush(nullptr, 0), TELEMETRY_OK);
  EXPECT_EQ(telemetry_client_stats(nullptr, &none), TELEMETRY_OK);
  EXPECT_EQ(telemetry_client_mode(nullptr, nullptr, 0), TELEMETRY_MODE_OFF);
  EXPECT_EQ(telemetry_client_close(nullptr, 0, nullptr), TELEMETRY_OK);
}

}  // namespace
}  // namespace telemetryd::client
