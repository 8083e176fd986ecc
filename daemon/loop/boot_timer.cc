// BootTimer: a timerfd of the boot clock, watched by the loop.
//
// libuv's own timers stand still while the machine sleeps: an hour's wait that is interrupted by a
// night would end an hour after the morning began.

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <unistd.h>

#include "base/check.h"
#include "loop/loop.h"

#ifdef __linux__
#include <sys/timerfd.h>
#endif

namespace telemetryd::loop {

#ifdef __linux__

struct BootTimer::Impl {
  Impl(Loop& loop, std::function<void()> function)
      : on_fire(std::make_shared<const std::function<void()>>(std::move(function))),
        timer(::timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC)),
        poll(loop, checked(timer), [this] { fire(); }) {
    poll.start(Poll::Until::kReadable);
  }

  static int checked(const UniqueFd& fd) {
    TELEMETRYD_CHECK(fd);
    return fd.get();
  }

  void fire() {
    std::uint64_t times = 0;
    // Nothing to read: it was set anew or stopped after the loop had seen it.
    if (::read(timer.get(), &times, sizeof times) != sizeof times) return;
    const auto call = on_fire;
    (*call)();
  }

  void set(std::chrono::nanoseconds delay) const {
    itimerspec when{};
    when.it_value.tv_sec = delay.count() / 1'000'000'000;
    when.it_value.tv_nsec = delay.count() % 1'000'000'000;
    TELEMETRYD_CHECK(::timerfd_settime(timer.get(), 0, &when, nullptr) == 0);
  }

  std::shared_ptr<const std::function<void()>> on_fire;
  UniqueFd timer;
  Poll poll;
};

void BootTimer::start_once(std::chrono::milliseconds delay) {
  // Zero would stop it.
  impl_->set(std::max<std::chrono::nanoseconds>(delay, std::chrono::nanoseconds(1)));
}

void BootTimer::stop() {
  impl_->set(std::chrono::nanoseconds(0));
}

#else

struct BootTimer::Impl {
  Impl(Loop& loop, std::function<void()> function) : timer(loop, std::move(function)) {}

  Timer timer;
};

void BootTimer::start_once(std::chrono::milliseconds delay) {
  impl_->timer.start_once(delay);
}

void BootTimer::stop() {
  impl_->timer.stop();
}

#endif

BootTimer::BootTimer(Loop& loop, std::function<void()> on_fire)
    : impl_(std::make_unique<Impl>(loop, std::move(on_fire))) {}

BootTimer::~BootTimer() = default;

}  // namespace telemetryd::loop
