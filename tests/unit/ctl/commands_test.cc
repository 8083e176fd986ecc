#include <cstdlib>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/io.h"
#include "ctl/admin_client.h"
#include "ctl/session.h"
#include "support/scripted_admin.h"
#include "support/temp_dir.h"

namespace telemetryd::ctl {
namespace {

using Answers = std::map<std::string, std::pair<int, std::string>>;

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

class CommandsTest : public testing::Test {
 protected:
  CommandsTest() {
    for (const char* name : {"DO_NOT_TRACK", "DNT", "CI", "TOOL_TELEMETRY", "TELEMETRYD_SOCKET"}) {
      unsetenv(name);
    }
    setenv("XDG_CONFIG_HOME", (dir_ / "config").c_str(), 1);
  }

  std::string socket() const { return dir_ / "admin.sock"; }

  Outcome run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"--socket", socket()});
    return run_plain(std::move(arguments));
  }

  static Outcome run_plain(std::vector<std::string> arguments) {
    char* out_text = nullptr;
    char* err_text = nullptr;
    std::size_t out_size = 0;
    std::size_t err_size = 0;
    std::FILE* out = open_memstream(&out_text, &out_size);
    std::FILE* err = open_memstream(&err_text, &err_size);
    Outcome outcome;
    outcome.code = run_telemetryctl(std::move(arguments), out, err);
    std::fclose(out);
    std::fclose(err);
    outcome.out.assign(out_text, out_size);
    outcome.err.assign(err_text, err_size);
    std::free(out_text);
    std::free(err_text);
    return outcome;
  }

  test::TempDir dir_;
};

TEST_F(CommandsTest, WrongUsageIsTwo) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {},
           {"nonsense"},
           {"event"},
           {"event", "send"},
           {"status", "--", "ls"},
           {"run", "--app", "tool"},
           {"event", "send", "--app", "X!", "--name", "n"},
           {"consent", "enable", "--app", "X!"},
           {"event", "send", "--app", "tool", "--name", "n", "--attr", "a:int=x"},
           {"event", "import", "--app", "tool", "--rate", "-1", "-"},
           {"queue", "flush", "--deadline", "0"}}) {
    EXPECT_EQ(run(words).code, kUsage);
  }
}

TEST_F(CommandsTest, AWordNobodyKnowsIsNamedWithTheHelpThatListsTheOthers) {
  EXPECT_EQ(run({"statu"}).err,
            "telemetryctl: 'statu' is not known here\nTry: telemetryctl --help\n");
  EXPECT_EQ(run({"--bogus"}).err,
            "telemetryctl: '--bogus' is not known here\nTry: telemetryctl --help\n");
  EXPECT_EQ(run({"event", "sned"}).err,
            "telemetryctl: 'sned' is not known here\nTry: telemetryctl event --help\n");
}

TEST_F(CommandsTest, AKindThatIsNoneIsToldThoseThereAre) {
  const Outcome outcome = run({"event", "send", "--app", "tool", "--name", "n", "--kind", "zz"});
  EXPECT_EQ(outcome.code, kUsage);
  EXPECT_NE(outcome.err.find("'zz' is not event, command"), std::string::npos) << outcome.err;
}

TEST_F(CommandsTest, AnAnswerThatCannotBeWrittenIsAFailure) {
  const test::ScriptedAdmin admin(socket(), {{"GET /v1/status", {200, R"({"state":"ok"})"}}});
  std::FILE* full = std::fopen("/dev/full", "w");
  ASSERT_NE(full, nullptr);
  EXPECT_EQ(run_telemetryctl({"--socket", socket(), "--json", "status"}, full, stderr), kFailed);
  std::fclose(full);
}

TEST_F(CommandsTest, ASocketPathThatIsTooLongNamesTheLimit) {
  const Outcome outcome = run_plain({"--socket", "/" + std::string(120, 'x'), "status"});
  EXPECT_EQ(outcome.code, kUsage);
  EXPECT_NE(outcome.err.find("at most 107 bytes"), std::string::npos) << outcome.err;
}

TEST_F(CommandsTest, ARefusedReloadIsAFailureAndNotWrongUsage) {
  const test::ScriptedAdmin admin(
      socket(),
      {{"POST /v1/reload",
        {400, R"({"error":{"code":"invalid","message":"no"},"problems":["x:1: bad"]})"}}});
  EXPECT_EQ(run({"config", "reload"}).code, kFailed);
}

TEST_F(CommandsTest, StatusOfADaemonThatIsOffDoesNotSayThatItAcceptsEvents) {
  const test::ScriptedAdmin admin(
      socket(),
      {{"GET /v1/status",
        {200, R"({"state":"degraded","reasons":["off"],"ingest":null,"store":null})"}}});
  EXPECT_NE(run({"status"}).out.find("It accepts no events"), std::string::npos);
}

TEST_F(CommandsTest, StatusCountsTheConnectionsThatAreOpenNow) {
  const test::ScriptedAdmin admin(
      socket(),
      {{"GET /v1/status",
        {200, R"({"state":"ok","ingest":{"connections":2,"connections_total":9},"store":{}})"}}});
  const Outcome outcome = run({"status"});
  EXPECT_NE(outcome.out.find("2 connections open now"), std::string::npos) << outcome.out;
}

TEST_F(CommandsTest, HelpAndVersionAreAnswers) {
  EXPECT_EQ(run({"--help"}).code, kOk);
  const Outcome version = run({"--version"});
  EXPECT_EQ(version.code, kOk);
  EXPECT_EQ(version.out.rfind("telemetryctl ", 0), 0u);
}

TEST_F(CommandsTest, ADaemonThatIsAwayIsThreeAndSaysWhatToTry) {
  const Outcome outcome = run({"status"});
  EXPECT_EQ(outcome.code, kUnreachable);
  EXPECT_TRUE(outcome.out.empty());
  EXPECT_NE(outcome.err.find(socket()), std::string::npos);
  EXPECT_NE(outcome.err.find("systemctl status telemetryd"), std::string::npos);
}

TEST_F(CommandsTest, JsonPassesTheAnswerOnWhereverTheFlagStands) {
  const test::ScriptedAdmin admin(socket(), {{"GET /v1/status", {200, R"({"state":"ok"})"}}});
  EXPECT_EQ(run({"--json", "status"}).out, "{\n  \"state\": \"ok\"\n}\n");
  EXPECT_EQ(run({"status", "--json"}).out, "{\n  \"state\": \"ok\"\n}\n");
}

TEST_F(CommandsTest, TheMessageOfTheDaemonReachesThePerson) {
  const test::ScriptedAdmin admin(
      socket(),
      {{"GET /v1/config",
        {403, R"({"error":{"code":"permission_denied","message":"only admins"}})"}}});
  const Outcome outcome = run({"config", "show"});
  EXPECT_EQ(outcome.code, kFailed);
  EXPECT_NE(outcome.err.find("only admins"), std::string::npos);
  EXPECT_NE(outcome.err.find("sudo"), std::string::npos);
}

TEST_F(CommandsTest, AnAnswerThatIsNoJsonIsAFailure) {
  const test::ScriptedAdmin admin(socket(), {{"GET /v1/status", {200, "<html>"}}});
  EXPECT_EQ(run({"status"}).code, kFailed);
}

TEST_F(CommandsTest, DeadLettersAreMovedInStepsUpToTheNewestOfTheFirst) {
  test::ScriptedAdmin admin(
      socket(),
      Answers{
          {"POST /v1/dead/replay", {200, R"({"events":3,"unreadable":0,"next":null,"up_to":9})"}}});
  const Outcome all = run({"dead", "replay", "--all"});
  EXPECT_EQ(all.code, kOk);
  EXPECT_EQ(all.out + all.err, "Queued 3 events again.\n");
}

TEST_F(CommandsTest, DeadReplayAndDropMustBeToldWhich) {
  EXPECT_EQ(run({"dead", "drop"}).code, kUsage);
  EXPECT_EQ(run({"dead", "replay"}).code, kUsage);
  EXPECT_EQ(run({"dead", "drop", "0"}).code, kUsage);
}

TEST_F(CommandsTest, ADeadLetterThatIsNotThereIsAFailureWithTheNextStep) {
  test::ScriptedAdmin admin(
      socket(),
      Answers{
          {"GET /v1/dead?id=4", {200, R"({"dead":[]})"}},
          {"POST /v1/dead/drop", {200, R"({"events":0,"unreadable":0,"next":null,"up_to":0})"}}});
  const Outcome shown = run({"dead", "show", "4"});
  EXPECT_EQ(shown.code, kFailed);
  EXPECT_NE(shown.err.find("telemetryctl dead list"), std::string::npos) << shown.err;
  EXPECT_EQ(run({"dead", "drop", "4"}).code, kFailed);
}

TEST_F(CommandsTest, DeadListShowsTheUpstreamsWords) {
  test::ScriptedAdmin admin(
      socket(),
      Answers{
          {"GET /v1/dead?limit=100&after=0",
           {200,
            R"({"dead":[{"id":4,"app":"tool","destination":"main","parked":"2026-01-01T00:00:00Z",)"
            R"("reason":"invalid_event: \u001b[31mname","event":null}]})"}}});
  const Outcome listed = run({"dead", "list"});
  EXPECT_EQ(listed.code, kOk);
  EXPECT_NE(listed.out.find("tool at main: invalid_event: "), std::string::npos) << listed.out;
  EXPECT_EQ(listed.out.find('\x1b'), std::string::npos) << "it cannot drive the terminal";
}

TEST_F(CommandsTest, DeadListGoesOnBehindAPageWithoutLetters) {
  test::ScriptedAdmin admin(
      socket(),
      Answers{{"GET /v1/dead?limit=100&after=0", {200, R"({"dead":[],"next":4096})"}},
              {"GET /v1/dead?limit=100&after=4096",
               {200, R"({"dead":[{"id":5000,"app":"tool","event":null}]})"}}});
  EXPECT_NE(run({"dead", "list"}).out.find("tool"), std::string::npos);
}

TEST_F(CommandsTest, LedgerCheckFailsWhenItDoesNotBalance) {
  const test::ScriptedAdmin admin(
      socket(),
      {{"GET /v1/ledger?check=1",
        {200,
         R"({"machine":{"accepted":3},"check":{"balanced":false,"problems":["app x: 1 missing"]}})"}}});
  const Outcome outcome = run({"ledger", "check"});
  EXPECT_EQ(outcome.code, kFailed);
  EXPECT_NE(outcome.err.find("app x: 1 missing"), std::string::npos);
  EXPECT_EQ(run({"--json", "ledger", "check"}).code, kFailed);
}

TEST_F(CommandsTest, LedgerCheckSucceedsWhenItBalances) {
  const test::ScriptedAdmin admin(
      socket(),
      {{"GET /v1/ledger?check=1",
        {200, R"({"machine":{"accepted":3},"check":{"balanced":true,"problems":[],"rows":2}})"}}});
  EXPECT_EQ(run({"ledger", "check"}).code, kOk);
}

TEST_F(CommandsTest, FlushFailsWhenSomethingIsLeft) {
  const test::ScriptedAdmin admin(socket(),
                                  {{"POST /v1/flush", {200, R"({"remaining_events":4})"}}});
  EXPECT_EQ(run({"queue", "flush"}).code, kFailed);
}

TEST_F(CommandsTest, EventListFollowsThePagesUpToTheLimit) {
  test::ScriptedAdmin admin(
      socket(),
      {{"GET /v1/events?limit=3&app=tool",
        {200, R"({"events":[{"name":"a"},{"name":"b"}],"next":"1.2"})"}},
       {"GET /v1/events?limit=1&app=tool&after=1.2", {200, R"({"events":[{"name":"c"}]})"}}});
  const Outcome outcome = run({"--json", "event", "list", "--app", "tool", "--limit", "3"});
  EXPECT_EQ(outcome.code, kOk) << outcome.err;
  EXPECT_EQ(outcome.out, "{\"name\":\"a\"}\n{\"name\":\"b\"}\n{\"name\":\"c\"}\n");
  EXPECT_EQ(admin.requests().size(), 2u);
}

TEST_F(CommandsTest, EventTailPrintsEachLineOfTheStream) {
  const test::ScriptedAdmin admin(
      socket(),
      {{"GET /v1/events/stream?app=tool", {200, "{\"name\":\"a\"}\n{\"name\":\"b\"}\n"}}});
  const Outcome outcome = run({"--json", "--quiet", "event", "tail", "--app", "tool"});
  EXPECT_EQ(outcome.code, kOk) << outcome.err;
  EXPECT_EQ(outcome.out, "{\"name\":\"a\"}\n{\"name\":\"b\"}\n");
}

TEST_F(CommandsTest, AStreamThatIsRefusedSaysWhy) {
  const test::ScriptedAdmin admin(
      socket(),
      {{"GET /v1/events/stream",
        {503, R"({"error":{"code":"unavailable","message":"too many"}})"}}});
  const Outcome outcome = run({"event", "tail"});
  EXPECT_EQ(outcome.code, kFailed);
  EXPECT_NE(outcome.err.find("too many"), std::string::npos);
}

TEST_F(CommandsTest, ConsentIsWrittenForTheToolAndToldToTheDaemon) {
  test::ScriptedAdmin admin(
      socket(),
      {{"POST /v1/consent",
        {200, R"({"decision":{"mode":"off","rule":"app_record"},"erased_events":2})"}}});
  const Outcome outcome = run({"consent", "disable", "--app", "tool"});
  EXPECT_EQ(outcome.code, kOk) << outcome.err;
  EXPECT_NE(outcome.out.find("2 unsent events erased"), std::string::npos);

  const auto file = dir_ / "config/tool/consent.toml";
  struct stat status{};
  ASSERT_EQ(stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0600u);
  EXPECT_NE(read_file(file, 4096)->find("state = \"disabled\""), std::string::npos);
  ASSERT_EQ(admin.requests().size(), 1u);
  EXPECT_EQ(nlohmann::json::parse(admin.requests()[0].body),
            nlohmann::json({{"app", "tool"}, {"state", "disabled"}}));
}

TEST_F(CommandsTest, ConsentForAToolWorksWithoutADaemon) {
  EXPECT_EQ(run({"consent", "enable", "--app", "tool"}).code, kOk);
  const Outcome status = run({"--json", "consent", "status", "--app", "tool"});
  EXPECT_EQ(status.code, kOk);
  const auto json = nlohmann::json::parse(status.out);
  EXPECT_EQ(json["mode"], "on");
  EXPECT_EQ(json["rule"], "consent_file");
  EXPECT_EQ(json["daemon"], false);
}

TEST_F(CommandsTest, ConsentForAllToolsIsWrittenWithoutADaemon) {
  const Outcome outcome = run({"consent", "disable"});
  EXPECT_EQ(outcome.code, kOk);
  EXPECT_TRUE(std::filesystem::exists(dir_ / "config" / "telemetryd" / "consent.toml"));
}

TEST_F(CommandsTest, ConsentForSomebodyElseNeedsTheDaemon) {
  const std::string other = std::to_string(geteuid() + 1);
  EXPECT_EQ(run({"consent", "disable", "--user", other}).code, kUnreachable);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "config"));
}

TEST_F(CommandsTest, EnablingIsRefusedWhereNobodyDecides) {
  setenv("CI", "true", 1);
  EXPECT_EQ(run({"consent", "enable", "--app", "tool"}).code, kFailed);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "config"));
  EXPECT_EQ(run({"consent", "enable", "--app", "tool", "--force"}).code, kOk);
  unsetenv("CI");
  setenv("DO_NOT_TRACK", "1", 1);
  EXPECT_EQ(run({"consent", "local", "--app", "tool"}).code, kFailed);
  EXPECT_EQ(run({"consent", "disable", "--app", "tool"}).code, kOk);
}

TEST_F(CommandsTest, AnAppNameCannotLeaveTheConfigFolder) {
  EXPECT_EQ(run({"consent", "enable", "--app", "../../x"}).code, kUsage);
}

TEST_F(CommandsTest, TheVariableWinsInConsentStatus) {
  const test::ScriptedAdmin admin(
      socket(),
      {{"GET /v1/consent?app=tool",
        {200,
         R"({"machine_policy":"opt-out","records":[{"app":"tool","state":"enabled"}],"decision":{"mode":"on","rule":"app_record"}})"}}});
  EXPECT_NE(run({"consent", "status", "--app", "tool"}).out.find("collected and sent"),
            std::string::npos);
  setenv("DO_NOT_TRACK", "1", 1);
  EXPECT_NE(run({"consent", "status", "--app", "tool"}).out.find("DO_NOT_TRACK is set"),
            std::string::npos);
}

TEST_F(CommandsTest, ConfigCheckListsEveryProblem) {
  ASSERT_TRUE(replace_file(dir_ / "telemetryd.toml",
                           "[store]\nbites_max = 1\n[forward]\nsync_interval_s = \"x\"\n",
                           0644));
  const Outcome outcome = run({"config", "check", "--config", dir_ / "telemetryd.toml"});
  EXPECT_EQ(outcome.code, kFailed);
  EXPECT_NE(outcome.err.find("telemetryd.toml:2"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("telemetryd.toml:4"), std::string::npos) << outcome.err;
}

TEST_F(CommandsTest, AKindThatDoesNotExistIsWrongUsageAndWritesNothing) {
  const Outcome outcome =
      run({"destination", "add", "home", "--kind", "graphql", "--config-dir", dir_ / "config"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.err.find("graphql not in {native,ingest,grpc,file,none}"), std::string::npos)
      << outcome.err;
  EXPECT_FALSE(std::filesystem::exists(dir_ / "config" / "conf.d"));
}

TEST_F(CommandsTest, DestinationAddIsTakenBackWhenTheDaemonRefuses) {
  const test::ScriptedAdmin admin(
      socket(),
      {{"GET /v1/status", {200, R"({"paths":{"config_dir":")" + dir_.path().native() + R"("}})"}},
       {"POST /v1/reload",
        {400, R"({"error":{"code":"invalid","message":"no"},"problems":["x:1: bad"]})"}}});
  const Outcome outcome = run({"destination",
                               "add",
                               "copy",
                               "--kind",
                               "file",
                               "--url",
                               dir_ / "out.jsonl",
                               "--route",
                               "*"});
  EXPECT_EQ(outcome.code, kFailed);
  EXPECT_NE(outcome.err.find("x:1: bad"), std::string::npos) << outcome.err;
  EXPECT_FALSE(std::filesystem::exists(dir_ / "conf.d/copy.toml"));
}

TEST_F(CommandsTest, DestinationAddWritesAndReloads) {
  test::ScriptedAdmin admin(
      socket(),
      {{"GET /v1/status", {200, R"({"paths":{"config_dir":")" + dir_.path().native() + R"("}})"}},
       {"POST /v1/reload", {200, R"({"generation":2,"restart_needed":[]})"}}});
  const Outcome outcome = run({"destination",
                               "add",
                               "copy",
                               "--kind",
                               "file",
                               "--url",
                               dir_ / "out.jsonl",
                               "--route",
                               "*"});
  EXPECT_EQ(outcome.code, kOk) << outcome.err;
  EXPECT_TRUE(std::filesystem::exists(dir_ / "conf.d/copy.toml"));
  EXPECT_NE(outcome.out.find("generation 2"), std::string::npos);
}

TEST_F(CommandsTest, DestinationTestFailsWithTheDetail) {
  const test::ScriptedAdmin admin(
      socket(), {{"POST /v1/destinations/test", {200, R"({"ok":false,"detail":"TLS: expired"})"}}});
  const Outcome outcome = run({"destination", "test", "main"});
  EXPECT_EQ(outcome.code, kFailed);
  EXPECT_NE(outcome.err.find("TLS: expired"), std::string::npos);
}

TEST_F(CommandsTest, RunGivesTheExitCodeOfTheCommandWithoutADaemon) {
  setenv("TELEMETRYD_SOCKET", (dir_ / "none.sock").c_str(), 1);
  const Outcome outcome = run({"run", "--app", "tool", "--", "sh", "-c", "exit 9"});
  EXPECT_EQ(outcome.code, 9);
  EXPECT_TRUE(outcome.err.empty()) << outcome.err;
}

TEST_F(CommandsTest, AnImportWithWrongLinesNamesThemAndSendsNothing) {
  ASSERT_TRUE(replace_file(dir_ / "in.jsonl", "{\"name\":\"a\"}\n{\"nome\":1}\n", 0644));
  const Outcome outcome = run({"event", "import", "--app", "tool", dir_ / "in.jsonl"});
  EXPECT_EQ(outcome.code, kFailed);
  EXPECT_NE(outcome.err.find("in.jsonl:2: unknown member 'nome'"), std::string::npos)
      << outcome.err;
  EXPECT_NE(outcome.err.find("nothing was sent"), std::string::npos);
}

TEST_F(CommandsTest, AnImportDoesNotOverruleTheUsersNo) {
  ASSERT_TRUE(replace_file(dir_ / "in.jsonl", "{\"name\":\"a\"}\n", 0644));
  setenv("DO_NOT_TRACK", "1", 1);
  const Outcome outcome = run({"event", "import", "--app", "tool", dir_ / "in.jsonl"});
  EXPECT_EQ(outcome.code, kFailed);
  EXPECT_NE(outcome.err.find("DO_NOT_TRACK"), std::string::npos);
}

TEST_F(CommandsTest, ConsentStatusReadsThePublishedPolicyWhenNoDaemonAnswers) {
  ASSERT_TRUE(replace_file(dir_ / "policy", "mode = opt-out\n", 0644));
  const Outcome outcome = run({"consent", "status", "--app", "tool"});
  EXPECT_EQ(outcome.code, kOk);
  EXPECT_NE(outcome.out.find("this machine collects unless"), std::string::npos) << outcome.out;
}

TEST_F(CommandsTest, AnImportSaysThatThePolicyIsOffInsteadOfAskingForTheDaemon) {
  ASSERT_TRUE(replace_file(dir_ / "in.jsonl", "{\"name\":\"a\"}\n", 0644));
  ASSERT_TRUE(replace_file(dir_ / "policy", "mode = off\n", 0644));
  const Outcome outcome = run({"event", "import", "--app", "tool", dir_ / "in.jsonl"});
  EXPECT_EQ(outcome.code, kFailed);
  EXPECT_NE(outcome.err.find("the machine's policy"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("[policy] mode"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("Is telemetryd running?"), std::string::npos) << outcome.err;
}

TEST(QueryEscape, OnlyPlainCharactersStayAsTheyAre) {
  EXPECT_EQ(query_escape("a-Z_0.~"), "a-Z_0.~");
  EXPECT_EQ(query_escape("a b&c=d%\xc3\xa9"), "a%20b%26c%3Dd%25%C3%A9");
}

}  // namespace
}  // namespace telemetryd::ctl
