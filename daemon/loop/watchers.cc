// Timer, Signal and Poll: one handle and one function each.
//
// The function is held by a shared pointer and copied before the call, so that it may destroy the
// object it belongs to.

#include "loop/handle.h"
#include "loop/loop.h"
#include "loop/loop_impl.h"

namespace telemetryd::loop {
namespace {

using Callback = std::shared_ptr<const std::function<void()>>;

Callback share(std::function<void()> function) {
  return std::make_shared<const std::function<void()>>(std::move(function));
}

}  // namespace

struct Timer::Impl {
  Impl(Loop& loop, std::function<void()> function)
      : on_fire(share(std::move(function))), box(make_box<uv_timer_t>(this, [&](uv_timer_t* timer) {
          return uv_timer_init(&loop.impl().uv, timer);
        })) {}

  void fire() {
    const Callback call = on_fire;
    (*call)();
  }

  static void on_timer(uv_timer_t* handle) noexcept {
    if (auto* owner = box_of<Impl>(handle)->owner) owner->fire();
  }

  Callback on_fire;
  BoxPtr<uv_timer_t, Impl> box;
};

Timer::Timer(Loop& loop, std::function<void()> on_fire)
    : impl_(std::make_unique<Impl>(loop, std::move(on_fire))) {}

Timer::~Timer() = default;

void Timer::start_once(std::chrono::milliseconds delay) {
  uv_timer_t* timer = &impl_->box->uv;
  // The loop's idea of now is as old as this iteration; without a look at the clock a deadline set
  // after long work would come early.
  uv_update_time(timer->loop);
  const auto ms = static_cast<std::uint64_t>(std::max<std::int64_t>(delay.count(), 0));
  TELEMETRYD_CHECK(uv_timer_start(timer, Impl::on_timer, ms, 0) == 0);
}

void Timer::stop() {
  uv_timer_stop(&impl_->box->uv);
}

bool Timer::active() const {
  return uv_is_active(reinterpret_cast<const uv_handle_t*>(&impl_->box->uv)) != 0;
}

struct Signal::Impl {
  Impl(Loop& loop, std::function<void()> function)
      : on_signal(share(std::move(function))),
        box(make_box<uv_signal_t>(
            this, [&](uv_signal_t* signal) { return uv_signal_init(&loop.impl().uv, signal); })) {}

  void fire() {
    const Callback call = on_signal;
    (*call)();
  }

  static void on_uv_signal(uv_signal_t* handle, int) noexcept {
    if (auto* owner = box_of<Impl>(handle)->owner) owner->fire();
  }

  Callback on_signal;
  BoxPtr<uv_signal_t, Impl> box;
};

Signal::Signal(Loop& loop, int signum, std::function<void()> on_signal)
    : impl_(std::make_unique<Impl>(loop, std::move(on_signal))) {
  TELEMETRYD_CHECK(uv_signal_start(&impl_->box->uv, Impl::on_uv_signal, signum) == 0);
}

Signal::~Signal() = default;

struct Poll::Impl {
  Impl(Loop& loop, int fd, std::function<void()> function)
      : on_ready(share(std::move(function))), box(make_box<uv_poll_t>(this, [&](uv_poll_t* poll) {
          return uv_poll_init(&loop.impl().uv, poll, fd);
        })) {}

  void fire() {
    const Callback call = on_ready;
    (*call)();
  }

  // An error is readiness too: the owner's next read or write says what it is.
  static void on_poll(uv_poll_t* handle, int, int) noexcept {
    if (auto* owner = box_of<Impl>(handle)->owner) owner->fire();
  }

  Callback on_ready;
  BoxPtr<uv_poll_t, Impl> box;
};

Poll::Poll(Loop& loop, int fd, std::function<void()> on_ready)
    : impl_(std::make_unique<Impl>(loop, fd, std::move(on_ready))) {}

Poll::~Poll() = default;

void Poll::start(Until until) {
  const int events = until == Until::kReadable ? UV_READABLE : UV_WRITABLE;
  TELEMETRYD_CHECK(uv_poll_start(&impl_->box->uv, events, Impl::on_poll) == 0);
}

void Poll::stop() {
  uv_poll_stop(&impl_->box->uv);
}

}  // namespace telemetryd::loop
