// loop/loop.h: libuv behind one door; nobody else includes <uv.h>.
//
// Owns:    the uv_loop_t and its wake-up handle.
// Thread:  the loop thread, but for post() and Loop::stop(), which any thread may call. A callback
//          may destroy the object that calls it.
// Limits:  Loop::kPostsMax functions waiting in post().

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace telemetryd::loop {

class Loop {
 public:
  static constexpr std::size_t kPostsMax = 65536;

  Loop();
  // Runs until every close callback was delivered; a handle still owned by somebody then is a bug
  // and aborts.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs until stop(), and then what was posted before it. Idle means no wake-ups: nothing here
  // uses a periodic timer.
  void run();
  void stop();
  // Serves what is ready now without waiting; for tests.
  void poll();

  // Any thread. Runs `work` on the loop thread. kResourceExhausted when the queue is full,
  // kCancelled after stop.
  Result<void> post(std::function<void()> work);

  // For an answer that somebody waits for, from a thread that the loop does not wait for while it
  // runs: waits until there is room. After stop it does nothing.
  void post_when_room(const std::function<void()>& work);

  bool on_loop_thread() const;

  struct Impl;

  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// Fires once per start. Destroying or stopping it makes it silent.
class Timer {
 public:
  Timer(Loop& loop, std::function<void()> on_fire);
  ~Timer();
  void start_once(std::chrono::milliseconds delay);
  void stop();
  bool active() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// As Timer, for waits that a sleep of the machine must not prolong: it counts while the machine is
// suspended, and what ended meanwhile fires at the resume. Where the system has no such clock it is
// a Timer.
class BootTimer {
 public:
  BootTimer(Loop& loop, std::function<void()> on_fire);
  ~BootTimer();
  void start_once(std::chrono::milliseconds delay);
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Calls `on_signal` on the loop thread.
class Signal {
 public:
  Signal(Loop& loop, int signum, std::function<void()> on_signal);
  ~Signal();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Tells when a descriptor can be written (or read). Does not own it.
class Poll {
 public:
  enum class Until { kReadable, kWritable };
  Poll(Loop& loop, int fd, std::function<void()> on_ready);
  ~Poll();
  void start(Until until);
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A listening Unix socket made elsewhere (listen_unix, or passed in by the service manager).
class Listener {
 public:
  Listener(Loop& loop, UniqueFd fd, std::function<void(UniqueFd)> on_connection);
  ~Listener();
  // Out of descriptors: accepting pauses by itself for a moment instead of spinning.

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A connected stream socket that is only read; writing is the owner's business (AckChannel) or
// write().
class Stream {
 public:
  struct Hooks {
    // The bytes are valid during the call, also when it destroys the stream.
    std::function<void(std::span<const std::uint8_t>)> on_data;
    // End of file or error, once, after everything the peer sent; the stream reads no more.
    std::function<void()> on_end;
    // Asked before each reading how many bytes it may be, at most; whoever says 0 has paused the
    // stream. Without it a reading takes what fits into the loop's buffer.
    std::function<std::size_t()> allowance = nullptr;
  };

  Stream(Loop& loop, UniqueFd fd, Hooks hooks);
  ~Stream();
  int fd() const;
  void pause();
  void resume();
  // Queues bytes; returns how many wait unsent afterwards.
  std::size_t write(std::string bytes);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A child process that gets `child_fd` as fd 3 and the parent's standard error; its input and
// output are /dev/null. Destroying it kills a child that still runs and tells nobody.
class Child {
 public:
  struct Exit {
    std::int64_t status = 0;
    int signal = 0;
  };

  static Result<std::unique_ptr<Child>> spawn(Loop& loop,
                                              const std::vector<std::string>& arguments,
                                              UniqueFd child_fd,
                                              std::function<void(Exit)> on_exit);
  ~Child();
  int pid() const;
  void kill(int signum);

 private:
  Child();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Binds `path` with `mode`, safely: the folder must be ours or root's and not writable by everybody
// (unless sticky), a dead socket of ours is replaced, a live one or anything else is an error that
// says what is there.
[[nodiscard]] Result<UniqueFd> listen_unix(const std::string& path, unsigned mode, int backlog);

// Never waits: kUnavailable when the listener has too many connections to accept. The result is
// non-blocking too.
[[nodiscard]] Result<UniqueFd> connect_unix(const std::string& path);

}  // namespace telemetryd::loop
