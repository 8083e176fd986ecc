#include <algorithm>
#include <cerrno>
#include <deque>
#include <sys/socket.h>

#include "loop/handle.h"
#include "loop/loop.h"
#include "loop/loop_impl.h"

namespace telemetryd::loop {

struct Stream::Impl {
  Impl(Loop& on_loop, UniqueFd socket, Hooks functions)
      : loop(on_loop.impl()),
        fd(std::move(socket)),
        hooks(std::make_shared<const Hooks>(std::move(functions))),
        box(make_box<uv_poll_t>(
            this, [&](uv_poll_t* poll) { return uv_poll_init(&loop.uv, poll, fd.get()); })) {
    watch();
  }

  // Asks libuv for exactly what is wanted now; a paused stream with nothing to write costs no
  // wake-up.
  void watch() {
    const int events = (reading && !ended ? UV_READABLE : 0) | (unsent != 0 ? UV_WRITABLE : 0);
    if (events == 0) {
      uv_poll_stop(&box->uv);
    } else {
      TELEMETRYD_CHECK(uv_poll_start(&box->uv, events, on_poll) == 0);
    }
  }

  static void on_poll(uv_poll_t* handle, int status, int events) noexcept {
    if (auto* owner = box_of<Impl>(handle)->owner) owner->ready(status, events);
  }

  // Both hooks may destroy the stream, so after each call only the box is asked.
  void ready(int status, int events) {
    auto* own_box = box.get();
    if (status < 0) {
      drain();
      return;
    }
    if ((events & UV_WRITABLE) != 0) {
      send_queued();
      watch();
    }
    if ((events & UV_READABLE) != 0 && own_box->owner != nullptr) receive();
  }

  // A peer that closed without reading our answers leaves an error on the socket and libuv stops
  // watching it. What the peer sent before is still there and counts.
  void drain() {
    auto* own_box = box.get();
    unsent = 0;
    queue.clear();
    while (own_box->owner != nullptr && reading && !ended) {
      if (!receive()) break;
    }
    if (own_box->owner != nullptr) watch();
  }

  // Returns false when there is nothing to read now, or nobody left to tell.
  bool receive() {
    auto* own_box = box.get();
    const auto call = hooks;
    std::span<std::uint8_t> buffer = loop.read_buffer();
    if (call->allowance) buffer = buffer.first(std::min(buffer.size(), call->allowance()));
    if (buffer.empty()) return false;
    const ssize_t got = ::recv(fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got > 0) {
      call->on_data(buffer.first(static_cast<std::size_t>(got)));
      return own_box->owner != nullptr;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    ended = true;
    watch();
    call->on_end();
    return false;
  }

  void send_queued() {
    while (!queue.empty()) {
      const std::string& front = queue.front();
      const ssize_t sent = ::send(
          fd.get(), front.data() + offset, front.size() - offset, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0) {
        if (errno == EAGAIN) return;
        // Nobody will read this; the reading side reports the end.
        queue.clear();
        unsent = 0;
        broken = true;
        return;
      }
      offset += static_cast<std::size_t>(sent);
      unsent -= static_cast<std::size_t>(sent);
      if (offset == front.size()) {
        queue.pop_front();
        offset = 0;
      }
    }
  }

  std::size_t write(std::string bytes) {
    if (broken || bytes.empty()) return unsent;
    const bool idle = queue.empty();
    unsent += bytes.size();
    if (idle) offset = 0;
    queue.push_back(std::move(bytes));
    if (idle) {
      send_queued();
      watch();
    }
    return unsent;
  }

  Loop::Impl& loop;
  UniqueFd fd;
  std::shared_ptr<const Hooks> hooks;
  std::deque<std::string> queue;
  std::size_t offset = 0;  // sent already of the queue's front
  std::size_t unsent = 0;
  bool reading = true;
  bool ended = false;
  bool broken = false;
  BoxPtr<uv_poll_t, Impl> box;  // last: stops watching before the descriptor closes
};

Stream::Stream(Loop& loop, UniqueFd fd, Hooks hooks)
    : impl_(std::make_unique<Impl>(loop, std::move(fd), std::move(hooks))) {}

Stream::~Stream() = default;

int Stream::fd() const {
  return impl_->fd.get();
}

void Stream::pause() {
  if (!impl_->reading) return;
  impl_->reading = false;
  impl_->watch();
}

void Stream::resume() {
  if (impl_->reading) return;
  impl_->reading = true;
  impl_->watch();
}

std::size_t Stream::write(std::string bytes) {
  return impl_->write(std::move(bytes));
}

}  // namespace telemetryd::loop
