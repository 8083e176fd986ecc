#include "loop/loop.h"

#include <thread>

#include "loop/loop_impl.h"

namespace telemetryd::loop {

Loop::Impl::Impl() : thread(std::this_thread::get_id()) {
  TELEMETRYD_CHECK(uv_loop_init(&uv) == 0);
  wake = make_box<uv_async_t>(this, [this](uv_async_t* async) {
    return uv_async_init(&uv, async, [](uv_async_t* handle) noexcept {
      if (auto* owner = box_of<Impl>(handle)->owner) owner->drain();
    });
  });
}

void Loop::Impl::drain() {
  std::vector<std::function<void()>> work;
  bool last = false;
  {
    const MutexLock lock(mutex);
    work.swap(posts);
    last = stopped;
  }
  for (const auto& each : work) each();
  if (last) uv_stop(&uv);
}

std::span<std::uint8_t> Loop::Impl::read_buffer() {
  if (!read_bytes) read_bytes = std::make_unique_for_overwrite<std::uint8_t[]>(kReadBytes);
  return {read_bytes.get(), kReadBytes};
}

Loop::Loop() : impl_(std::make_unique<Impl>()) {}

Loop::~Loop() {
  impl_->wake.reset();
  uv_walk(
      &impl_->uv,
      [](uv_handle_t* handle, void*) { TELEMETRYD_CHECK(uv_is_closing(handle) != 0); },
      nullptr);
  uv_run(&impl_->uv, UV_RUN_DEFAULT);
  TELEMETRYD_CHECK(uv_loop_close(&impl_->uv) == 0);
}

void Loop::run() {
  impl_->thread = std::this_thread::get_id();
  uv_run(&impl_->uv, UV_RUN_DEFAULT);
}

void Loop::stop() {
  {
    const MutexLock lock(impl_->mutex);
    impl_->stopped = true;
  }
  uv_async_send(&impl_->wake->uv);
}

void Loop::poll() {
  impl_->thread = std::this_thread::get_id();
  uv_run(&impl_->uv, UV_RUN_NOWAIT);
}

Result<void> Loop::post(std::function<void()> work) {
  bool first = false;
  {
    const MutexLock lock(impl_->mutex);
    if (impl_->stopped) return fail(ErrorCode::kCancelled, "the loop has stopped");
    if (impl_->posts.size() >= kPostsMax) {
      return fail(ErrorCode::kResourceExhausted, "too many functions wait for the loop");
    }
    first = impl_->posts.empty();
    impl_->posts.push_back(std::move(work));
  }
  if (first) uv_async_send(&impl_->wake->uv);
  return {};
}

void Loop::post_when_room(const std::function<void()>& work) {
  for (;;) {
    const auto posted = post(work);
    if (posted || posted.error().code() != ErrorCode::kResourceExhausted) return;
    // The loop is behind by tens of thousands of functions; this is not the moment to be exact.
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

bool Loop::on_loop_thread() const {
  return impl_->thread == std::this_thread::get_id();
}

}  // namespace telemetryd::loop
