#include "gateway/watchdog.h"

#include <csignal>
#include <cstdlib>
#include <sys/time.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "rig.h"

namespace telemetryd::gateway {
namespace {

using namespace std::chrono_literals;

bool alarm_is_set() {
  itimerval alarm{};
  ::getitimer(ITIMER_REAL, &alarm);
  return alarm.it_value.tv_sec != 0 || alarm.it_value.tv_usec != 0;
}

[[noreturn]] void hang() {
  for (;;) ::pause();
}

TEST(WatchdogDeathTest, ALoopThatHangsEndsTheProcess) {
  const auto hang_at = [](bool in_start) {
    std::signal(SIGALRM, SIG_IGN);  // what whoever started us left
    loop::Loop loop;
    const Watchdog watchdog(loop, [] { return true; }, 50ms);
    if (in_start) hang();
    loop::Timer work(loop, [] { hang(); });
    work.start_once(100ms);
    loop.run();
  };
  EXPECT_EXIT(hang_at(true), testing::KilledBySignal(SIGALRM), "");
  EXPECT_EXIT(hang_at(false), testing::KilledBySignal(SIGALRM), "");
}

TEST(WatchdogDeathTest, ALoopThatTurnsLivesOn) {
  const auto turn = [] {
    loop::Loop loop;
    const Watchdog watchdog(loop, [] { return true; }, 300ms);
    loop::Timer end(loop, [&loop] { loop.stop(); });
    end.start_once(900ms);
    loop.run();
    std::_Exit(0);
  };
  EXPECT_EXIT(turn(), testing::ExitedWithCode(0), "");
}

TEST(Watchdog, WatchesTheStartAndThenOnlyWhileThereIsSomething) {
  loop::Loop loop;
  bool needed = true;
  int asked = 0;
  {
    Watchdog watchdog(
        loop,
        [&] {
          ++asked;
          return needed;
        },
        60s);
    EXPECT_TRUE(alarm_is_set());
  }
  EXPECT_FALSE(alarm_is_set());
  {
    // The alarm itself is far away; the beat is a third of it.
    Watchdog watchdog(
        loop,
        [&] {
          ++asked;
          return needed;
        },
        3s);
    needed = false;
    ASSERT_TRUE(turn_until(loop, [&] { return asked == 1; }));
    EXPECT_FALSE(alarm_is_set());
    needed = true;
    watchdog.watch();
    EXPECT_TRUE(alarm_is_set());
    watchdog.watch();
    ASSERT_TRUE(turn_until(loop, [&] { return asked == 2; }));
    EXPECT_TRUE(alarm_is_set());
  }
  EXPECT_FALSE(alarm_is_set());
}

}  // namespace
}  // namespace telemetryd::gateway
