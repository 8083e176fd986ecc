#include "app/hangups.h"

#include <utility>

namespace telemetryd::app {

Hangups::Hangups(loop::Loop& loop, std::chrono::milliseconds interval, std::function<void()> reload)
    : interval_(interval), reload_(std::move(reload)), rest_(loop, [this] { rested(); }) {}

void Hangups::heard() {
  if (rest_.active()) {
    heard_since_ = true;
    return;
  }
  rest_.start_once(interval_);
  reload_();
}

void Hangups::rested() {
  if (std::exchange(heard_since_, false)) heard();
}

}  // namespace telemetryd::app
