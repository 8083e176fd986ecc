#include "session.h"

namespace telemetryd::test {
namespace {

TEST(Consent, APersonDecidesForThemselves) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  const DaemonHome home;
  const DaemonProcess daemon(home);
  as_user(kNobody, [&] {
    EXPECT_EQ(get(daemon, "/v1/consent")["uid"], kNobody);
    EXPECT_NE(get(daemon, "/v1/consent?app=tool")["decision"]["mode"], "on");
    const HttpAnswer answer = post(daemon, "/v1/consent", {{"app", "tool"}, {"state", "enabled"}});
    EXPECT_EQ(answer.status, 200) << answer.body;
    EXPECT_EQ(json_of(answer)["decision"]["mode"], "on");
    const Json after = get(daemon, "/v1/consent?app=tool");
    EXPECT_EQ(after["decision"]["rule"], "app_record");
    EXPECT_EQ(after["records"].size(), 1u);
    EXPECT_EQ(after["records"][0]["state"], "enabled");
  });
  // Somebody else's record is not shown to us.
  EXPECT_EQ(get(daemon, "/v1/consent")["records"].size(), 0u);
}

TEST(Consent, OnlyAnAdminDecidesForOthers) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  const DaemonHome home;
  const DaemonProcess daemon(home);
  as_user(kNobody, [&] {
    EXPECT_EQ(post(daemon, "/v1/consent", {{"state", "enabled"}, {"uid", 0}}).status, 403);
  });
  EXPECT_EQ(post(daemon, "/v1/consent", {{"state", "disabled"}, {"uid", kNobody}}).status, 200);
  as_user(kNobody,
          [&] { EXPECT_EQ(get(daemon, "/v1/consent")["decision"]["rule"], "all_record"); });
}

TEST(Consent, AdminRequestsAreForAdmins) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  const DaemonHome home;
  const DaemonProcess daemon(home);
  as_user(kNobody, [&] {
    EXPECT_EQ(daemon.admin().get("/v1/config").status, 403);
    EXPECT_EQ(daemon.admin().get("/v1/ledger?check=1").status, 403);
    EXPECT_EQ(post(daemon, "/v1/reload", Json::object()).status, 403);
    EXPECT_EQ(post(daemon, "/v1/flush", Json::object()).status, 403);
    EXPECT_EQ(post(daemon, "/v1/destinations/test", {{"name", "x"}}).status, 403);
    EXPECT_EQ(daemon.admin().get("/v1/status").status, 200);
    EXPECT_EQ(daemon.admin().get("/v1/ledger").status, 200);
  });
}

TEST(Consent, SurvivesARestart) {
  const DaemonHome home;
  {
    DaemonProcess daemon(home);
    EXPECT_EQ(post(daemon, "/v1/consent", {{"app", "tool"}, {"state", "local"}}).status, 200);
    EXPECT_EQ(daemon.terminate(), 0);
  }
  const DaemonProcess daemon(home);
  EXPECT_EQ(get(daemon, "/v1/consent?app=tool")["decision"]["mode"], "local");
}

TEST(Consent, BadRequestsSayWhatWouldBeRight) {
  const DaemonHome home;
  const DaemonProcess daemon(home);
  EXPECT_EQ(post(daemon, "/v1/consent", {{"state", "maybe"}}).status, 400);
  EXPECT_EQ(post(daemon, "/v1/consent", {{"state", "enabled"}, {"application", "x"}}).status, 400);
  EXPECT_EQ(post(daemon, "/v1/consent", {{"state", "enabled"}, {"app", "Not A Name"}}).status, 400);
  EXPECT_EQ(post(daemon, "/v1/consent", {{"state", "enabled"}, {"uid", -1}}).status, 400);
  EXPECT_EQ(post(daemon, "/v1/consent", {{"state", "enabled"}, {"uid", 4294967295u}}).status, 400);
  EXPECT_EQ(post(daemon, "/v1/consent", Json::array()).status, 400);
  EXPECT_EQ(daemon.admin().get("/v1/consent?ap=x").status, 400);
}

TEST(Consent, DisablingErasesWhatWaits) {
  const DaemonHome home(kOptOut);
  const DaemonProcess daemon(home);
  App app(home, "tool");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(app.track("e"), TELEMETRY_OK);
  ASSERT_EQ(app.flush(), TELEMETRY_OK);
  EXPECT_EQ(get(daemon, "/v1/status")["ledger"]["queued"], 3);

  const HttpAnswer answer = post(daemon, "/v1/consent", {{"app", "tool"}, {"state", "disabled"}});

  EXPECT_EQ(json_of(answer)["erased_events"], 3);
  EXPECT_EQ(json_of(answer)["decision"]["mode"], "off");
  const Json ledger = get(daemon, "/v1/ledger?check=1");
  EXPECT_EQ(ledger["machine"]["erased"], 3);
  EXPECT_EQ(ledger["machine"]["queued"], 0);
  EXPECT_EQ(ledger["check"]["balanced"], true);
}

}  // namespace
}  // namespace telemetryd::test
