// support/daemon_process.h: the real telemetryd in a folder of its own, watched from outside.
//
// Readiness and the watchdog are heard on a notify socket as the service manager would, so no test
// sleeps or polls for a socket file. Before it ends, by terminate() or with the object, its ledger
// must balance: no test has to ask for that.
//
// Thread:  the test's.

#pragma once

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "base/unique_fd.h"
#include "support/daemon_home.h"
#include "support/unix_http.h"

namespace telemetryd::test {

inline std::string file_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// For what is started from now on: the sanitizers' look for leaks traces its own process, which is
// forbidden to one that strace holds. Without sanitizers it means nothing.
class NoLeakCheck {
 public:
  NoLeakCheck() {
    const char* const options = ::getenv("ASAN_OPTIONS");
    before_ = options == nullptr ? "" : options;
    ::setenv("ASAN_OPTIONS", (before_ + ":detect_leaks=0").c_str(), 1);
  }

  ~NoLeakCheck() { ::setenv("ASAN_OPTIONS", before_.c_str(), 1); }

  NoLeakCheck(const NoLeakCheck&) = delete;
  NoLeakCheck& operator=(const NoLeakCheck&) = delete;

 private:
  std::string before_;
};

// What a program that ends by itself said.
struct Ended {
  int exit_code = -1;  // 128 + signal when one ended it
  std::string out;     // standard output and standard error
};

class DaemonProcess {
 public:
  using InChild = std::function<void()>;

  // Starts and waits until it says READY=1; throws with its log when it ends instead. `in_child`
  // runs before exec.
  explicit DaemonProcess(const DaemonHome& home, const InChild& in_child = [] {}) : home_(home) {
    listen_for_notes();
    pid_ = start(home.arguments(), [&] {
      const int log = ::open(home.log_file().c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
      ::dup2(log, 1);
      ::dup2(log, 2);
      ::setenv("NOTIFY_SOCKET", notify_path().c_str(), 1);
      in_child();
    });
    wait_for_note("READY=1");
  }

  ~DaemonProcess() {
    if (pid_ > 0) {
      expect_balanced();
      ::kill(pid_, SIGKILL);
      (void)wait();
    }
    ::unlink(notify_path().c_str());
  }

  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;

  pid_t pid() const { return pid_; }

  UnixHttp admin() const { return UnixHttp(home_.admin_socket()); }

  std::string log() const { return file_text(home_.log_file()); }

  void signal(int signum) const { ::kill(pid_, signum); }

  // Asks it to stop; the exit code.
  int terminate() {
    expect_balanced();
    signal(SIGTERM);
    return wait();
  }

  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return exit_code(status);
  }

  // The next note to the service manager that has `line`; throws when the daemon ends or says
  // nothing for long.
  std::string wait_for_note(const std::string& line) {
    for (;;) {
      char bytes[4096];
      const ssize_t got = ::recv(notify_.get(), bytes, sizeof bytes, 0);
      if (got <= 0) {
        if (pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) == 0 && --patience_ > 0) continue;
        throw std::runtime_error("telemetryd did not say " + line + ":\n" + log());
      }
      const std::string note = "\n" + std::string(bytes, static_cast<std::size_t>(got));
      if (note.find("\n" + line) != std::string::npos) return note.substr(1);
    }
  }

  // Runs the program to its end.
  static Ended run(const std::vector<std::string>& arguments) {
    return run_program(TELEMETRYD_PROGRAM, arguments);
  }

  static Ended run_program(const std::string& program, const std::vector<std::string>& arguments) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::runtime_error("pipe");
    const auto in_child = [&] {
      ::dup2(ends[1], 1);
      ::dup2(ends[1], 2);
      ::close(ends[0]);
      ::close(ends[1]);
    };
    const pid_t pid = start(arguments, in_child, program);
    ::close(ends[1]);
    Ended ended;
    char bytes[4096];
    for (ssize_t got = 0; (got = ::read(ends[0], bytes, sizeof bytes)) > 0;) {
      ended.out.append(bytes, static_cast<std::size_t>(got));
    }
    ::close(ends[0]);
    int status = 0;
    ::waitpid(pid, &status, 0);
    ended.exit_code = exit_code(status);
    return ended;
  }

 private:
  static int exit_code(int status) {
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  // A daemon that a test has stopped or ended cannot be asked.
  bool answers() const {
    const std::string stat = file_text("/proc/" + std::to_string(pid_) + "/stat");
    const std::size_t state = stat.rfind(") ");
    return state != std::string::npos &&
           std::string_view("TtZX").find(stat[state + 2]) == std::string_view::npos;
  }

  void expect_balanced() const {
    if (pid_ <= 0 || !answers()) return;
    try {
      const HttpAnswer answer = admin().get("/v1/ledger?check=1");
      // Without a store, as while the policy is off, there is no ledger either.
      if (answer.status == 503 || answer.status == 409) return;
      EXPECT_EQ(answer.status, 200) << answer.body;
      EXPECT_NE(answer.body.find("\"check\":{\"balanced\":true"), std::string::npos) << answer.body;
    } catch (const std::exception& problem) {
      ADD_FAILURE() << "the ledger cannot be asked for: " << problem.what();
    }
  }

  static pid_t start(std::vector<std::string> arguments,
                     const InChild& in_child,
                     const std::string& program = TELEMETRYD_PROGRAM) {
    arguments.insert(arguments.begin(), program);
    std::vector<char*> words;
    for (std::string& word : arguments) words.push_back(word.data());
    words.push_back(nullptr);
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      in_child();
      ::execv(words[0], words.data());
      ::_exit(127);
    }
    return pid;
  }

  std::string notify_path() const { return (home_.path() / "notify").native(); }

  void listen_for_notes() {
    notify_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    // To notice that the daemon ended, not to wait for something that should have come.
    const timeval turn{.tv_sec = 0, .tv_usec = 200'000};
    ::setsockopt(notify_.get(), SOL_SOCKET, SO_RCVTIMEO, &turn, sizeof turn);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, notify_path().c_str(), sizeof address.sun_path - 1);
    ::unlink(address.sun_path);
    if (::bind(notify_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      throw std::runtime_error("bind " + notify_path());
    }
  }

  const DaemonHome& home_;
  UniqueFd notify_;
  pid_t pid_ = -1;
  int patience_ = 100;
};

}  // namespace telemetryd::test
