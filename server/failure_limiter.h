// server/failure_limiter.h: wrong signatures of each sender in the running minute.
//
// What is signed is only known to be wrong after the work of checking it, so who was wrong often is
// refused before. Counted is the pair of where a request comes from and what it claims to be: its
// token, or without one its application. So a stranger costs those behind his own address the
// uploads without a token to one application, and nobody else anything.
//
// Everything is forgotten when the minute turns, as in rate_limiter.h. Pairs beyond the table are
// not counted: who has as many addresses is not held by a limit on each, and to refuse those who
// are not in it would be to refuse the right ones.
//
// Thread:  any; a lock inside. Whoever looks and counts in two steps may be over the limit by as
//          many as there are threads.
// Limits:  kPerMinuteMax failures of a pair; kPairsMax pairs, about 100 bytes each.

#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>

#include "base/bytes.h"
#include "base/mutex.h"

namespace telemetryd::server {

class FailureLimiter {
 public:
  static constexpr std::uint32_t kPerMinuteMax = 30;
  static constexpr std::size_t kPairsMax = 1u << 16;

  struct Sender {
    Bytes16 network{};  // peer_network()
    std::int64_t application = 0;
    std::int64_t token = 0;  // 0: none was sent

    auto operator<=>(const Sender&) const = default;
  };

  // Seconds until this sender may try again; nothing when it may now.
  std::optional<std::int64_t> wait_s(const Sender& sender, std::int64_t now_s);
  void count(const Sender& sender, std::int64_t now_s);

 private:
  void turn(std::int64_t now_s) TELEMETRYD_REQUIRES(mutex_);

  Mutex mutex_;
  std::int64_t window_ TELEMETRYD_GUARDED_BY(mutex_) = 0;
  // Ordered, because senders choose among addresses: no hash for them to collide in.
  std::map<Sender, std::uint32_t> failures_ TELEMETRYD_GUARDED_BY(mutex_);
};

}  // namespace telemetryd::server
