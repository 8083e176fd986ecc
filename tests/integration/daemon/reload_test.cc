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
