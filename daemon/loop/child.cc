#include <cerrno>
#include <csignal>
#include <sys/wait.h>

#include "loop/handle.h"
#include "loop/loop.h"
#include "loop/loop_impl.h"

namespace telemetryd::loop {

struct Child::Impl {
  void finish(Exit exit) {
    running = false;
    const auto call = on_exit;
    (*call)(exit);
  }

  static void on_uv_exit(uv_process_t* handle, std::int64_t status, int signal) noexcept {
    if (auto* owner = box_of<Impl>(handle)->owner) owner->finish({status, signal});
  }

  std::shared_ptr<const std::function<void(Exit)>> on_exit;
  bool running = false;
  BoxPtr<uv_process_t, Impl> box;
};

Child::Child() : impl_(std::make_unique<Impl>()) {}

Child::~Child() {
  if (!impl_->running) return;
  const int killed = pid();
  kill(SIGKILL);
  impl_->box.reset();
  // libuv no longer waits for it; without this it would stay a zombie as long as we live.
  while (::waitpid(killed, nullptr, 0) < 0 && errno == EINTR) {
  }
}

Result<std::unique_ptr<Child>> Child::spawn(Loop& loop,
                                            const std::vector<std::string>& arguments,
                                            UniqueFd child_fd,
                                            std::function<void(Exit)> on_exit) {
  if (arguments.empty()) return fail(ErrorCode::kInvalidArgument, "no program to start");
  std::vector<std::string> copies = arguments;
  std::vector<char*> argv;
  for (std::string& copy : copies) argv.push_back(copy.data());
  argv.push_back(nullptr);

  uv_stdio_container_t stdio[4] = {};
  stdio[0].flags = UV_IGNORE;
  stdio[1].flags = UV_IGNORE;
  stdio[2].flags = UV_INHERIT_FD;
  stdio[2].data.fd = 2;
  stdio[3].flags = child_fd ? UV_INHERIT_FD : UV_IGNORE;
  if (child_fd) stdio[3].data.fd = child_fd.get();

  uv_process_options_t options{};
  options.exit_cb = Impl::on_uv_exit;
  options.file = argv.front();
  options.args = argv.data();
  options.stdio = stdio;
  options.stdio_count = 4;

  std::unique_ptr<Child> child(new Child());
  child->impl_->on_exit = std::make_shared<const std::function<void(Exit)>>(std::move(on_exit));
  int started = 0;
  child->impl_->box = make_box<uv_process_t>(child->impl_.get(), [&](uv_process_t* process) {
    // A program that cannot start leaves a handle that must be closed like any other.
    started = uv_spawn(&loop.impl().uv, process, &options);
    return 0;
  });
  if (started != 0) {
    return fail(ErrorCode::kUnavailable, arguments.front() + ": " + uv_strerror(started));
  }
  child->impl_->running = true;
  return child;
}

int Child::pid() const {
  return uv_process_get_pid(&impl_->box->uv);
}

void Child::kill(int signum) {
  // After the exit the number may be somebody else's.
  if (impl_->running) uv_process_kill(&impl_->box->uv, signum);
}

}  // namespace telemetryd::loop
