#include <map>
#include <sys/ptrace.h>

#include "session.h"

namespace telemetryd::test {
namespace {

TEST(Status, HasTheMembersOfTheContract) {
  const DaemonHome home;
  const DaemonProcess daemon(home);
  const Json status = get(daemon, "/v1/status");
  for (const char* member : {"version",
                             "state",
                             "reasons",
                             "uptime_s",
                             "generation",
                             "policy",
                             "ledger",
                             "gateway",
                             "apps",
                             "destinations",
                             "store",
                             "ingest",
                             "budget",
                             "paths"}) {
    EXPECT_TRUE(status.contains(member)) << member;
  }
  EXPECT_EQ(status["state"], "ok");
  EXPECT_EQ(status["reasons"], Json::array());
  EXPECT_EQ(status["ledger"]["balanced"], true);
  EXPECT_EQ(status["ledger"]["expired"]["total"], 0);
  EXPECT_EQ(status["store"]["bytes_max"], 536870912);
  EXPECT_GT(status["budget"]["memory_bytes"].get<std::int64_t>(), 0);
  EXPECT_EQ(status["paths"]["config_files"], Json::array({home.config_file().native()}));
  EXPECT_EQ(status["paths"]["config_dir"], home.config_file().parent_path().native());
  EXPECT_EQ(status["paths"]["ingest_socket"], home.ingest_socket());
  EXPECT_EQ(daemon.admin().get("/healthz").body, "ok\n");
  EXPECT_EQ(daemon.admin().get("/readyz").body, "ready\n");
}

TEST(Status, NamesAGatewayUserThatDoesNotExist) {
  const DaemonHome home("[gateway]\nstart_by = \"service_manager\"\nuser = \"no-such-user\"\n");
  const DaemonProcess daemon(home);
  const Json status = get(daemon, "/v1/status");
  EXPECT_EQ(status["state"], "degraded");
  ASSERT_EQ(status["reasons"].size(), 1u);
  EXPECT_EQ(status["reasons"][0], status["gateway"]["problem"]);
  EXPECT_EQ(status["reasons"][0],
            "events over gRPC are not taken: there is no user no-such-user; create it or correct "
            "[gateway] user, and restart telemetryd");
}

// Listening sockets as the service manager would pass them.
int listening_socket(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  EXPECT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(::listen(fd, 16), 0);
  return fd;
}

TEST(Service, TakesTheSocketsOfTheServiceManager) {
  const DaemonHome home(kOptOut);
  std::filesystem::create_directory(home.runtime_dir());
  const int admin = listening_socket(home.admin_socket());
  const int ingest = listening_socket(home.ingest_socket());
  DaemonProcess daemon(home, [&] {
    // Away from the places they go to, then there.
    const int admin_high = ::fcntl(admin, F_DUPFD, 20);
    const int ingest_high = ::fcntl(ingest, F_DUPFD, 20);
    ::dup2(admin_high, 3);
    ::dup2(ingest_high, 4);
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
    ::setenv("LISTEN_FDS", "2", 1);
    ::setenv("LISTEN_FDNAMES", "admin:ingest", 1);
  });
  ::close(admin);
  ::close(ingest);
  App app(home, "tool");
  EXPECT_EQ(app.track("e"), TELEMETRY_OK);
  EXPECT_EQ(app.flush(), TELEMETRY_OK);
  EXPECT_EQ(get(daemon, "/v1/status")["ledger"]["accepted"], 1);
  EXPECT_EQ(daemon.terminate(), 0);
  // They are the service manager's.
  EXPECT_TRUE(std::filesystem::exists(home.admin_socket()));
}

TEST(Service, TheWatchdogIsArmedForWorkAndDisarmedWhenIdle) {
  const DaemonHome home(kOptOut);
  DaemonProcess daemon(home, [] { ::setenv("WATCHDOG_USEC", "400000", 1); });
  App app(home, "tool");
  EXPECT_EQ(app.track("e"), TELEMETRY_OK);
  ASSERT_EQ(app.flush(), TELEMETRY_OK);
  daemon.wait_for_note("WATCHDOG_USEC=400000");
  daemon.wait_for_note("WATCHDOG=1");
  daemon.wait_for_note("WATCHDOG_USEC=0");
}

// A thread of the daemon that stands still for as long as this lives, like one whose disk hangs.
class Standstill {
 public:
  Standstill(pid_t daemon, const std::string& thread) {
    const auto tasks = "/proc/" + std::to_string(daemon) + "/task";
    for (const auto& task : std::filesystem::directory_iterator(tasks)) {
      if (file_text(task.path() / "comm") == thread + "\n")
        tid_ = std::stoi(task.path().filename());
    }
    if (tid_ != 0 && ::ptrace(PTRACE_SEIZE, tid_, nullptr, nullptr) == 0) {
      ::ptrace(PTRACE_INTERRUPT, tid_, nullptr, nullptr);
      stands_ = ::waitpid(tid_, nullptr, __WALL) == tid_;
    }
  }

  ~Standstill() {
    if (stands_) ::ptrace(PTRACE_DETACH, tid_, nullptr, nullptr);
  }

  Standstill(const Standstill&) = delete;
  Standstill& operator=(const Standstill&) = delete;

  bool found() const { return tid_ != 0; }

  bool stands() const { return stands_; }

 private:
  pid_t tid_ = 0;
  bool stands_ = false;
};

TEST(Service, TheWatchdogIsArmedBeforeAFirstCommitThatHangs) {
  const DaemonHome home(kOptOut);
  DaemonProcess daemon(home, [] { ::setenv("WATCHDOG_USEC", "400000", 1); });
  App app(home, "tool");
  EXPECT_EQ(app.track("first"), TELEMETRY_OK);
  ASSERT_EQ(app.flush(), TELEMETRY_OK);
  daemon.wait_for_note("WATCHDOG_USEC=400000");
  daemon.wait_for_note("WATCHDOG_USEC=0");
  {
    const Standstill store(daemon.pid(), "tlm-store");
    ASSERT_TRUE(store.found());
    if (!store.stands()) GTEST_SKIP() << "this machine does not let a thread be stopped";
    EXPECT_EQ(app.track("second"), TELEMETRY_OK);
    daemon.wait_for_note("WATCHDOG_USEC=400000");
  }
  EXPECT_EQ(app.flush(), TELEMETRY_OK);
}

TEST(Service, SaysThatItStops) {
  const DaemonHome home;
  DaemonProcess daemon(home);
  daemon.signal(SIGTERM);
  daemon.wait_for_note("STOPPING=1");
  EXPECT_EQ(daemon.wait(), 0);
}

std::map<std::string, std::string> switches(pid_t pid) {
  std::map<std::string, std::string> counts;
  const auto tasks = "/proc/" + std::to_string(pid) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(tasks)) {
    std::ifstream status(task.path() / "status");
    for (std::string line; std::getline(status, line);) {
      if (line.find("ctxt_switches") != std::string::npos) counts[task.path()] += line;
    }
  }
  return counts;
}

TEST(Service, AnIdleDaemonDoesNotWake) {
  const DaemonHome home(kOptOut);
  DaemonProcess daemon(home, [] { ::setenv("WATCHDOG_USEC", "400000", 1); });
  App app(home, "tool");
  EXPECT_EQ(app.track("e"), TELEMETRY_OK);
  ASSERT_EQ(app.flush(), TELEMETRY_OK);
  UnixHttp stream = daemon.admin();
  stream.send("GET /v1/events/stream HTTP/1.1\r\nHost: l\r\n\r\n");
  EXPECT_EQ(stream.head().status, 200);
  // Idle is the absence of something, which takes time to see: within a few rounds one passes
  // without a single switch of any thread.
  for (int round = 0; round < 20; ++round) {
    const auto before = switches(daemon.pid());
    ::usleep(1'000'000);
    if (switches(daemon.pid()) == before) return;
  }
  FAIL() << "some thread of an idle daemon keeps waking";
}

}  // namespace
}  // namespace telemetryd::test
