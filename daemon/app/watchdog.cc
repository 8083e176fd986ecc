#include "app/watchdog.h"

#include <algorithm>

namespace telemetryd::app {
namespace {

constexpr int kRefusedPart = 16;  // of the interval, until a refused question is asked again

}  // namespace

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
  refused_ = false;
  half_interval_passed();
}

void Watchdog::half_interval_passed() {
  const bool answered = !refused_ && *answered_ == asked_;
  if (answered && !seen_ && !busy_) {
    notifier_.watchdog_interval(std::chrono::microseconds(0));
    if (on_disarm_) on_disarm_();
    return;
  }
  if (answered) {
    notifier_.watchdog_ping();
    seen_ = false;
  }
  if (answered || refused_) ask();
  // Early enough that an answer to the second try still makes the interval.
  const auto wait = notifier_.watchdog() / (refused_ ? kRefusedPart : 2);
  timer_.start_once(
      std::max(std::chrono::ceil<std::chrono::milliseconds>(wait), std::chrono::milliseconds(1)));
}

void Watchdog::ask() {
  const std::uint64_t question = asked_ + 1;
  const auto answer = [answered_to = answered_, question] { *answered_to = question; };
  refused_ = ask_ && !ask_(answer);
  // Only a question that was taken is open.
  if (refused_) return;
  asked_ = question;
  if (!ask_) answer();
}

}  // namespace telemetryd::app
