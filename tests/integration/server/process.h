// integration/server/process.h: runs programs, and keeps one telemetry-server.

#pragma once

#include <array>
#include <csignal>
#include <fcntl.h>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "base/unique_fd.h"

namespace telemetryd::test {

// A child whose standard output can be read; ended with SIGKILL when it goes out of scope.
class Process {
 public:
  explicit Process(const std::vector<std::string>& command, bool with_stderr = false) {
    std::array<int, 2> pipe{};
    if (::pipe2(pipe.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe failed");
    out_ = UniqueFd(pipe[0]);
    const UniqueFd writer(pipe[1]);
    std::vector<char*> arguments;
    for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("fork failed");
    if (pid_ > 0) return;
    ::dup2(writer.get(), STDOUT_FILENO);
    if (with_stderr) ::dup2(writer.get(), STDERR_FILENO);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }

  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  ~Process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      wait();
    }
  }

  // Without its newline; empty at the end of the output.
  std::string read_line() {
    std::string line;
    char c = 0;
    while (::read(out_.get(), &c, 1) == 1 && c != '\n') line += c;
    return line;
  }

  std::string read_all() {
    std::string all;
    std::array<char, 4096> chunk{};
    ssize_t got = 0;
    while ((got = ::read(out_.get(), chunk.data(), chunk.size())) > 0) {
      all.append(chunk.data(), static_cast<std::size_t>(got));
    }
    return all;
  }

  void signal(int number) const { ::kill(pid_, number); }

  // The exit status; 128 + signal for one that was killed.
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
  UniqueFd out_;
};

struct Ran {
  int status = 0;
  std::string out;  // and standard error
};

inline Ran run(const std::vector<std::string>& command) {
  Process process(command, true);
  Ran ran;
  ran.out = process.read_all();
  ran.status = process.wait();
  return ran;
}

}  // namespace telemetryd::test
