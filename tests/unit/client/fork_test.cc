#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

#include "client_harness.h"

namespace telemetryd::client {
namespace {

int wait_for(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

using ForkTest = ClientTest;

TEST_F(ForkTest, ParentAndChildDeliverTheirOwnEventsOnceUnderTwoInstances) {
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  telemetry_client_t* client = open();
  for (int i = 0; i < 50; ++i) track(client, "parent");

  const pid_t child = fork();
  if (child == 0) {
    bool good = true;
    for (int i = 0; i < 30; ++i) good = good && track(client, "child") == TELEMETRY_OK;
    telemetry_stats_t last = TELEMETRY_STATS_INIT;
    good = good && telemetry_client_close(client, kLong, &last) == TELEMETRY_OK;
    _exit(good && last.accepted == 30 && last.acknowledged == 30 ? 0 : 1);
  }
  for (int i = 0; i < 50; ++i) track(client, "parent");
  EXPECT_EQ(wait_for(child), 0);
  EXPECT_EQ(track(client, "parent"), TELEMETRY_OK) << "the child must not touch this connection";
  EXPECT_EQ(close(client).acknowledged, 101u);

  const auto events = daemon.events();
  ASSERT_EQ(events.size(), 2u);
  std::map<std::string, std::size_t> by_name;
  for (const auto& [instance, list] : events) {
    for (const auto& event : list) {
      EXPECT_EQ(event.name(), list.front().name()) << "an instance sends its own events only";
      ++by_name[event.name()];
    }
  }
  EXPECT_EQ(by_name["parent"], 101u);
  EXPECT_EQ(by_name["child"], 30u);
}

TEST_F(ForkTest, TheChildInheritsNoEventsAndNeedsNoDaemonToExit) {
  telemetry_client_t* client = open();
  for (int i = 0; i < 10; ++i) track(client, "parent");
  const pid_t child = fork();
  if (child == 0) {
    telemetry_stats_t now = TELEMETRY_STATS_INIT;
    telemetry_client_stats(client, &now);
    const bool flushed = telemetry_flush(client, 0) == TELEMETRY_OK;
    telemetry_stats_t last = TELEMETRY_STATS_INIT;
    const bool closed = telemetry_client_close(client, 0, &last) == TELEMETRY_OK;
    _exit(now.accepted == 0 && flushed && closed && last.lost_shutdown == 0 ? 0 : 1);
  }
  EXPECT_EQ(wait_for(child), 0);
  EXPECT_EQ(close(client, 0, TELEMETRY_TIMEOUT).lost_shutdown, 10u);
}

TEST_F(ForkTest, AChildLeavesAloneWhatTookTheNumbersOfItsDescriptors) {
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  telemetry_client_t* client = open();
  track(client, "parent");
  ASSERT_EQ(telemetry_flush(client, kLong), TELEMETRY_OK);
  const pid_t child = fork();
  if (child == 0) {
    // As a daemonising program does: close everything, then open files of its own.
    for (int fd = 3; fd < 64; ++fd) ::close(fd);
    int mine[16];
    for (int& fd : mine) fd = ::dup(2);
    const bool tracked = track(client, "child") == TELEMETRY_OK;
    bool intact = true;
    for (const int fd : mine) intact = intact && fcntl(fd, F_GETFD) >= 0;
    const bool closed = telemetry_client_close(client, kLong, nullptr) == TELEMETRY_OK;
    for (const int fd : mine) intact = intact && fcntl(fd, F_GETFD) >= 0;
    _exit(tracked && intact && closed ? 0 : 1);
  }
  EXPECT_EQ(wait_for(child), 0);
  close(client);
  EXPECT_EQ(daemon.events_stored(), 2u);
}

TEST_F(ForkTest, ThreadsOfAChildStartOneInstanceTogether) {
  test::FakeDaemon daemon(socket_path());
  daemon.start();
  telemetry_client_t* client = open();
  const pid_t child = fork();
  if (child == 0) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 100; ++i) track(client, "child");
      });
    }
    for (std::thread& thread : threads) thread.join();
    telemetry_stats_t last = TELEMETRY_STATS_INIT;
    telemetry_client_close(client, kLong, &last);
    _exit(last.acknowledged == 400 ? 0 : 1);
  }
  EXPECT_EQ(wait_for(child), 0);
  close(client);
  EXPECT_EQ(daemon.events().size(), 1u);
}

}  // namespace
}  // namespace telemetryd::client
