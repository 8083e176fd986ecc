// The whole daemon on a disk that others fill.

#include "session.h"
#include "support/small_disk.h"

namespace telemetryd::test {
namespace {

constexpr const char* kSmallStore =
    "[policy]\nmode = \"opt-out\"\n"
    "[ingest]\nframe_bytes_max = 1048576\n"
    "[store]\nbytes_max = 8388608\nfree_disk_bytes_min = 0\n"
    "[[destination]]\nname = \"out\"\nkind = \"file\"\nurl = \"%\"\n"
    "[[route]]\napp = \"*\"\ndestination = \"out\"\n";

class Disk : public testing::Test {
 protected:
  std::string config() const {
    std::string text = kSmallStore;
    const std::string out = (home_.path() / "out.jsonl").native();
    return text.replace(text.find('%'), 1, out);
  }

  std::uint64_t queued(const DaemonProcess& daemon) {
    return get(daemon, "/v1/status")["ledger"]["queued"];
  }

  static telemetry_status_t track_big(App& app) {
    static const std::string stack(8000, 'x');
    telemetry_event_t event = TELEMETRY_EVENT_INIT;
    event.name = "big";
    event.error_stack = stack.c_str();
    return telemetry_track(app.client(), &event);
  }

  static std::string reason(const Json& status) {
    return status["reasons"].empty() ? "" : status["reasons"][0].get<std::string>();
  }

  DaemonHome home_;
  SmallDisk disk_{"size=6m,mode=700", home_.state_dir()};
};

TEST_F(Disk, FilledToTheLastByteTheDaemonDeliversRefusesForNowAndRecovers) {
  if (!disk_.skipped().empty()) GTEST_SKIP() << disk_.skipped();
  home_.configure(config());
  DaemonProcess daemon(home_);
  App app(home_, "tool");
  ASSERT_EQ(app.track("before"), TELEMETRY_OK);
  ASSERT_EQ(app.flush(), TELEMETRY_OK);
  ASSERT_EQ(queued(daemon), 1u);
  disk_.fill();
  // What is refused stays with the client, which sends it again by itself.
  std::uint64_t sent = 1;
  for (bool taken = true; taken && sent < 2000; ++sent) {
    ASSERT_EQ(track_big(app), TELEMETRY_OK);
    if (sent % 10 == 0) taken = telemetry_flush(app.client(), 1000) == TELEMETRY_OK;
  }
  const Json full = get(daemon, "/v1/status");
  EXPECT_EQ(full["state"], "degraded");
  EXPECT_EQ(reason(full).rfind("disk_low: ", 0), 0u) << full["reasons"];
  EXPECT_EQ(daemon.admin().get("/readyz").status, 503);
  const std::uint64_t stored = full["ledger"]["queued"];
  EXPECT_LT(stored, sent);
  const HttpAnswer flushed = post(daemon, "/v1/flush", {{"deadline_ms", 20'000}});
  EXPECT_EQ(flushed.status, 200) << flushed.body;
  EXPECT_GE(get(daemon, "/v1/status")["ledger"]["delivered"].get<std::uint64_t>(), stored);
  disk_.empty();
  ASSERT_EQ(telemetry_flush(app.client(), 20'000), TELEMETRY_OK);
  const Json after = get(daemon, "/v1/status");
  EXPECT_EQ(after["state"], "ok") << after["reasons"];
  EXPECT_EQ(after["ledger"]["accepted"], sent);
  EXPECT_EQ(get(daemon, "/v1/ledger?check=1")["check"]["balanced"], true);
  EXPECT_EQ(daemon.terminate(), 0);
}

TEST_F(Disk, ALowDiskIsSaidWithTheKeyToChange) {
  if (!disk_.skipped().empty()) GTEST_SKIP() << disk_.skipped();
  home_.configure("[policy]\nmode = \"opt-out\"\n");
  DaemonProcess daemon(home_);
  const Json status = get(daemon, "/v1/status");
  EXPECT_EQ(status["state"], "degraded");
  EXPECT_NE(reason(status).find("fewer than store.free_disk_bytes_min (268435456)"),
            std::string::npos)
      << status["reasons"];
  EXPECT_EQ(daemon.terminate(), 0);
}

}  // namespace
}  // namespace telemetryd::test
