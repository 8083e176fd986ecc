// server/gate.h: what every upload passes, whatever its wire format: its token, the time it was
// signed at, its sender's wrong signatures, the token's rate, and that it was not seen before.
//
// The order is the endpoint's, because the formats' tables have it; each check is here once.
//
// Thread:  any.

#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "server/answer.h"
#include "server/event_store.h"
#include "server/failure_limiter.h"
#include "server/nonce_memory.h"
#include "server/rate_limiter.h"

namespace telemetryd::server {

inline constexpr std::int64_t kTimestampWindowS = 600;

class Gate {
 public:
  Gate(CredentialStore& credentials,
       NonceMemory& nonces,
       RateLimiter& rates,
       FailureLimiter& failures,
       const Clock& clock)
      : credentials_(credentials),
        nonces_(nonces),
        rates_(rates),
        failures_(failures),
        clock_(clock) {}

  // The credential of an active token; 401 for any other, 503 when the storage cannot say.
  std::expected<Credential, Answer> find(std::string_view token);
  // Those whose tokens are active, newest first; 401 for none.
  std::expected<std::vector<Credential>, Answer> find(std::string_view organization,
                                                      std::string_view application);

  // 403 outside of kTimestampWindowS.
  std::optional<Answer> check_time(std::int64_t timestamp_s) const;

  // 429 for a sender whose signatures were wrong too often in this minute. To be asked before
  // anything is done to check one: by the headers, and again when the body is there.
  std::optional<Answer> check_failures(const FailureLimiter::Sender& sender);
  // The 401 of a wrong signature, which counts.
  Answer wrong_signature(const FailureLimiter::Sender& sender);

  // Counts the request. A 429 has its headers already; otherwise every answer needs those of
  // `state`.
  std::optional<Answer> check_rate(const Credential& credential, std::optional<RateState>& state);

  // 409 for what this token has used before, 429 when no more can be remembered.
  std::optional<Answer> check_fresh(const Credential& credential, const Bytes16& nonce);

  const Clock& clock() const { return clock_; }

 private:
  CredentialStore& credentials_;
  NonceMemory& nonces_;
  RateLimiter& rates_;
  FailureLimiter& failures_;
  const Clock& clock_;
};

// 401 that asks for a bearer token.
Answer unauthorized(std::string_view message);

// 403 for a token that is another application's.
Answer wrong_application();

// 503 with a time to come again; nothing of the request was acknowledged.
Answer storage_unavailable(ErrorCode code);

}  // namespace telemetryd::server
