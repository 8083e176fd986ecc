#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "loop/loop.h"
#include "until.h"

namespace telemetryd::loop {
namespace {

using std::chrono::milliseconds;

// What the kernel says of this process's timers: clock and time left, as procfs writes them.
std::string timers_of_this_process() {
  std::string all;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fdinfo")) {
    std::ifstream info(entry.path());
    const std::string text{std::istreambuf_iterator<char>(info), {}};
    if (text.find("clockid:") != std::string::npos) all += text;
  }
  return all;
}

TEST(BootTimer, FiresOnceAndThenRests) {
  Loop loop;
  int fired = 0;
  BootTimer timer(loop, [&] { ++fired; });
  timer.start_once(milliseconds(0));
  serve_until(loop, [&] { return fired > 0; });
  for (int i = 0; i < 10; ++i) loop.poll();
  EXPECT_EQ(fired, 1);
  timer.start_once(milliseconds(1));
  serve_until(loop, [&] { return fired > 1; });
}

TEST(BootTimer, IsSilentOnceStopped) {
  Loop loop;
  BootTimer stopped(loop, [] { ADD_FAILURE() << "fired after the stop"; });
  stopped.start_once(milliseconds(0));
  stopped.stop();
  bool later = false;
  BootTimer other(loop, [&] { later = true; });
  other.start_once(milliseconds(5));
  serve_until(loop, [&] { return later; });
}

TEST(BootTimer, MayDestroyItselfInItsCallback) {
  Loop loop;
  std::unique_ptr<BootTimer> timer;
  timer = std::make_unique<BootTimer>(loop, [&] { timer.reset(); });
  timer->start_once(milliseconds(0));
  serve_until(loop, [&] { return timer == nullptr; });
}

#ifdef __linux__
TEST(BootTimer, CountsWhileTheMachineSleeps) {
  Loop loop;
  BootTimer timer(loop, [] {});
  timer.start_once(std::chrono::hours(1));
  // No test can put the machine to sleep; that the kernel counts on CLOCK_BOOTTIME is the proof.
  const std::string timers = timers_of_this_process();
  EXPECT_NE(timers.find("clockid: 7\n"), std::string::npos) << timers;
}
#endif

}  // namespace
}  // namespace telemetryd::loop
