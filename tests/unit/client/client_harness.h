// A client under test with a policy, a socket path and a clean environment of its own.

#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "support/fake_daemon.h"
#include "support/temp_dir.h"
#include "telemetry/telemetry.h"

namespace telemetryd::client {

constexpr std::uint32_t kLong = 20'000;  // never reached by working code

class ClientTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"DO_NOT_TRACK", "DNT", "MYTOOL_TELEMETRY", "TELEMETRYD_SOCKET"}) {
      unsetenv(name);
    }
    setenv("XDG_CONFIG_HOME", (dir_ / "config").c_str(), 1);
    publish_policy("opt-out");
  }

  // Whole or not at all, as the daemon does: the client may look at any moment.
  void publish_policy(const std::string& text) {
    std::ofstream(dir_ / "policy.new") << text;
    std::filesystem::rename(dir_ / "policy.new", dir_ / "policy");
  }

  void write_consent(const std::string& text) {
    std::filesystem::create_directories(dir_ / "config/mytool");
    std::ofstream(dir_ / "config/mytool/consent.toml") << text;
  }

  std::string socket_path() const { return dir_ / "ingest.sock"; }

  telemetry_client_t* open(std::uint32_t queue_bytes = 0,
                           std::uint32_t unacked_bytes = 0,
                           std::uint32_t frame_bytes = 0) {
    const std::string path = socket_path();
    telemetry_options_t options = TELEMETRY_OPTIONS_INIT;
    options.app = "mytool";
    options.app_version = "1.2.3";
    options.socket_path = path.c_str();
    options.queue_bytes_max = queue_bytes;
    options.unacked_bytes_max = unacked_bytes;
    options.frame_bytes_target = frame_bytes;
    telemetry_client_t* client = nullptr;
    EXPECT_EQ(telemetry_client_open(&options, &client), TELEMETRY_OK);
    return client;
  }

  static telemetry_status_t track(telemetry_client_t* client, const std::string& name) {
    telemetry_event_t event = TELEMETRY_EVENT_INIT;
    event.name = name.c_str();
    return telemetry_track(client, &event);
  }

  // The header promises accepted = acknowledged + refused + lost_* + queued.
  static telemetry_stats_t stats(telemetry_client_t* client) {
    telemetry_stats_t stats = TELEMETRY_STATS_INIT;
    EXPECT_EQ(telemetry_client_stats(client, &stats), TELEMETRY_OK);
    expect_identity(stats);
    return stats;
  }

  static void expect_identity(const telemetry_stats_t& stats) {
    EXPECT_EQ(stats.accepted,
              stats.acknowledged + stats.refused + stats.lost_shutdown + stats.queued);
  }

  static telemetry_stats_t close(telemetry_client_t* client,
                                 std::uint32_t deadline_ms = kLong,
                                 telemetry_status_t expected = TELEMETRY_OK) {
    telemetry_stats_t stats = TELEMETRY_STATS_INIT;
    EXPECT_EQ(telemetry_client_close(client, deadline_ms, &stats), expected);
    expect_identity(stats);
    EXPECT_EQ(stats.queued, 0u);
    return stats;
  }

  test::TempDir dir_;
};

}  // namespace telemetryd::client
