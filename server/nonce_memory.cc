#include "server/nonce_memory.h"

#include <algorithm>

namespace telemetryd::server {

NonceMemory::Answer NonceMemory::remember(std::int64_t token,
                                          const Bytes16& nonce,
                                          std::int64_t now_s) {
  const MutexLock lock(mutex_);
  if (total_ >= limits_.total_max) forget_expired_everywhere(now_s);
  PerToken& memory = tokens_[token];
  forget_expired(memory, now_s);
  if (memory.known.contains(nonce)) return {.verdict = Verdict::kReplayed};
  if (memory.known.size() >= limits_.per_token_max || total_ >= limits_.total_max) {
    std::int64_t room_s = kNonceLifeS;
    if (!memory.order.empty()) room_s = memory.order.front().expires_s + 1 - now_s;
    return {.verdict = Verdict::kFull,
            .retry_after_s = std::clamp<std::int64_t>(room_s, 1, kNonceLifeS)};
  }
  memory.order.push_back({now_s + kNonceLifeS, nonce});
  memory.known.insert(nonce);
  ++total_;
  return {};
}

void NonceMemory::restore(std::int64_t token, const Bytes16& nonce, std::int64_t expires_s) {
  const MutexLock lock(mutex_);
  PerToken& memory = tokens_[token];
  if (!memory.known.insert(nonce).second) return;
  memory.order.push_back({expires_s, nonce});
  ++total_;
}

void NonceMemory::forget_expired(PerToken& memory, std::int64_t now_s) {
  while (!memory.order.empty() && memory.order.front().expires_s < now_s) {
    memory.known.erase(memory.order.front().nonce);
    memory.order.pop_front();
    --total_;
  }
}

void NonceMemory::forget_expired_everywhere(std::int64_t now_s) {
  for (auto it = tokens_.begin(); it != tokens_.end();) {
    forget_expired(it->second, now_s);
    it = it->second.order.empty() ? tokens_.erase(it) : std::next(it);
  }
}

}  // namespace telemetryd::server
