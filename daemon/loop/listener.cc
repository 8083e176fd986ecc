#include <cerrno>
#include <fcntl.h>
#include <sys/socket.h>

#include "loop/handle.h"
#include "loop/loop.h"
#include "loop/loop_impl.h"

namespace telemetryd::loop {
namespace {

constexpr std::chrono::milliseconds kPause{100};
constexpr int kAcceptsPerTurn = 64;  // then the connections that exist get their turn

UniqueFd spare_descriptor() {
  return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

bool out_of_descriptors(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

}  // namespace

struct Listener::Impl {
  Impl(Loop& loop, UniqueFd listening, std::function<void(UniqueFd)> function)
      : fd(std::move(listening)),
        on_connection(std::make_shared<const std::function<void(UniqueFd)>>(std::move(function))),
        pause(loop, [this] { resume(); }),
        box(make_box<uv_poll_t>(
            this, [&](uv_poll_t* poll) { return uv_poll_init(&loop.impl().uv, poll, fd.get()); })) {
    resume();
  }

  void resume() {
    if (!spare) spare = spare_descriptor();
    TELEMETRYD_CHECK(uv_poll_start(&box->uv, UV_READABLE, on_poll) == 0);
  }

  static void on_poll(uv_poll_t* handle, int, int) noexcept {
    if (auto* owner = box_of<Impl>(handle)->owner) owner->accept_some();
  }

  UniqueFd accept_one() {
    return UniqueFd(::accept4(fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  }

  // The function may destroy the listener, so only the box is asked afterwards.
  void accept_some() {
    auto* own_box = box.get();
    const auto call = on_connection;
    for (int i = 0; i < kAcceptsPerTurn && own_box->owner != nullptr; ++i) {
      UniqueFd connection = accept_one();
      if (connection) {
        (*call)(std::move(connection));
      } else if (out_of_descriptors(errno)) {
        shed();
        return;
      } else if (errno != EINTR && errno != ECONNABORTED) {
        return;
      }
    }
  }

  // The spare descriptor lets us take those who wait and hang up, which tells them more than
  // silence would. Then accepting rests, because the next wake-up would find no descriptor either.
  void shed() {
    for (int i = 0; i < kAcceptsPerTurn && spare; ++i) {
      spare.reset();
      const bool hung_up = static_cast<bool>(accept_one());
      spare = spare_descriptor();
      if (!hung_up) break;
    }
    uv_poll_stop(&box->uv);
    pause.start_once(kPause);
  }

  UniqueFd fd;
  UniqueFd spare;
  std::shared_ptr<const std::function<void(UniqueFd)>> on_connection;
  Timer pause;
  BoxPtr<uv_poll_t, Impl> box;
};

Listener::Listener(Loop& loop, UniqueFd fd, std::function<void(UniqueFd)> on_connection)
    : impl_(std::make_unique<Impl>(loop, std::move(fd), std::move(on_connection))) {}

Listener::~Listener() = default;

}  // namespace telemetryd::loop
