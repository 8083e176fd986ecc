#include "ctl/child_process.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace telemetryd::ctl {
namespace {

constexpr std::array kPassedOn = {
    SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH, SIGCONT};

// Blocks the signals of interest while it lives, so that none is lost between wait and delivery.
class SignalBlock {
 public:
  SignalBlock() {
    sigemptyset(&watched_);
    sigaddset(&watched_, SIGCHLD);
    for (const int number : kPassedOn) sigaddset(&watched_, number);
    sigprocmask(SIG_BLOCK, &watched_, &before_);
  }

  ~SignalBlock() { sigprocmask(SIG_SETMASK, &before_, nullptr); }

  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;

  const sigset_t& watched() const { return watched_; }

  const sigset_t& before() const { return before_; }

 private:
  sigset_t watched_{};
  sigset_t before_{};
};

int spawn(const std::vector<std::string>& command, const sigset_t& mask, pid_t& pid) {
  std::vector<char*> arguments;
  for (const auto& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  posix_spawnattr_setsigmask(&attributes, &mask);
  const int error =
      posix_spawnp(&pid, arguments[0], nullptr, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  return error;
}

// A signal of the terminal has reached the whole process group already.
bool sent_by_a_process(const siginfo_t& info) {
  return info.si_code <= 0;
}

int wait_for(pid_t pid, const sigset_t& watched) {
  while (true) {
    siginfo_t info{};
    const int number = sigwaitinfo(&watched, &info);
    if (number < 0) continue;
    if (number != SIGCHLD) {
      if (sent_by_a_process(info)) kill(pid, number);
      continue;
    }
    int status = 0;
    if (waitpid(pid, &status, WNOHANG) != pid) continue;
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    if (WIFSIGNALED(status)) return 128 + WTERMSIG(status);
  }
}

}  // namespace

ChildEnd run_child(const std::vector<std::string>& command) {
  ChildEnd end;
  const SignalBlock block;
  const auto started = std::chrono::steady_clock::now();
  pid_t pid = 0;
  const int error = spawn(command, block.before(), pid);
  if (error != 0) {
    end.exit_code = error == ENOENT ? 127 : 126;
    end.start_error = strerrordesc_np(error);
    return end;
  }
  end.exit_code = wait_for(pid, block.watched());
  end.duration = std::chrono::steady_clock::now() - started;
  return end;
}

}  // namespace telemetryd::ctl
