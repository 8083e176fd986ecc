#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <optional>
#include <sstream>
#include <sys/socket.h>

#include <gtest/gtest.h>

#include "loop/loop.h"
#include "until.h"

namespace telemetryd::loop {
namespace {

struct Pair {
  Pair() {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    here = UniqueFd(fds[0]);
    there = UniqueFd(fds[1]);
  }

  UniqueFd here;
  UniqueFd there;
};

// Waits for a line that never comes.
const std::vector<std::string> kWaiting = {"/bin/sh", "-c", "read line <&3"};

std::string read_all(const UniqueFd& fd) {
  std::string text;
  char bytes[256];
  for (;;) {
    const ssize_t got = ::read(fd.get(), bytes, sizeof bytes);
    if (got <= 0) return text;
    text.append(bytes, static_cast<std::size_t>(got));
  }
}

TEST(Child, GetsItsDescriptorAsNumberThreeAndNoneOfTheLoops) {
  Loop loop;
  Pair pair;
  std::optional<Child::Exit> exit;
  const auto child = Child::spawn(loop,
                                  {"/bin/sh", "-c", "ls /proc/self/fd >&3; exit 7"},
                                  std::move(pair.there),
                                  [&](Child::Exit how) { exit = how; });
  ASSERT_TRUE(child) << child.error().message();
  EXPECT_GT((*child)->pid(), 0);
  serve_until(loop, [&] { return exit.has_value(); });
  EXPECT_EQ(exit->status, 7);
  EXPECT_EQ(exit->signal, 0);
  std::istringstream numbers(read_all(pair.here));
  int listed = 0;
  for (int fd = 0; numbers >> fd; ++listed) {
    // ls opens the folder as the next free number; what whoever started the test left open is not
    // ours to close.
    const bool inherited = fd > 4 && (::fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0;
    EXPECT_TRUE(fd <= 4 || inherited) << "descriptor " << fd;
  }
  EXPECT_GE(listed, 4);
}

TEST(Child, TellsTheSignalThatEndedIt) {
  Loop loop;
  Pair pair;
  std::optional<Child::Exit> exit;
  const auto child =
      Child::spawn(loop, kWaiting, std::move(pair.there), [&](Child::Exit how) { exit = how; });
  ASSERT_TRUE(child);
  (*child)->kill(SIGTERM);
  serve_until(loop, [&] { return exit.has_value(); });
  EXPECT_EQ(exit->signal, SIGTERM);
  (*child)->kill(SIGTERM);  // too late and harmless
}

TEST(Child, SaysWhyAProgramDidNotStart) {
  Loop loop;
  const auto missing = Child::spawn(
      loop, {"/nonexistent/program"}, UniqueFd(), [](Child::Exit) { FAIL() << "it never ran"; });
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message().find("/nonexistent/program"), std::string::npos);
  EXPECT_FALSE(Child::spawn(loop, {}, UniqueFd(), [](Child::Exit) {}));
}

TEST(Child, MayBeDestroyedInItsCallback) {
  Loop loop;
  std::unique_ptr<Child> child;
  bool gone = false;
  auto started = Child::spawn(loop, {"/bin/true"}, UniqueFd(), [&](Child::Exit) {
    child.reset();
    gone = true;
  });
  ASSERT_TRUE(started);
  child = std::move(*started);
  serve_until(loop, [&] { return gone; });
}

TEST(Child, IsKilledAndReapedWhenDestroyed) {
  Loop loop;
  Pair pair;
  auto child = Child::spawn(loop, kWaiting, std::move(pair.there), [](Child::Exit) {
    FAIL() << "a destroyed child reports nothing";
  });
  ASSERT_TRUE(child);
  const int pid = (*child)->pid();
  child->reset();
  EXPECT_EQ(::kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
  loop.poll();
}

}  // namespace
}  // namespace telemetryd::loop
