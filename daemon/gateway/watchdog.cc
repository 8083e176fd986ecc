#include "gateway/watchdog.h"

#include <csignal>
#include <sys/time.h>
#include <utility>

namespace telemetryd::gateway {
namespace {

constexpr int kBeats = 3;

// 0: none.
void set_alarm(std::chrono::milliseconds after) {
  itimerval alarm{};
  alarm.it_value.tv_sec = after.count() / 1000;
  alarm.it_value.tv_usec = after.count() % 1000 * 1000;
  ::setitimer(ITIMER_REAL, &alarm, nullptr);
}

// Whoever started us may have left it ignored or blocked.
void let_alarm_kill() {
  std::signal(SIGALRM, SIG_DFL);
  sigset_t alarm;
  sigemptyset(&alarm);
  sigaddset(&alarm, SIGALRM);
  ::pthread_sigmask(SIG_UNBLOCK, &alarm, nullptr);
}

}  // namespace

Watchdog::Watchdog(loop::Loop& loop,
                   std::function<bool()> needed,
                   std::chrono::milliseconds hang_max)
    : needed_(std::move(needed)), hang_max_(hang_max), timer_(loop, [this] { beat(); }) {
  let_alarm_kill();
  watch();
}

Watchdog::~Watchdog() {
  set_alarm({});
}

void Watchdog::watch() {
  if (timer_.active()) return;
  set_alarm(hang_max_);
  timer_.start_once(hang_max_ / kBeats);
}

void Watchdog::beat() {
  set_alarm({});
  if (needed_()) watch();
}

}  // namespace telemetryd::gateway
