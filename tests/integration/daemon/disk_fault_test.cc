// The release binary on a disk whose system calls fail: strace injects the errors.

#include <array>
#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

#include "session.h"

namespace telemetryd::test {
namespace {

// The daemon's system calls fail as `inject` says for as long as this lives.
class Injection {
 public:
  Injection(const DaemonProcess& daemon, const std::string& calls, const std::string& error) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return;
    const std::string pid = std::to_string(daemon.pid());
    const std::string trace = "trace=" + calls;
    const std::string inject = "inject=" + calls + ":error=" + error;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], 2);
      ::execlp("strace",
               "strace",
               "-f",
               "-p",
               pid.c_str(),
               "-o",
               "/dev/null",
               "-e",
               trace.c_str(),
               "-e",
               inject.c_str(),
               nullptr);
      ::_exit(127);
    }
    ::close(ends[1]);
    // It says so once every thread is attached.
    std::array<char, 256> bytes{};
    for (ssize_t got = 0; (got = ::read(ends[0], bytes.data(), bytes.size())) > 0;) {
      said_.append(bytes.data(), static_cast<std::size_t>(got));
      attached_ = said_.find(" attached") != std::string::npos;
      if (attached_) break;
    }
    // Open as long as it may speak.
    end_ = UniqueFd(ends[0]);
  }

  ~Injection() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
  }

  Injection(const Injection&) = delete;
  Injection& operator=(const Injection&) = delete;

  bool attached() const { return attached_; }

  const std::string& said() const { return said_; }

 private:
  pid_t pid_ = -1;
  bool attached_ = false;
  std::string said_;
  UniqueFd end_;
};

#define NEEDS(injection) \
  if (!(injection).attached()) GTEST_SKIP() << "strace cannot attach here: " << (injection).said()

TEST(DiskFault, AFailedSyncIsNotAcknowledgedEndsTheDaemonAndTheNextOneHasEverything) {
  const NoLeakCheck no_leak_check;
  const DaemonHome home(kOptOut);
  App app(home, "tool");
  {
    DaemonProcess daemon(home);
    ASSERT_EQ(app.track("before"), TELEMETRY_OK);
    ASSERT_EQ(app.flush(), TELEMETRY_OK);
    const Injection injection(daemon, "fdatasync,fsync", "EIO");
    NEEDS(injection);
    ASSERT_EQ(app.track("during"), TELEMETRY_OK);
    EXPECT_EQ(daemon.wait(), 74) << daemon.log();
    EXPECT_NE(daemon.log().find("commit_outcome_unknown"), std::string::npos);
  }
  DaemonProcess daemon(home);
  ASSERT_EQ(app.flush(), TELEMETRY_OK);
  const Json status = get(daemon, "/v1/status");
  EXPECT_EQ(status["ledger"]["accepted"], 2) << "lost, or stored twice";
  EXPECT_EQ(status["state"], "degraded") << "the app has no destination";
  EXPECT_EQ(get(daemon, "/v1/ledger?check=1")["check"]["balanced"], true);
}

TEST(DiskFault, AReadOnlyDiskIsSaidAndTheDaemonGoesOnWhenItCanBeWrittenAgain) {
  const NoLeakCheck no_leak_check;
  const DaemonHome home(kOptOut);
  DaemonProcess daemon(home);
  App app(home, "tool");
  ASSERT_EQ(app.track("before"), TELEMETRY_OK);
  ASSERT_EQ(app.flush(), TELEMETRY_OK);
  {
    const Injection injection(daemon, "pwrite64", "EROFS");
    NEEDS(injection);
    ASSERT_EQ(app.track("during"), TELEMETRY_OK);
    EXPECT_NE(telemetry_flush(app.client(), 300), TELEMETRY_OK);
    const Json status = get(daemon, "/v1/status");
    ASSERT_FALSE(status["reasons"].empty());
    EXPECT_EQ(status["reasons"][0].get<std::string>().rfind("disk_failing: ", 0), 0u)
        << status["reasons"];
    EXPECT_EQ(daemon.admin().get("/readyz").status, 503);
  }
  ASSERT_EQ(telemetry_flush(app.client(), 20'000), TELEMETRY_OK);
  EXPECT_EQ(get(daemon, "/v1/status")["ledger"]["accepted"], 2);
  EXPECT_EQ(daemon.admin().get("/readyz").status, 200);
  EXPECT_EQ(daemon.terminate(), 0);
}

}  // namespace
}  // namespace telemetryd::test
