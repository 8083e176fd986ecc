// base/log_limit.h: how often one event may be written, so that whoever provokes a line cannot fill
// the log with it.
//
// Each event has its own allowance, so a flood of one hides no other. What was left out is said
// with the first line of that event that is written afterwards.
//
// Thread:  any.
// Limits:  kLinesMax lines of one event in kWindow; one entry per event name of the tree.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/mutex.h"

namespace telemetryd::log {

class LineLimit {
 public:
  using Time = std::chrono::steady_clock::time_point;

  static constexpr std::uint32_t kLinesMax = 50;
  static constexpr std::chrono::seconds kWindow{60};

  // Nothing when the line is to be left out; else how many were left out before it.
  [[nodiscard]] std::optional<std::uint64_t> admit(std::string_view event, Time now);

 private:
  struct Event {
    Time begun;
    std::uint32_t lines = 0;
    std::uint64_t left_out = 0;
  };

  Mutex mutex_;
  std::map<std::string, Event, std::less<>> events_ TELEMETRYD_GUARDED_BY(mutex_);
};

}  // namespace telemetryd::log
