#include "server/gate.h"

#include <algorithm>

#include "base/log.h"
#include "server/crypto.h"

namespace telemetryd::server {
namespace {

constexpr std::int64_t kRetryWhenBusyS = 1;
constexpr std::int64_t kRetryWhenBrokenS = 10;
constexpr std::string_view kUnknownToken = "the bearer token is missing or not known here";

std::unexpected<Answer> lookup_failed(const Error& error) {
  log::error("token_lookup_failed", {{"reason", error.message()}});
  return std::unexpected(storage_unavailable(ErrorCode::kUnavailable));
}

}  // namespace

Answer unauthorized(std::string_view message) {
  Answer answer = error_answer(401, "unauthorized", message);
  answer.headers.emplace_back("WWW-Authenticate", "Bearer");
  return answer;
}

Answer wrong_application() {
  return error_answer(403, "forbidden", "this token is not for this organization and app");
}

Answer storage_unavailable(ErrorCode code) {
  const bool busy = code == ErrorCode::kResourceExhausted;
  return error_answer(503,
                      "service_unavailable",
                      "nothing was acknowledged; send the batch again",
                      busy ? kRetryWhenBusyS : kRetryWhenBrokenS);
}

std::expected<Credential, Answer> Gate::find(std::string_view token) {
  auto found = credentials_.find(sha256(token));
  if (!found) return lookup_failed(found.error());
  if (!*found || !(*found)->active) return std::unexpected(unauthorized(kUnknownToken));
  return std::move(**found);
}

std::expected<std::vector<Credential>, Answer> Gate::find(std::string_view organization,
                                                          std::string_view application) {
  auto found = credentials_.find_active(organization, application);
  if (!found) return lookup_failed(found.error());
  if (found->empty()) return std::unexpected(unauthorized(kUnknownToken));
  return std::move(*found);
}

std::optional<Answer> Gate::check_time(std::int64_t timestamp_s) const {
  const std::int64_t age_s = clock_.unix_ms() / 1000 - timestamp_s;
  if (age_s <= kTimestampWindowS && age_s >= -kTimestampWindowS) return std::nullopt;
  return error_answer(
      403, "expired_timestamp", "X-Timestamp is more than 600 s from this server's clock");
}

std::optional<Answer> Gate::check_failures(const FailureLimiter::Sender& sender) {
  const auto wait_s = failures_.wait_s(sender, clock_.unix_ms() / 1000);
  if (!wait_s) return std::nullopt;
  return error_answer(429,
                      "rate_limit_exceeded",
                      "too many signatures from this address were wrong in this minute",
                      *wait_s);
}

Answer Gate::wrong_signature(const FailureLimiter::Sender& sender) {
  failures_.count(sender, clock_.unix_ms() / 1000);
  return error_answer(401, "invalid_signature", "X-Signature is not that of this request");
}

std::optional<Answer> Gate::check_rate(const Credential& credential,
                                       std::optional<RateState>& state) {
  const std::int64_t now_s = clock_.unix_ms() / 1000;
  state = rates_.take(credential.token, credential.tier, now_s);
  if (!state || state->allowed) return std::nullopt;
  Answer answer = error_answer(429,
                               "rate_limit_exceeded",
                               "this token has used its requests of this minute",
                               std::max<std::int64_t>(state->reset_s - now_s, 1));
  add_rate_headers(answer, *state);
  return answer;
}

std::optional<Answer> Gate::check_fresh(const Credential& credential, const Bytes16& nonce) {
  const auto seen = nonces_.remember(credential.token, nonce, clock_.unix_ms() / 1000);
  switch (seen.verdict) {
    case NonceMemory::Verdict::kFresh: return std::nullopt;
    case NonceMemory::Verdict::kReplayed:
      return error_answer(
          409, "replayed", "this request was received before; sign each attempt afresh");
    case NonceMemory::Verdict::kFull: break;
  }
  return error_answer(
      429, "rate_limit_exceeded", "too many requests of this token", seen.retry_after_s);
}

}  // namespace telemetryd::server
