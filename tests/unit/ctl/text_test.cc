#include "ctl/text.h"

#include <gtest/gtest.h>

#include "ctl/destination_text.h"
#include "ctl/event_text.h"
#include "ctl/ledger_text.h"
#include "ctl/status_text.h"

namespace telemetryd::ctl {
namespace {

using Json = nlohmann::json;

const Style kPlain(false);

TEST(Text, CountsAreGroupedByThousands) {
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(999), "999");
  EXPECT_EQ(count_text(1234567), "1 234 567");
}

TEST(Text, SizesAndDurationsAreReadable) {
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(duration_text(std::chrono::seconds(59)), "59 s");
  EXPECT_EQ(duration_text(std::chrono::seconds(7500)), "2 h 5 min");
}

TEST(Text, ColumnsAreAlignedAndNumbersStandRight) {
  Table table({"NAME", "N"});
  table.add({"a", "1"});
  table.add({"long", "12 000"});
  EXPECT_EQ(table.text(), "NAME       N\na          1\nlong  12 000\n");
}

TEST(Text, NothingFromAnAppCanDriveTheTerminal) {
  EXPECT_EQ(printable("a\x1b[2Jb\n"), "a\\x1b[2Jb\\x0a");
  const std::string line = event_text({{"name", "x\x1b]0;y\a"},
                                       {"attributes", {{"k\n", "v\r"}}},
                                       {"error", {{"message", "\x1b"}}}});
  EXPECT_EQ(line.find_first_of("\x1b\n\r\a"), std::string::npos);
}

TEST(Text, PipesGetNoColours) {
  EXPECT_EQ(Style(false).paint(Colour::kRed, "x"), "x");
  EXPECT_NE(Style(true).paint(Colour::kRed, "x"), "x");
}

TEST(Status, SaysThatNothingLeavesWithoutADestination) {
  const std::string text = status_text({{"state", "ok"}, {"destinations", Json::array()}}, kPlain);
  EXPECT_NE(text.find("nothing leaves this machine"), std::string::npos);
  EXPECT_NE(
      text.find("telemetryctl destination add NAME --kind native --url URL --org ORG --app APP "
                "--token-file FILE --secret-file FILE"),
      std::string::npos);
}

TEST(Status, SaysWhyADestinationWaitsAndForHowLong) {
  const Json status = {{"state", "degraded"},
                       {"reasons", {"upstream main is unreachable"}},
                       {"destinations",
                        {{{"name", "main"},
                          {"kind", "native"},
                          {"state", "waiting"},
                          {"queued_events", 12},
                          {"oldest_age_s", 90},
                          {"next_attempt_s", 5},
                          {"attempts", 3},
                          {"failing_s", 7200},
                          {"last_error", "connection refused"}}}}};
  const std::string text = status_text(status, kPlain);
  EXPECT_NE(text.find("upstream main is unreachable"), std::string::npos);
  EXPECT_NE(
      text.find(
          "waiting, next attempt in 5 s after 3 failed attempts in 2 h 0 min: connection refused"),
      std::string::npos)
      << text;
  EXPECT_NE(text.find("12 events waiting"), std::string::npos);
}

TEST(DestinationText, SaysEverythingOnALineOfItsOwn) {
  const Json destination = {{"name", "main"},
                            {"kind", "native"},
                            {"state", "backoff"},
                            {"waiting_for", nullptr},
                            {"apps", {"tool", "other"}},
                            {"queued_events", 12},
                            {"queued_bytes", 2048},
                            {"oldest_age_s", 90},
                            {"next_attempt_s", 5},
                            {"attempts", 3},
                            {"failing_s", 7200},
                            {"cause", "connect"},
                            {"first_error", "no route"},
                            {"last_error", "connection refused"},
                            {"last_success", nullptr},
                            {"muted_s", {{"loud", 60}}},
                            {"certificate_expires", "2027-01-01T00:00:00Z"}};
  EXPECT_EQ(destination_text(destination),
            "main (native)\n"
            "  state                backoff\n"
            "  waiting              12 events, 2.0 KiB, the oldest for 1 min 30 s\n"
            "  next attempt         in 5 s\n"
            "  last success         never\n"
            "  failing              for 2 h 0 min, 3 attempts\n"
            "  cause                connect\n"
            "  first error          no route\n"
            "  last error           connection refused\n"
            "  unwanted now         loud, for 1 min 0 s\n"
            "  apps                 tool, other\n"
            "  our certificate      expires 2027-01-01T00:00:00Z\n");
}

TEST(DestinationText, LeavesOutWhatThereIsNothingToSayOf) {
  EXPECT_EQ(destination_text({{"name", "main"},
                              {"kind", "file"},
                              {"state", "idle"},
                              {"queued_events", 0},
                              {"attempts", 0},
                              {"last_success", "2026-01-01T00:00:00Z"}}),
            "main (file)\n"
            "  state                idle\n"
            "  waiting              nothing\n"
            "  last success         2026-01-01T00:00:00Z\n"
            "  apps                 none has sent events yet\n");
}

TEST(Status, NamesTheAppThatHasNoDestination) {
  const Json status = {
      {"apps",
       {{{"name", "tool"}, {"destination", nullptr}, {"queued_events", 1}, {"mode", "on"}}}}};
  const std::string text = status_text(status, kPlain);
  EXPECT_NE(text.find("tool has no destination: 1 event kept here"), std::string::npos);
  EXPECT_NE(text.find("--route tool"), std::string::npos);
}

TEST(Status, SaysWhereGrpcIsAndHowItsGatewayDoes) {
  const auto line = [](const Json& gateway) {
    return status_text({{"gateway", gateway}, {"paths", {{"grpc_socket", "/run/x/grpc.sock"}}}},
                       kPlain);
  };
  EXPECT_NE(line({{"state", "off"}}).find("gRPC on /run/x/grpc.sock: off.\n"), std::string::npos);
  EXPECT_NE(line({{"state", "listening"}, {"last_exit", "signal 9"}})
                .find("gRPC on /run/x/grpc.sock: listening.\n"),
            std::string::npos);
  EXPECT_NE(line({{"state", "running"}, {"last_exit", "exit status 0"}})
                .find("gRPC on /run/x/grpc.sock: running.\n"),
            std::string::npos);
  EXPECT_NE(line({{"state", "running"}, {"last_exit", "signal 9"}})
                .find("gRPC on /run/x/grpc.sock: running, was restarted after signal 9.\n"),
            std::string::npos);
  EXPECT_NE(line({{"state", "service_manager"}}).find("the service manager starts its gateway"),
            std::string::npos);
  EXPECT_EQ(status_text({{"state", "ok"}}, kPlain).find("gRPC"), std::string::npos);
}

TEST(Status, DoesNotSayThatItAcceptsWhenThePolicyIsOff) {
  const std::string text = status_text({{"policy", "off"},
                                        {"ingest", {{"connections", 2}}},
                                        {"store", {{"bytes", 1}, {"bytes_max", 2}}},
                                        {"ledger", {{"accepted", 7}}}},
                                       kPlain);
  EXPECT_NE(text.find("It accepts no new events, because the machine's policy is off: 7 events so "
                      "far, 2 connections open now."),
            std::string::npos)
      << text;
}

TEST(Status, SaysWhatWasSentTodayAndWhatMayBe) {
  Json status = {{"state", "ok"}, {"budget", {{"network_bytes_today", 0}}}};
  EXPECT_EQ(status_text(status, kPlain).find("Sent today"), std::string::npos);
  status["budget"]["network_bytes_today"] = 2048;
  EXPECT_NE(status_text(status, kPlain).find("Sent today: 2.0 KiB.\n"), std::string::npos)
      << status_text(status, kPlain);
  status["budget"]["network_bytes_per_day_max"] = 1048576;
  EXPECT_NE(status_text(status, kPlain).find("Sent today: 2.0 KiB of 1.0 MiB ([forward]"),
            std::string::npos)
      << status_text(status, kPlain);
}

TEST(Status, BearsAnAnswerOfTheWrongShape) {
  for (const char* text :
       {"{}", "[]", "null", "7", R"({"destinations":7,"ledger":[],"apps":"x"})"}) {
    EXPECT_FALSE(status_text(Json::parse(text), kPlain).empty()) << text;
    EXPECT_FALSE(queue_text(Json::parse(text)).empty()) << text;
    EXPECT_FALSE(accounts_text(Json::parse(text)).empty()) << text;
    EXPECT_FALSE(event_text(Json::parse(text)).empty()) << text;
  }
}

TEST(Ledger, ShowsEachReasonUnderItsAccount) {
  const std::string text = accounts_text({{"accepted", 5},
                                          {"delivered", 3},
                                          {"evicted", {{"total", 2}, {"store_full", 2}}},
                                          {"balanced", true}});
  EXPECT_NE(text.find("  evicted              2\n    store_full         2\n"), std::string::npos)
      << text;
  EXPECT_NE(text.find("accepted is the sum"), std::string::npos);
}

}  // namespace
}  // namespace telemetryd::ctl
