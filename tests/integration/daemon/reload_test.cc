#include "session.h"

namespace telemetryd::test {
namespace {

constexpr const char* kFileDestination =
    "[[destination]]\nname = \"file\"\nkind = \"file\"\nurl = \"/tmp/never-written.jsonl\"\n"
    "[[route]]\napp = \"*\"\ndestination = \"file\"\n";

TEST(Reload, TakesDestinationsRoutesAndPolicy) {
  const DaemonHome home;
  const DaemonProcess daemon(home);
  EXPECT_EQ(get(daemon, "/v1/destinations")["destinations"].size(), 0u);
  home.configure(std::string(kOptOut) + "[ingest]\nconnections_max = 5\n" + kFileDestination);

  const HttpAnswer answer = post(daemon, "/v1/reload", Json::object());

  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(json_of(answer)["generation"], 2);
  EXPECT_EQ(json_of(answer)["restart_needed"], Json::array({"ingest.connections_max"}));
  const Json destinations = get(daemon, "/v1/destinations")["destinations"];
  ASSERT_EQ(destinations.size(), 1u);
  EXPECT_EQ(destinations[0]["name"], "file");
  EXPECT_EQ(get(daemon, "/v1/consent")["machine_policy"], "opt-out");
  EXPECT_EQ(file_text(home.runtime_dir() / "policy"), "mode = opt-out\n");
  const std::string toml = get(daemon, "/v1/config")["toml"];
  EXPECT_NE(toml.find("connections_max = 1024"), std::string::npos) << toml;
}

TEST(Reload, ABadFileChangesNothing) {
  const DaemonHome home(kFileDestination);
  const DaemonProcess daemon(home);
  home.configure("[policy]\nmode = \"opt-out\"\n[stroe]\nx = 1\n");

  const HttpAnswer answer = post(daemon, "/v1/reload", Json::object());

  EXPECT_EQ(answer.status, 400);
  ASSERT_EQ(json_of(answer)["problems"].size(), 1u);
  EXPECT_NE(json_of(answer)["problems"][0].get<std::string>().find("did you mean store?"),
            std::string::npos);
  EXPECT_EQ(get(daemon, "/v1/consent")["machine_policy"], "opt-in");
  EXPECT_EQ(get(daemon, "/v1/status")["generation"], 1);
  EXPECT_EQ(get(daemon, "/v1/destinations")["destinations"].size(), 1u);
}

TEST(Reload, ASignalDoesTheSame) {
  const DaemonHome home;
  DaemonProcess daemon(home);
  home.configure(kOptOut);
  daemon.signal(SIGHUP);
  daemon.wait_for_note("RELOADING=1");
  daemon.wait_for_note("READY=1");
  EXPECT_EQ(get(daemon, "/v1/consent")["machine_policy"], "opt-out");
}

TEST(Reload, ABadFileOnASignalKeepsTheRunningConfigurationAndSaysSo) {
  const DaemonHome home(kOptOut);
  DaemonProcess daemon(home);
  home.configure("[stroe]\nx = 1\n");
  daemon.signal(SIGHUP);
  // Each status is a turn of the daemon.
  Json status = get(daemon, "/v1/status");
  for (int turns = 0; turns < 20'000; ++turns) {
    if (daemon.log().find("config_problem") != std::string::npos) break;
    status = get(daemon, "/v1/status");
  }
  EXPECT_NE(daemon.log().find("did you mean store?"), std::string::npos) << daemon.log();
  EXPECT_EQ(status["generation"], 1);
  EXPECT_EQ(status["policy"], "opt-out");
}

TEST(Reload, AStormOfSignalsIsAFewReloads) {
  const DaemonHome home;
  DaemonProcess daemon(home);
  daemon.signal(SIGHUP);
  daemon.wait_for_note("READY=1");
  home.configure(kOptOut);
  for (int i = 0; i < 500; ++i) daemon.signal(SIGHUP);
  daemon.wait_for_note("READY=1");
  const Json status = get(daemon, "/v1/status");
  EXPECT_EQ(status["generation"], 3) << "the first, and one for the storm";
  EXPECT_EQ(status["policy"], "opt-out") << "it read what was there before the last signal";
}

TEST(Reload, DuringAStopChangesNothing) {
  const DaemonHome home(kOptOut);
  DaemonProcess daemon(home);
  daemon.signal(SIGTERM);
  daemon.wait_for_note("STOPPING=1");
  for (int i = 0; i < 100; ++i) daemon.signal(SIGHUP);
  EXPECT_EQ(daemon.wait(), 0);
  EXPECT_EQ(daemon.log().find("config_reloaded"), std::string::npos) << daemon.log();
}

TEST(Reload, AQueueFollowsItsDestinationToItsNewAddress) {
  const DaemonHome home;
  const auto configure = [&](const std::filesystem::path& file) {
    home.configure(std::string(kOptOut) + "[[destination]]\nname = \"file\"\nkind = \"file\"\n" +
                   "url = \"" + file.native() + "\"\n[[route]]\napp = \"*\"\n" +
                   "destination = \"file\"\n");
  };
  configure(home.path() / "no-such-folder" / "events.jsonl");
  const DaemonProcess daemon(home);
  App app(home, "tool");
  EXPECT_EQ(app.track("moved"), TELEMETRY_OK);
  ASSERT_EQ(app.flush(), TELEMETRY_OK);
  EXPECT_EQ(post(daemon, "/v1/flush", {{"deadline_ms", 10'000}}).status, 503);
  EXPECT_EQ(get(daemon, "/v1/status")["ledger"]["queued"], 1);

  const std::filesystem::path file = home.path() / "events.jsonl";
  configure(file);
  ASSERT_EQ(post(daemon, "/v1/reload", Json::object()).status, 200);
  const HttpAnswer flushed = post(daemon, "/v1/flush", {{"deadline_ms", 10'000}});
  EXPECT_EQ(flushed.status, 200) << flushed.body;
  EXPECT_NE(file_text(file).find("moved"), std::string::npos) << file_text(file);
  const Json status = get(daemon, "/v1/status");
  EXPECT_EQ(status["ledger"]["delivered"], 1);
  EXPECT_EQ(status["ledger"]["queued"], 0);
}

TEST(Reload, TurningThePolicyOffReachesRunningClients) {
  const DaemonHome home(kOptOut);
  const DaemonProcess daemon(home);
  App app(home, "tool");
  EXPECT_EQ(app.track("e"), TELEMETRY_OK);
  ASSERT_EQ(app.flush(), TELEMETRY_OK);
  home.configure("[policy]\nmode = \"off\"\n");
  EXPECT_EQ(post(daemon, "/v1/reload", Json::object()).status, 200);
  // What follows is refused for good or dropped by the client, never stored.
  (void)app.track("late");
  (void)app.flush();
  const Json status = get(daemon, "/v1/status");
  EXPECT_EQ(status["ledger"]["accepted"], 1);
  EXPECT_EQ(status["policy"], "off");
  EXPECT_EQ(status["reasons"][0], "the machine's policy is off: nothing is collected or stored");
}

TEST(Reload, TheStoreOfAPolicyThatWasOffNeedsARestart) {
  const DaemonHome home("[policy]\nmode = \"off\"\n");
  const DaemonProcess daemon(home);
  home.configure(kOptOut);
  const HttpAnswer answer = post(daemon, "/v1/reload", Json::object());
  EXPECT_EQ(json_of(answer)["restart_needed"], Json::array({"policy.mode"}));
  EXPECT_EQ(file_text(home.runtime_dir() / "policy"), "mode = off\n");
}

}  // namespace
}  // namespace telemetryd::test
