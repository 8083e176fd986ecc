#include "app/watchdog.h"

#include <algorithm>

namespace telemetryd::app {

Watchdog::Watchdog(loop::Loop& loop, Notifier& notifier)
    : notifier_(notifier), timer_(loop, [this] { half_interval_passed(); }) {
  // The service manager armed it when it started us; nothing is outstanding yet.
  if (notifier_.watchdog().count() > 0) notifier_.watchdog_interval(std::chrono::microseconds(0));
}

void Watchdog::work_seen() {
  seen_ = true;
  if (!armed()) arm();
}

void Watchdog::set_busy(bool busy) {
  busy_ = busy;
  if (busy) work_seen();
}

void Watchdog::arm() {
  if (notifier_.watchdog().count() == 0) return;
  notifier_.watchdog_interval(notifier_.watchdog());
  notifier_.watchdog_ping();
  asked_ = *answered_;
  half_interval_passed();
}

void Watchdog::half_interval_passed() {
  const bool answered = *answered_ == asked_;
  if (answered && !seen_ && !busy_) {
    notifier_.watchdog_interval(std::chrono::microseconds(0));
    return;
  }
  if (answered) {
    notifier_.watchdog_ping();
    seen_ = false;
    const std::uint64_t question = ++asked_;
    const auto answer = [answered_to = answered_, question] { *answered_to = question; };
    if (ask_) {
      ask_(answer);
    } else {
      answer();
    }
  }
  const auto half = std::chrono::ceil<std::chrono::milliseconds>(notifier_.watchdog() / 2);
  timer_.start_once(std::max(half, std::chrono::milliseconds(1)));
}

}  // namespace telemetryd::app
