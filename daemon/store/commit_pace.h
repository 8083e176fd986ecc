// store/commit_pace.h: until when a commit that nobody waits for may wait for company.
//
// A commit writes a page or more, however little it holds. Events that come now and then are
// committed after a short delay. While they trickle on without an end, commits come once in a
// trickle delay, so that a day of one event a second writes megabytes and not gigabytes. The
// measure is a bucket of kQuickCommits that fills by one in a trickle delay.
//
// Thread:  of the owner; times are given, nothing is read or armed here.
// Limits:  a commit waits no longer than the longer one of both delays.

#pragma once

#include <algorithm>
#include <chrono>

namespace telemetryd::store {

class CommitPace {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Delay = std::chrono::milliseconds;

  static constexpr int kQuickCommits = 64;

  // A trickle delay that is no longer than `delay` changes nothing.
  CommitPace(Delay delay, Delay trickle_delay)
      : delay_(delay), trickle_delay_(std::max(delay, trickle_delay)) {}

  // For what waits since `first`.
  TimePoint deadline(TimePoint first) const {
    const TimePoint next = full_again_ - kQuickCommits * trickle_delay_ + trickle_delay_;
    return std::clamp(next, first + delay_, first + trickle_delay_);
  }

  // Every commit costs the same, also one that somebody waited for.
  void committed(TimePoint now) {
    const TimePoint empty = now + kQuickCommits * trickle_delay_;
    full_again_ = std::min(std::max(full_again_, now) + trickle_delay_, empty);
  }

 private:
  Delay delay_;
  Delay trickle_delay_;
  TimePoint full_again_{};  // the bucket, if nothing is committed until then
};

}  // namespace telemetryd::store
