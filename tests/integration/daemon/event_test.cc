#include "session.h"

namespace telemetryd::test {
namespace {

TEST(Events, AreListedWithTheirPlaceAndPagedByIt) {
  const DaemonHome home(kOptOut);
  const DaemonProcess daemon(home);
  App app(home, "tool");
  for (const char* name : {"a", "b", "c", "d", "e"}) EXPECT_EQ(app.track(name), TELEMETRY_OK);
  ASSERT_EQ(app.flush(), TELEMETRY_OK);

  std::string names;
  std::string after;
  for (int pages = 0; pages < 10; ++pages) {
    const Json page = get(daemon, "/v1/events?limit=2&after=" + after);
    for (const Json& event : page["events"]) {
      names += event["name"].get<std::string>();
      EXPECT_EQ(event["app"], "tool");
      EXPECT_EQ(event["uid"], geteuid());
      EXPECT_EQ(event["state"], "queued");
      EXPECT_GT(event["accepted_unix_ms"].get<std::int64_t>(), 0);
    }
    if (!page.contains("next")) break;
    after = page["next"].get<std::string>();
  }
  EXPECT_EQ(names, "abcde");
  EXPECT_EQ(get(daemon, "/v1/events?app=other")["events"].size(), 0u);
  EXPECT_EQ(daemon.admin().get("/v1/events?limit=1001").status, 400);
  EXPECT_EQ(daemon.admin().get("/v1/events?after=x").status, 400);
}

TEST(Events, OfOthersAreNotShown) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  const DaemonHome home(kOptOut);
  const DaemonProcess daemon(home);
  App app(home, "tool");
  EXPECT_EQ(app.track("mine"), TELEMETRY_OK);
  ASSERT_EQ(app.flush(), TELEMETRY_OK);
  as_user(kNobody, [&] { EXPECT_EQ(get(daemon, "/v1/events")["events"].size(), 0u); });
  EXPECT_EQ(get(daemon, "/v1/events")["events"].size(), 1u);
}

TEST(Events, AreStreamedFromNowOnAsTheyAreAccepted) {
  const DaemonHome home(kOptOut);
  const DaemonProcess daemon(home);
  App app(home, "tool");
  App other(home, "other");
  EXPECT_EQ(app.track("before"), TELEMETRY_OK);
  ASSERT_EQ(app.flush(), TELEMETRY_OK);
  UnixHttp stream = daemon.admin();
  stream.send("GET /v1/events/stream?app=tool HTTP/1.1\r\nHost: l\r\n\r\n");
  EXPECT_EQ(stream.head().status, 200);
  // Answered after the stream's beginning was found: requests reach the store in order.
  get(daemon, "/v1/ledger");

  for (const char* name : {"one", "two", "three"}) {
    EXPECT_EQ(other.track("unwanted"), TELEMETRY_OK);
    ASSERT_EQ(other.flush(), TELEMETRY_OK);
    EXPECT_EQ(app.track(name), TELEMETRY_OK);
    ASSERT_EQ(app.flush(), TELEMETRY_OK);
    const Json event = Json::parse(stream.stream_line(), nullptr, false);
    ASSERT_TRUE(event.is_object());
    EXPECT_EQ(event["name"], name);
    EXPECT_EQ(event["app"], "tool");
  }
}

TEST(Events, AppsWithoutADestinationAreNamedInTheStatus) {
  const DaemonHome home(kOptOut);
  const DaemonProcess daemon(home);
  App app(home, "tool");
  EXPECT_EQ(app.track("e"), TELEMETRY_OK);
  ASSERT_EQ(app.flush(), TELEMETRY_OK);
  const Json status = get(daemon, "/v1/status");
  EXPECT_EQ(status["state"], "degraded");
  ASSERT_EQ(status["reasons"].size(), 1u);
  EXPECT_EQ(status["reasons"][0],
            "no destination for app tool: its 1 events are kept here and not sent");
  EXPECT_EQ(status["apps"][0]["destination"], nullptr);
  EXPECT_EQ(status["apps"][0]["queued_events"], 1);
  EXPECT_EQ(daemon.admin().get("/readyz").status, 200);
}

TEST(Events, SurviveARestartInTheirQueue) {
  const DaemonHome home(kOptOut);
  {
    DaemonProcess daemon(home);
    App app(home, "tool");
    EXPECT_EQ(app.track("e"), TELEMETRY_OK);
    ASSERT_EQ(app.flush(), TELEMETRY_OK);
    daemon.signal(SIGKILL);
    daemon.wait();
  }
  const DaemonProcess daemon(home);
  EXPECT_EQ(get(daemon, "/v1/events")["events"].size(), 1u);
  EXPECT_EQ(get(daemon, "/v1/ledger?check=1")["check"]["balanced"], true);
}

}  // namespace
}  // namespace telemetryd::test
