#include "base/log_limit.h"

#include <utility>

namespace telemetryd::log {

std::optional<std::uint64_t> LineLimit::admit(std::string_view event, Time now) {
  const MutexLock lock(mutex_);
  auto found = events_.find(event);
  if (found == events_.end()) {
    found = events_.emplace(std::string(event), Event{.begun = now}).first;
  }
  Event& of = found->second;
  if (now - of.begun >= kWindow) {
    of.begun = now;
    of.lines = 0;
  }
  if (of.lines == kLinesMax) {
    ++of.left_out;
    return std::nullopt;
  }
  ++of.lines;
  return std::exchange(of.left_out, 0);
}

}  // namespace telemetryd::log
