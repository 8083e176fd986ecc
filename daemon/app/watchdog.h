// app/watchdog.h: lets the service manager restart us when work hangs, and sleeps when there is
// none.
//
// Armed by the first sign of work. At half of the interval it asks both threads: the timer itself
// proves the loop, a function posted to the store thread proves that one. A ping goes out only when
// the last question was answered; a question that found no room is asked again soon, because a full
// queue alone does not say that its thread hangs. When nothing happened in between and nothing is
// outstanding, the watchdog is disarmed and the timer stops: an idle daemon does not wake.
//
// Owns:    one timer, while armed.
// Thread:  loop.

#pragma once

#include <functional>
#include <memory>

#include "app/notifier.h"
#include "loop/loop.h"

namespace telemetryd::app {

class Watchdog {
 public:
  // `ask` makes every other thread that can hang call `answered` on the loop. False: there was no
  // room for the question, and no answer will come.
  using Ask = std::function<bool(std::function<void()> answered)>;

  Watchdog(loop::Loop& loop, Notifier& notifier);

  void ask_with(Ask ask) { ask_ = std::move(ask); }

  // Called whenever it has disarmed: what tells of work only once is to be set again.
  void on_disarm(std::function<void()> hook) { on_disarm_ = std::move(hook); }

  // Something happened that means work.
  void work_seen();
  // Work that lasts, such as leases at the forwarder, began or ended.
  void set_busy(bool busy);

  bool armed() const { return timer_.active(); }

 private:
  void arm();
  void half_interval_passed();
  void ask();

  Notifier& notifier_;
  loop::Timer timer_;
  Ask ask_;
  std::function<void()> on_disarm_;
  bool busy_ = false;
  bool seen_ = false;
  bool refused_ = false;  // the last question was not taken
  std::uint64_t asked_ = 0;
  // Survives us in answers that are still under way.
  std::shared_ptr<std::uint64_t> answered_ = std::make_shared<std::uint64_t>(0);
};

}  // namespace telemetryd::app
