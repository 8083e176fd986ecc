// gateway/hub.h: what all calls share on the loop thread: the way to telemetryd, room, idleness.
//
// Owns:    the upstream connections, the timers of health and idleness.
// Thread:  loop.
// Limits:  kBytesPerUidMax unanswered bytes of a uid, above which its calls are not read;
//          `idle_exit` without anything unanswered and anything received.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "base/clock.h"
#include "gateway/session.h"
#include "gateway/upstreams.h"
#include "loop/loop.h"

namespace telemetryd::gateway {

class Hub {
 public:
  static constexpr std::size_t kBytesPerUidMax = 16u << 20;
  static constexpr std::chrono::milliseconds kDrainDeadline{5'000};

  struct Options {
    std::string ingest_socket;
    std::chrono::milliseconds idle_exit{60'000};
    bool exits_when_idle = true;
  };

  // `on_stopping`: no connection is to be accepted any more. `on_stopped`: every call has ended.
  Hub(loop::Loop& loop,
      const Clock& clock,
      Options options,
      std::function<void()> on_stopping,
      std::function<void()> on_stopped);
  ~Hub();
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;

  // Somebody connected or sent something.
  void touch();
  // Answers what is unanswered, ends all calls, then says so.
  void stop(const std::string& why);

  bool stopping() const { return stopping_; }

  Upstreams& upstreams() { return upstreams_; }

  bool room_for(std::uint32_t uid) const;

  // Session::resume() is called when there may be room.
  void wait_for_room(Session& session) { waiting_.insert(&session); }

  void add(Session& session);
  void remove(Session& session);

  std::size_t calls() const { return sessions_.size(); }

  std::unique_ptr<loop::Timer> timer(std::function<void()> on_fire);

 private:
  void changed();
  void on_idle_timer();
  void finish_stop();

  loop::Loop& loop_;
  const Clock& clock_;
  const Options options_;
  const std::function<void()> on_stopping_;
  const std::function<void()> on_stopped_;
  Upstreams upstreams_;
  std::set<Session*> sessions_;
  std::set<Session*> waiting_;
  BootMs touched_ = 0;
  bool stopping_ = false;
  bool stopped_ = false;
  loop::Timer idle_timer_;
  loop::Timer drain_timer_;
};

}  // namespace telemetryd::gateway
