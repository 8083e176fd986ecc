// server/nonce_memory.h: the nonces seen lately, so that a captured request is not accepted twice.
//
// A timestamp up to 600 s ahead stays inside the window for 1200 s, so that is how long a nonce is
// remembered. A full memory refuses new ones instead of forgetting old ones: forgetting is what a
// replay waits for. The writer stores each nonce in the transaction of its batch, and a start loads
// them back.
//
// Thread:  any; a lock inside.
// Limits:  kPerTokenMax and kTotalMax, about 100 bytes each.

#pragma once

#include <cstdint>
#include <deque>
#include <set>
#include <unordered_map>

#include "base/bytes.h"
#include "base/mutex.h"

namespace telemetryd::server {

inline constexpr std::int64_t kNonceLifeS = 1200;

class NonceMemory {
 public:
  struct Limits {
    std::size_t per_token_max = 1u << 18;  // 218 requests a second, all the time
    std::size_t total_max = 1u << 20;
  };

  enum class Verdict { kFresh, kReplayed, kFull };

  struct Answer {
    Verdict verdict = Verdict::kFresh;
    std::int64_t retry_after_s = 0;  // kFull: when room comes
  };

  explicit NonceMemory(Limits limits) : limits_(limits) {}

  // Remembers a fresh nonce until kNonceLifeS after `now_s`; looking and remembering are one step.
  Answer remember(std::int64_t token, const Bytes16& nonce, std::int64_t now_s);

  // What a start finds on disk, in order of expiry.
  void restore(std::int64_t token, const Bytes16& nonce, std::int64_t expires_s);

 private:
  struct Entry {
    std::int64_t expires_s;
    Bytes16 nonce;
  };

  struct PerToken {
    std::deque<Entry> order;
    std::set<Bytes16> known;
  };

  void forget_expired(PerToken& memory, std::int64_t now_s) TELEMETRYD_REQUIRES(mutex_);
  void forget_expired_everywhere(std::int64_t now_s) TELEMETRYD_REQUIRES(mutex_);

  const Limits limits_;
  Mutex mutex_;
  std::unordered_map<std::int64_t, PerToken> tokens_ TELEMETRYD_GUARDED_BY(mutex_);
  std::size_t total_ TELEMETRYD_GUARDED_BY(mutex_) = 0;
};

}  // namespace telemetryd::server
