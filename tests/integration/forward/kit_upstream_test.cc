// The real telemetryd and telemetryd-forward against the telemetry-kit server that others run:
// everything is delivered or parked with its reason, and nothing keeps the rest waiting.

#include <algorithm>

#include <gtest/gtest.h>

#include "integration/daemon/session.h"
#include "integration/forward/reference_server.h"

namespace telemetryd::test {
namespace {

class KitUpstream : public ::testing::Test {
 protected:
  void start(const std::string& more = "") {
    secret_file("token", ReferenceServer::kToken);
    secret_file("secret", ReferenceServer::kSecret);
    // So that only a flush tries again: a wait is drawn anew from 0 up to this.
    const std::string forward =
        "[forward]\nretry_delay_min_ms = 3600000\nretry_delay_max_s = 3600\n";
    home_.configure(kOptOut + forward + "[[destination]]\nname = \"kit\"\nkind = \"ingest\"\n" +
                    "url = \"" + server_.url() + "\"\norg = \"" + ReferenceServer::kOrg +
                    "\"\napp = \"" + ReferenceServer::kApp + "\"\ntoken_file = \"" + file("token") +
                    "\"\nsecret_file = \"" + file("secret") + "\"\n" +
                    (more.empty() ? "signature = \"plain\"\n" : more) +
                    "[[route]]\napp = \"*\"\ndestination = \"kit\"\n");
    daemon_.emplace(home_);
  }

  std::string file(const std::string& name) const { return (home_.path() / name).native(); }

  void secret_file(const std::string& name, const std::string& text) const {
    std::ofstream(file(name)) << text << '\n';
    std::filesystem::permissions(file(name), std::filesystem::perms(0600));
  }

  // Durable in the daemon when it returns.
  void track(const std::vector<std::string>& names,
             const char* user_id = nullptr,
             const std::string& error_message = "") {
    App app(home_, "tool");
    for (const std::string& name : names) {
      telemetry_event_t event = TELEMETRY_EVENT_INIT;
      event.name = name.c_str();
      event.user_id = user_id;
      if (!error_message.empty()) event.error_message = error_message.c_str();
      ASSERT_EQ(telemetry_track(app.client(), &event), TELEMETRY_OK);
    }
    ASSERT_EQ(app.flush(), TELEMETRY_OK);
  }

  static std::vector<std::string> names(std::size_t count, const std::string& prefix = "e") {
    std::vector<std::string> all;
    for (std::size_t i = 0; i < count; ++i) all.push_back(prefix + std::to_string(i));
    return all;
  }

  HttpAnswer flush() { return post(*daemon_, "/v1/flush", {{"deadline_ms", 60'000}}); }

  // Where the machine's events are; the ledger must balance against the rows.
  void expect_ledger(int delivered, int parked, int queued) {
    const Json ledger = get(*daemon_, "/v1/ledger?check=1");
    EXPECT_EQ(ledger["machine"]["delivered"], delivered);
    EXPECT_EQ(ledger["machine"]["parked"], parked);
    EXPECT_EQ(ledger["machine"]["queued"], queued);
    EXPECT_EQ(ledger["machine"]["accepted"], delivered + parked + queued);
    EXPECT_EQ(ledger["check"]["balanced"], true) << ledger["check"].dump();
  }

  std::string last_error() {
    const Json status = get(*daemon_, "/v1/destinations")["destinations"][0];
    return status["last_error"].is_string() ? status["last_error"].get<std::string>() : "";
  }

  ReferenceServer server_;
  DaemonHome home_;
  std::optional<DaemonProcess> daemon_;
};

TEST_F(KitUpstream, TakesWhatWeSend) {
  start();
  track(names(25));
  EXPECT_EQ(flush().status, 200);
  expect_ledger(25, 0, 0);
  EXPECT_EQ(server_.stored(), names(25));
}

TEST_F(KitUpstream, NoRequestHoldsMoreThanAThousandEvents) {
  start("signature = \"plain\"\n");
  track(names(2500));
  EXPECT_EQ(flush().status, 200);
  expect_ledger(2500, 0, 0);
  EXPECT_EQ(server_.stored(), names(2500));
}

TEST_F(KitUpstream, AReplayedBatchOfDuplicatesIsDelivered) {
  start();
  server_.break_off_next_answer();
  track(names(10));
  EXPECT_EQ(flush().status, 503);
  expect_ledger(0, 0, 10);
  EXPECT_EQ(server_.stored().size(), 10u);

  // The server says 400 to all of it now.
  EXPECT_EQ(flush().status, 200);
  expect_ledger(10, 0, 0);
  EXPECT_EQ(server_.stored(), names(10));
}

TEST_F(KitUpstream, AnEventThatTheServerRefusesIsParkedAndTheOthersArrive) {
  start();
  track({"good"});
  track({"bad"}, "anon_somebody");
  track({"fine"});
  EXPECT_EQ(flush().status, 200);
  expect_ledger(2, 1, 0);
  EXPECT_EQ(server_.stored(), (std::vector<std::string>{"good", "fine"}));
}

TEST_F(KitUpstream, AnEventThatBreaksTheServersParserIsFoundAndParked) {
  start();
  server_.indigestible("e137");
  track(names(300));
  EXPECT_EQ(flush().status, 200);
  expect_ledger(299, 1, 0);
  EXPECT_EQ(server_.stored().size(), 299u);
}

TEST_F(KitUpstream, WhatWasParkedIsShownAndSentAgainOnRequest) {
  start();
  server_.indigestible("e7");
  track(names(20));
  EXPECT_EQ(flush().status, 200);
  expect_ledger(19, 1, 0);

  const Json letters = get(*daemon_, "/v1/dead?destination=kit")["dead"];
  ASSERT_EQ(letters.size(), 1u);
  EXPECT_EQ(letters[0]["event"]["name"], "e7");
  EXPECT_EQ(letters[0]["app"], "tool");
  EXPECT_EQ(letters[0]["uid"], geteuid());
  EXPECT_NE(letters[0]["reason"], "");
  const auto id = letters[0]["id"].get<std::int64_t>();
  EXPECT_EQ(get(*daemon_, "/v1/dead?app=other")["dead"].size(), 0u);
  if (geteuid() == 0) {
    as_user(kNobody, [&] {
      EXPECT_EQ(get(*daemon_, "/v1/dead")["dead"].size(), 0u);
      EXPECT_EQ(Json::parse(post(*daemon_, "/v1/dead/drop", {{"all", true}}).body)["events"], 0);
    });
  }

  // The server was mended.
  server_.indigestible("nothing");
  EXPECT_EQ(post(*daemon_, "/v1/dead/replay", Json::object()).status, 400) << "says which";
  const Json replayed = Json::parse(post(*daemon_, "/v1/dead/replay", {{"id", id}}).body);
  EXPECT_EQ(replayed["events"], 1);
  EXPECT_EQ(replayed["next"], nullptr);
  expect_ledger(19, 0, 1);
  EXPECT_EQ(flush().status, 200);
  expect_ledger(20, 0, 0);
  EXPECT_EQ(server_.stored().back(), "e7");
}

TEST_F(KitUpstream, WhenEverythingIsRefusedNothingIsParkedAndItSaysWhy) {
  start();
  track(names(5), "anon_somebody");
  EXPECT_EQ(flush().status, 503);
  expect_ledger(0, 0, 5);
  EXPECT_NE(last_error().find("none of 5 events was accepted: invalid_schema"), std::string::npos)
      << last_error();

  // One that is accepted shows that the fault is with the five.
  track({"good"});
  EXPECT_EQ(flush().status, 200);
  expect_ledger(1, 5, 0);
}

TEST_F(KitUpstream, ABatchThatIsTooLargeIsDividedUntilItPasses) {
  start();
  server_.body_bytes_max(20'000);
  track(names(400));
  EXPECT_EQ(flush().status, 200);
  expect_ledger(400, 0, 0);
  EXPECT_EQ(server_.stored(), names(400));
}

TEST_F(KitUpstream, AfterAStartWhatIsTooLargeIsNotSentAgain) {
  constexpr std::size_t kBytesMax = 20'000;
  const auto refused = [&] {
    const auto seen = server_.seen();
    return std::ranges::count_if(
        seen, [&](const SeenRequest& request) { return request.body.size() > kBytesMax; });
  };
  start();
  server_.body_bytes_max(kBytesMax);
  track(names(200));
  EXPECT_EQ(flush().status, 200);
  const auto before = refused();
  EXPECT_GT(before, 0);

  EXPECT_EQ(daemon_->terminate(), 0);
  daemon_.emplace(home_);
  track(names(200, "f"));
  EXPECT_EQ(flush().status, 200);
  EXPECT_EQ(refused(), before);
  EXPECT_EQ(server_.stored().size(), 400u);
}

TEST_F(KitUpstream, OneEventThatIsTooLargeWaitsUntilAnotherIsAcceptedAndIsParkedThen) {
  start();
  server_.body_bytes_max(2'000);
  track({"large"}, nullptr, std::string(3'000, 'x'));
  EXPECT_EQ(flush().status, 503);
  expect_ledger(0, 0, 1);
  EXPECT_NE(last_error().find("status 413"), std::string::npos) << last_error();

  track(names(3));
  EXPECT_EQ(flush().status, 200);
  expect_ledger(3, 1, 0);
  EXPECT_EQ(server_.stored(), names(3));
}

TEST_F(KitUpstream, AServerThatIsAwayOrBusyIsAskedAgain) {
  start();
  server_.then([](const SeenRequest&) {
    return http_answer("429 Too Many Requests",
                       R"({"error":"rate_limit_exceeded","message":"slow","retry_after":30})",
                       "Retry-After: 20\r\n");
  });
  server_.then([](const SeenRequest&) {
    return http_answer("500 Internal Server Error", R"({"error":"x","message":"database"})");
  });
  // A connection that was used before may have ended by itself, so a new one is tried at once.
  for (int i = 0; i < 2; ++i) server_.then([](const SeenRequest&) { return std::string(); });
  track(names(10));
  EXPECT_EQ(flush().status, 503);
  EXPECT_NE(last_error().find("status 429 rate_limit_exceeded: slow"), std::string::npos);
  const Json waits = get(*daemon_, "/v1/destinations")["destinations"][0]["next_attempt_s"];
  EXPECT_GE(waits.get<int>(), 29);
  EXPECT_EQ(flush().status, 503);
  EXPECT_NE(last_error().find("status 500"), std::string::npos) << last_error();
  EXPECT_EQ(flush().status, 503);
  expect_ledger(0, 0, 10);
  EXPECT_EQ(flush().status, 200);
  expect_ledger(10, 0, 0);
  EXPECT_EQ(server_.stored(), names(10));
}

TEST_F(KitUpstream, AServerThatChoosesNotToKeepThemHasThem) {
  start();
  server_.do_not_track(true);
  track(names(10));
  EXPECT_EQ(flush().status, 200);
  expect_ledger(10, 0, 0);
  EXPECT_TRUE(server_.stored().empty());
}

TEST_F(KitUpstream, WhatItsDatabaseCannotHoldIsParkedInTheEnd) {
  start();
  server_.unstorable("e3");
  track(names(6));
  int tries = 0;
  while (flush().status != 200 && tries < 20) ++tries;
  EXPECT_EQ(tries, 9);
  expect_ledger(5, 1, 0);
}

TEST_F(KitUpstream, TheOtherFormOfTheSignatureIsHeldWithTheServersWords) {
  start("signature = \"nonce\"\n");
  track(names(2));
  EXPECT_EQ(flush().status, 503);
  expect_ledger(0, 0, 2);
  EXPECT_NE(last_error().find("status 401 Unauthorized: Invalid signature; check token_file, "
                              "secret_file and signature"),
            std::string::npos)
      << last_error();
}

TEST_F(KitUpstream, ATestOfTheDestinationProvesTheCredentialsWithoutAnEvent) {
  start();
  const Json good = json_of(post(*daemon_, "/v1/destinations/test", {{"name", "kit"}}));
  EXPECT_EQ(good["ok"], true) << good.dump();
  secret_file("secret", "another");
  const Json bad = json_of(post(*daemon_, "/v1/destinations/test", {{"name", "kit"}}));
  EXPECT_EQ(bad["ok"], false);
  EXPECT_NE(bad["detail"].get<std::string>().find("status 401"), std::string::npos) << bad.dump();
  EXPECT_TRUE(server_.stored().empty());
}

}  // namespace
}  // namespace telemetryd::test
