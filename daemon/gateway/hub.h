// gateway/hub.h: what all calls share on the loop thread: the way to telemetryd, room, idleness.
//
// Owns:    the upstream connections, the timers of health and idleness.
// Thread:  loop.
// Limits:  Room; `idle_exit` without anything unanswered and anything received; kGivenUpMax calls
//          that a sender begins and gives up within kGivenUpWindow, or has begun beside those that
//          its connections may have open, which no honest one does.

#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/clock.h"
#include "config/stop_times.h"
#include "gateway/call.h"
#include "gateway/health.h"
#include "gateway/room.h"
#include "gateway/upstreams.h"
#include "loop/loop.h"

namespace telemetryd::gateway {

class Hub {
 public:
  static constexpr std::chrono::milliseconds kDrainDeadline = config::kGatewayDrainMax;
  // Room is given back in more ways than by an answer.
  static constexpr std::chrono::milliseconds kLookForRoom{100};
  static constexpr std::uint32_t kGivenUpMax = 1'000;
  static constexpr std::uint32_t kCallsPerConnectionMax = 64;
  static constexpr std::chrono::milliseconds kGivenUpWindow{1'000};

  struct Options {
    // `[gateway] enabled`; without it every request is refused.
    bool enabled = true;
    std::string ingest_socket;
    std::chrono::milliseconds idle_exit{60'000};
    bool exits_when_idle = true;
    // An answer that nobody reads ends its call after this.
    std::chrono::milliseconds write_deadline{30'000};
  };

  struct Hooks {
    std::function<void()> on_stopping;  // no connection is to be accepted any more
    std::function<void()> on_stopped;   // every call has ended
    // This sender's connections are to be shut. `peer` is empty for a local one.
    std::function<void(std::uint32_t uid, const std::string& peer)> on_flood;
    // How many connections a sender has.
    std::function<std::size_t(std::uint32_t uid, const std::string& peer)> connections;
    // A call from another machine brought what is asked for.
    std::function<void(const std::string& peer)> on_proven;
  };

  Hub(loop::Loop& loop, const Clock& clock, Options options, Hooks hooks);
  ~Hub();
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;

  // Somebody connected or sent something.
  void touch();
  // Answers what is unanswered, ends all calls, then says so.
  void stop(const std::string& why);

  // A call began that may; `peer` is empty for a local one.
  void proven(const std::string& peer);
  // A call that its sender began and gave up.
  void given_up(std::uint32_t uid, const std::string& peer);
  // So many calls of a sender have begun and not ended. gRPC may be too busy with them to say that
  // they were given up.
  void has_open(std::uint32_t uid, const std::string& peer, std::size_t calls);

  Health& health() { return health_; }

  // Any thread.
  bool enabled() const { return options_.enabled; }

  bool stopping() const { return stopping_; }

  Upstreams& upstreams() { return upstreams_; }

  std::chrono::milliseconds write_deadline() const { return options_.write_deadline; }

  const std::shared_ptr<Room>& room() const { return room_; }

  // Aborts what has been said its last word, when the peer does not read that in time.
  void ending(const std::shared_ptr<Caller>& caller);

  // Call::resume() is called when there may be room.
  void wait_for_room(Call& call);

  void add(Call& call);
  void remove(Call& call);

  std::size_t calls() const { return calls_.size(); }

  std::unique_ptr<loop::Timer> timer(std::function<void()> on_fire);

 private:
  void changed(Change change);
  void cut_off(std::uint32_t uid, const std::string& peer, std::size_t calls);
  void resume_waiting();
  void on_ending_timer();
  void on_idle_timer();
  void finish_stop();

  loop::Loop& loop_;
  const Clock& clock_;
  const Options options_;
  const Hooks hooks_;
  const std::shared_ptr<Room> room_ = std::make_shared<Room>();
  Upstreams upstreams_;
  Health health_;
  std::set<Call*> calls_;
  std::set<Call*> waiting_;

  // Oldest first. A network side that is done exists no more.
  struct Ending {
    std::weak_ptr<Caller> caller;
    BootMs since = 0;
  };

  std::deque<Ending> endings_;
  BootMs touched_ = 0;
  std::map<std::pair<std::uint32_t, std::string>, std::uint32_t> given_up_;
  BootMs given_up_since_ = 0;
  bool stopping_ = false;
  bool stopped_ = false;
  loop::Timer idle_timer_;
  loop::Timer drain_timer_;
  loop::Timer room_timer_;
  loop::Timer ending_timer_;
};

}  // namespace telemetryd::gateway
