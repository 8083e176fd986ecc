#include <cstdlib>

#include <gtest/gtest.h>

#include "config/config.h"
#include "files.h"

namespace telemetryd::config {
namespace {

TEST(Load, AnEmptyFileGivesTheDefaultsOfTheContract) {
  Files files;
  const Loaded loaded = files.load("");
  ASSERT_TRUE(loaded.config) << files.problems_of(loaded);
  const Config& config = *loaded.config;
  EXPECT_EQ(config.ingest.socket, "/runtime/ingest.sock");
  EXPECT_EQ(config.ingest.event_bytes_max, 65536u);
  EXPECT_EQ(config.ingest.frame_bytes_max, 1u << 20);
  EXPECT_EQ(config.ingest.connections_max, 1024u);
  EXPECT_EQ(config.ingest.connections_per_uid_max, 256u);
  EXPECT_EQ(config.ingest.events_per_second_per_uid_max, 100000u);
  EXPECT_EQ(config.store.bytes_max, 512ull << 20);
  EXPECT_FALSE(config.store.refuse_when_full);
  EXPECT_EQ(config.store.commit_delay_max, std::chrono::milliseconds(200));
  EXPECT_EQ(config.store.trickle_delay_max, std::chrono::seconds(30));
  EXPECT_EQ(config.forward.sync_interval, std::chrono::seconds(300));
  EXPECT_TRUE(config.forward.sync_on_shutdown);
  EXPECT_EQ(config.forward.batch_events_max, 1000u);
  EXPECT_EQ(config.forward.batch_bytes_max, 1u << 20);
  EXPECT_EQ(config.forward.retry_delay_min, std::chrono::milliseconds(1000));
  EXPECT_EQ(config.forward.retry_delay_max, std::chrono::seconds(300));
  EXPECT_EQ(config.forward.request_timeout, std::chrono::seconds(30));
  EXPECT_EQ(config.forward.metered, Sending::kUrgent);
  EXPECT_EQ(config.forward.roaming, Sending::kNever);
  EXPECT_EQ(config.forward.battery_min_percent, 20u);
  EXPECT_TRUE(config.gateway.enabled);
  EXPECT_EQ(config.gateway.grpc_socket, "/runtime/grpc.sock");
  EXPECT_EQ(config.gateway.grpc_listen, "");
  EXPECT_EQ(config.gateway.idle_exit, std::chrono::seconds(60));
  EXPECT_FALSE(config.gateway.by_service_manager);
  EXPECT_EQ(config.gateway.user, "telemetryd-gateway");
  EXPECT_EQ(config.gateway.program.filename(), "telemetryd-gateway");
  EXPECT_EQ(config.admin.group, "telemetry-admin");
  EXPECT_EQ(config.policy.mode, consent::MachinePolicy::kOptIn);
}

TEST(Load, ReadsEveryKindOfValue) {
  Files files;
  const Loaded loaded = files.load(R"([daemon]
log_level = "debug"
[store]
bytes_max = 67108864
when_full = "refuse"
commit_delay_max_ms = 0
[forward]
sync_on_shutdown = false
socket = "/run/x/forward.sock"
[policy]
mode = "opt-out"
[identity]
machine_id_file = "/tmp/uid"
)");
  ASSERT_TRUE(loaded.config) << files.problems_of(loaded);
  EXPECT_EQ(loaded.config->daemon.log_level, log::Level::kDebug);
  EXPECT_EQ(loaded.config->store.bytes_max, 64u << 20);
  EXPECT_TRUE(loaded.config->store.refuse_when_full);
  EXPECT_EQ(loaded.config->store.commit_delay_max.count(), 0);
  EXPECT_FALSE(loaded.config->forward.sync_on_shutdown);
  EXPECT_EQ(loaded.config->forward.socket, "/run/x/forward.sock");
  EXPECT_EQ(loaded.config->policy.mode, consent::MachinePolicy::kOptOut);
  EXPECT_EQ(loaded.config->identity.machine_id_file, "/tmp/uid");
}

TEST(Load, NamesAllProblemsAtOnceWithFileLineKeyAndNearestKey) {
  Files files;
  EXPECT_EQ(files.problems(R"([ingest]
event_byte_max = 1
frame_bytes_max = "big"
[stroe]
x = 1
[store]
bytes_max = 1
when_full = "explode"
[forward]
sync_on_shutdown = 1
socket = "relative.sock"
)"),
            "telemetryd.toml:2: ingest.event_byte_max: unknown key; did you mean "
            "ingest.event_bytes_max?\n"
            "telemetryd.toml:3: ingest.frame_bytes_max: must be an integer, not a string\n"
            "telemetryd.toml:4: stroe: unknown section; did you mean store?\n"
            "telemetryd.toml:7: store.bytes_max: 1 is out of bounds: 8388608 to 1125899906842624\n"
            "telemetryd.toml:8: store.when_full: must be one of evict_oldest, refuse, not "
            "'explode'\n"
            "telemetryd.toml:10: forward.sync_on_shutdown: must be true or false, not an integer\n"
            "telemetryd.toml:11: forward.socket: must be an absolute path\n");
}

TEST(Load, AKeyInTheWrongSectionIsPointedToTheRightOne) {
  Files files;
  EXPECT_EQ(files.problems("[ingest]\ncommit_delay_max_ms = 5\n"),
            "telemetryd.toml:2: ingest.commit_delay_max_ms: unknown key; did you mean "
            "store.commit_delay_max_ms?\n");
}

TEST(Load, AnUnknownKeyThatResemblesNothingGetsNoSuggestion) {
  Files files;
  EXPECT_EQ(files.problems("[ingest]\nzzzzzzzzzz = 5\n"),
            "telemetryd.toml:2: ingest.zzzzzzzzzz: unknown key\n");
}

TEST(Load, ASecretInTheTextIsRefusedWithoutBeingShown) {
  Files files;
  const std::string problems = files.problems(R"([[destination]]
name = "up"
kind = "native"
token = "tk_verysecret"
)");
  EXPECT_NE(problems.find("did you mean destination.token_file?"), std::string::npos) << problems;
  EXPECT_EQ(problems.find("verysecret"), std::string::npos) << problems;
}

TEST(Load, SyntaxErrorsNameTheLine) {
  Files files;
  const std::string problems = files.problems("[store]\nbytes_max = = 5\n");
  EXPECT_EQ(problems.find("telemetryd.toml:2: not TOML: "), 0u) << problems;
}

TEST(Load, KeysOutsideSectionsAndWrongBracketsAreExplained) {
  Files files;
  EXPECT_EQ(files.problems("store = 5\nfoo = 1\n[destination]\nname = \"a\"\n[[policy]]\n"),
            "telemetryd.toml:1: store: is a section; write [store]\n"
            "telemetryd.toml:2: foo: unknown key\n"
            "telemetryd.toml:3: destination: write [[destination]], not [destination]\n"
            "telemetryd.toml:5: policy: stands once; write [policy]\n");
}

TEST(Load, DropInsWinPerKeyInTheOrderOfTheirNames) {
  Files files;
  files.write("telemetryd.toml", "[forward]\nsync_interval_s = 10\nbatch_events_max = 5\n");
  files.write("conf.d/20-b.toml", "[forward]\nsync_interval_s = 30\n");
  files.write("conf.d/10-a.toml", "[forward]\nsync_interval_s = 20\nrequest_timeout_s = 7\n");
  files.write("conf.d/ignored.txt", "nonsense");

  const Loaded loaded = files.load();

  ASSERT_TRUE(loaded.config) << files.problems_of(loaded);
  EXPECT_EQ(loaded.config->forward.sync_interval.count(), 30);
  EXPECT_EQ(loaded.config->forward.batch_events_max, 5u);
  EXPECT_EQ(loaded.config->forward.request_timeout.count(), 7);
  EXPECT_EQ(loaded.files.size(), 3u);
}

TEST(Load, RelationsAreReportedWhereSomebodyWroteThem) {
  Files files;
  files.write("conf.d/10.toml", "[ingest]\nevent_bytes_max = 1048576\n");
  EXPECT_EQ(files.problems(R"([store]
bytes_max = 8388608
[ingest]
frame_bytes_max = 4194304
[forward]
retry_delay_min_ms = 60000
retry_delay_max_s = 30
)"),
            "telemetryd.toml:4: ingest.frame_bytes_max: frame_bytes_max (4194304) must be at most "
            "a quarter of store.bytes_max (8388608)\n"
            "telemetryd.toml:6: forward.retry_delay_min_ms: retry_delay_min_ms (60000) must be at "
            "most retry_delay_max_s (30 s)\n");
  EXPECT_EQ(files.problems(""),
            "conf.d/10.toml:2: ingest.event_bytes_max: frame_bytes_max (1048576) must be at least "
            "event_bytes_max (1048576) + 64\n");
}

TEST(Load, AnEventMayLeaveBeforeItExpires) {
  Files files;
  EXPECT_EQ(files.problems("[store]\nevent_age_max_days = 7\n[policy]\nmin_age_s = 604800\n"),
            "telemetryd.toml:4: policy.min_age_s: min_age_s (604800) must be less than "
            "store.event_age_max_days (7 d), or every event expires before it may leave\n");
  EXPECT_EQ(files.problems("[store]\nevent_age_max_days = 0\n[policy]\nmin_age_s = 604800\n"), "");
}

TEST(Load, SocketsMustDifferAndFitTheAddress) {
  Files files;
  const std::string long_path = "/" + std::string(120, 'x');
  EXPECT_EQ(files.problems("[ingest]\nsocket = \"/a.sock\"\n[admin]\nsocket = \"/a.sock\"\n"),
            "telemetryd.toml:4: admin.socket: ingest and admin cannot share one socket\n");
  EXPECT_EQ(files.problems("[ingest]\nsocket = \"" + long_path + "\"\n"),
            "telemetryd.toml:2: ingest.socket: '" + long_path +
                "' is too long for a socket: at most 107 bytes\n");
}

TEST(Load, AFlagStandsAboveTheFile) {
  Files files;
  const Loaded loaded = files.load("[daemon]\nstate_dir = \"/from/file\"\n");
  ASSERT_TRUE(loaded.config);
  EXPECT_EQ(loaded.config->daemon.state_dir, "/state");
  EXPECT_EQ(loaded.config->origins.at("daemon.state_dir"), "--state-dir");
}

TEST(Load, TheEnvironmentStandsBetweenFlagAndFile) {
  Files files;
  files.write("telemetryd.toml", "[daemon]\nstate_dir = \"/from/file\"\n");
  setenv("TELEMETRYD_STATE_DIR", "/from/environment", 1);
  const Loaded without_flag = load({.file = files.main(), .file_required = true});
  const Loaded with_flag = files.load();
  unsetenv("TELEMETRYD_STATE_DIR");
  ASSERT_TRUE(without_flag.config);
  EXPECT_EQ(without_flag.config->daemon.state_dir, "/from/environment");
  ASSERT_TRUE(with_flag.config);
  EXPECT_EQ(with_flag.config->daemon.state_dir, "/state");
}

TEST(Load, AMissingFileIsAProblemOnlyWhenSomebodyNamedIt) {
  Files files;
  const Loaded named = load({.file = files.main(), .file_required = true});
  const Loaded unnamed = load({.file = files.main(), .file_required = false});
  EXPECT_FALSE(named.config);
  EXPECT_EQ(named.problems.size(), 1u);
  EXPECT_TRUE(unnamed.config);
}

TEST(Load, AHugeFileIsRefused) {
  Files files;
  const Loaded loaded = files.load(std::string((1u << 20) + 1, '#'));
  EXPECT_FALSE(loaded.config);
}

TEST(Load, AProblemIsOneLineWhateverTheFileHolds) {
  Files files;
  const std::string problems = files.problems("[store]\nwhen_full = \"\\u001b[2J\\n\"\n");
  EXPECT_NE(problems.find("not '\\u001B[2J\\u000A'"), std::string::npos) << problems;
  EXPECT_EQ(problems.find('\x1b'), std::string::npos);
}

TEST(Load, ALongKeyIsNotCutWithinACharacter) {
  Files files;
  std::string key;
  for (int i = 0; i < 100; ++i) key += "\u00fc";
  // "store." has six bytes, so that the bound of 128 falls between two characters; with one more
  // byte, into one.
  for (const std::string& name : {key, "x" + key}) {
    const std::string problems = files.problems("[store]\n\"" + name + "\" = 1\n");
    const std::size_t end = problems.rfind("\u00fc");
    ASSERT_NE(end, std::string::npos) << problems;
    EXPECT_EQ(problems.substr(end + 2), ": unknown key\n");
  }
}

TEST(RestartNeeded, NamesChangedKeysButNotThoseAReloadTakes) {
  Files files;
  const Config before = *files.load("").config;
  const Config after =
      *files.load("[ingest]\nconnections_max = 7\n[policy]\nmode = \"off\"\n").config;
  EXPECT_EQ(restart_needed(before, after), std::vector<std::string>{"ingest.connections_max"});
}

}  // namespace
}  // namespace telemetryd::config
