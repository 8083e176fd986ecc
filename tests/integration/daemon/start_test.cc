#include <sys/stat.h>

#include "session.h"

namespace telemetryd::test {
namespace {

mode_t mode_of(const std::filesystem::path& path) {
  struct stat info{};
  EXPECT_EQ(::lstat(path.c_str(), &info), 0) << path;
  return info.st_mode & 07777;
}

TEST(Start, ABadConfigurationListsEveryProblem) {
  const DaemonHome home("[store]\nbytes_mx = 1\n[policy]\nmode = \"maybe\"\n");
  for (const char* flag : {"--check-config", "--print-config", ""}) {
    auto arguments = home.arguments();
    if (*flag != '\0') arguments.emplace_back(flag);
    const Ended ended = DaemonProcess::run(arguments);
    EXPECT_EQ(ended.exit_code, 78) << flag;
    EXPECT_NE(ended.out.find(":2: store.bytes_mx: unknown key; did you mean store.bytes_max?"),
              std::string::npos)
        << ended.out;
    EXPECT_NE(ended.out.find(":4: policy.mode: must be one of opt-in, opt-out, off"),
              std::string::npos)
        << ended.out;
  }
  EXPECT_FALSE(std::filesystem::exists(home.state_dir()));
}

TEST(Start, FlagsThatOnlyLookTouchNothing) {
  const DaemonHome home;
  auto arguments = home.arguments();
  arguments.emplace_back("--check-config");
  EXPECT_EQ(DaemonProcess::run(arguments).exit_code, 0);
  arguments.back() = "--print-config";
  const Ended printed = DaemonProcess::run(arguments);
  EXPECT_EQ(printed.exit_code, 0);
  EXPECT_NE(printed.out.find("mode = \"opt-in\"  # default"), std::string::npos) << printed.out;
  EXPECT_EQ(DaemonProcess::run({"--version"}).out.substr(0, 11), "telemetryd ");
  EXPECT_EQ(DaemonProcess::run({"--help"}).exit_code, 0);
  EXPECT_EQ(DaemonProcess::run({"--nonsense"}).exit_code, 64);
  EXPECT_FALSE(std::filesystem::exists(home.state_dir()));
  EXPECT_FALSE(std::filesystem::exists(home.runtime_dir()));
}

TEST(Start, MakesItsFoldersAndFilesWithTheirModes) {
  const DaemonHome home(kOptOut);
  const DaemonProcess daemon(home);
  EXPECT_EQ(mode_of(home.state_dir()), 0700u);
  EXPECT_EQ(mode_of(home.runtime_dir()), 0755u);
  EXPECT_EQ(mode_of(home.admin_socket()), 0666u);
  EXPECT_EQ(mode_of(home.ingest_socket()), 0666u);
  EXPECT_EQ(mode_of(home.runtime_dir() / "policy"), 0644u);
  EXPECT_EQ(file_text(home.runtime_dir() / "policy"), "mode = opt-out\n");
  EXPECT_EQ(mode_of(home.state_dir() / "events.db") & 077u, 0u);
}

TEST(Start, ASecondInstanceIsRefusedNamingTheFirst) {
  const DaemonHome home;
  DaemonProcess first(home);
  const Ended second = DaemonProcess::run(home.arguments());
  EXPECT_EQ(second.exit_code, 74) << second.out;
  EXPECT_NE(second.out.find(std::to_string(first.pid())), std::string::npos) << second.out;
  EXPECT_EQ(get(first, "/v1/status")["state"], "ok");
  EXPECT_EQ(first.terminate(), 0);
}

TEST(Start, OffMeansAdminSocketOnlyAndNoDatabase) {
  const DaemonHome home("[policy]\nmode = \"off\"\n");
  DaemonProcess daemon(home);
  const Json status = get(daemon, "/v1/status");
  EXPECT_EQ(status["store"], nullptr);
  EXPECT_EQ(status["reasons"].size(), 1u);
  EXPECT_FALSE(std::filesystem::exists(home.state_dir()));
  EXPECT_FALSE(std::filesystem::exists(home.ingest_socket()));
  EXPECT_EQ(file_text(home.runtime_dir() / "policy"), "mode = off\n");
  EXPECT_EQ(daemon.admin().get("/v1/events").status, 409);
  EXPECT_EQ(daemon.admin().get("/v1/events/stream").status, 409);
  EXPECT_EQ(post(daemon, "/v1/flush", Json::object()).status, 409);
  EXPECT_EQ(post(daemon, "/v1/consent", {{"state", "enabled"}}).status, 409);
  EXPECT_EQ(get(daemon, "/v1/consent")["decision"]["rule"], "machine_policy");
  EXPECT_EQ(daemon.terminate(), 0);
}

TEST(Start, AStateFolderThatCannotBeUsedIsExit74) {
  const DaemonHome home;
  std::ofstream(home.state_dir()) << "a file";
  const Ended ended = DaemonProcess::run(home.arguments());
  EXPECT_EQ(ended.exit_code, 74) << ended.out;
}

TEST(Stop, EndsWithZeroAndLeavesNoSocket) {
  const DaemonHome home;
  DaemonProcess daemon(home);
  EXPECT_EQ(daemon.terminate(), 0);
  EXPECT_FALSE(std::filesystem::exists(home.admin_socket()));
  EXPECT_FALSE(std::filesystem::exists(home.ingest_socket()));
  DaemonProcess again(home);
  again.signal(SIGINT);
  EXPECT_EQ(again.wait(), 0);
}

TEST(Stop, AKilledDaemonsSocketsAreTakenOver) {
  const DaemonHome home;
  DaemonProcess daemon(home);
  daemon.signal(SIGKILL);
  daemon.wait();
  DaemonProcess again(home);
  EXPECT_EQ(get(again, "/v1/status")["state"], "ok");
}

}  // namespace
}  // namespace telemetryd::test
