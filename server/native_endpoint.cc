#include "server/native_endpoint.h"

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "server/batch.h"
#include "server/native_headers.h"

namespace telemetryd::server {
namespace {

constexpr std::int64_t kRetryWhenBusyS = 1;
constexpr std::int64_t kRetryWhenBrokenS = 10;

Answer unauthorized() {
  Answer answer =
      error_answer(401, "unauthorized", "the bearer token is missing or not known here");
  answer.headers.emplace_back("WWW-Authenticate", "Bearer");
  return answer;
}

Answer storage_unavailable(ErrorCode code) {
  const bool busy = code == ErrorCode::kResourceExhausted;
  return error_answer(503,
                      "service_unavailable",
                      "nothing was acknowledged; send the batch again",
                      busy ? kRetryWhenBusyS : kRetryWhenBrokenS);
}

Answer success(const Stored& stored, const std::vector<RejectedEvent>& rejected) {
  nlohmann::ordered_json errors = nlohmann::ordered_json::array();
  for (const RejectedEvent& event : rejected) {
    errors.push_back({{"index", event.index}, {"code", event.code}, {"message", event.message}});
  }
  const nlohmann::ordered_json body{{"status", "success"},
                                    {"accepted", stored.accepted},
                                    {"duplicates", stored.duplicates},
                                    {"rejected", rejected.size()},
                                    {"errors", std::move(errors)}};
  return {.status = 200, .body = body.dump()};
}

class NativeExchange final : public Exchange {
 public:
  NativeExchange(std::string path,
                 NativeHeaders headers,
                 Credential credential,
                 EventStore& events,
                 NonceMemory& nonces,
                 const Clock& clock)
      : path_(std::move(path)),
        headers_(std::move(headers)),
        credential_(std::move(credential)),
        events_(events),
        nonces_(nonces),
        clock_(clock) {}

  std::optional<Answer> receive(std::string body) override;
  void submit(std::function<void(Answer)> reply) override;

 private:
  const std::string path_;
  const NativeHeaders headers_;
  const Credential credential_;
  EventStore& events_;
  NonceMemory& nonces_;
  const Clock& clock_;
  Submission submission_;
  std::vector<RejectedEvent> rejected_;
};

std::optional<Answer> NativeExchange::receive(std::string body) {
  const std::string to_sign =
      native_string_to_sign(path_, headers_.timestamp, headers_.nonce_text, body);
  const Digest expected = hmac_sha256(credential_.secret.text(), to_sign);
  if (!equal_constant_time(expected, headers_.signature)) {
    return error_answer(401, "invalid_signature", "X-Signature is not that of this request");
  }
  const UnixMs now = clock_.unix_ms();
  const auto nonce = nonces_.remember(credential_.token, headers_.nonce, now / 1000);
  if (nonce.verdict == NonceMemory::Verdict::kReplayed) {
    return error_answer(409, "replayed", "X-Nonce was used before; sign each attempt afresh");
  }
  if (nonce.verdict == NonceMemory::Verdict::kFull) {
    return error_answer(
        429, "rate_limit_exceeded", "too many requests of this token", nonce.retry_after_s);
  }
  // First to where it stays, then decoded: a move of a short string would leave the views behind.
  submission_.body = std::make_unique<const std::string>(std::move(body));
  auto decoded = decode_batch(*submission_.body, headers_.batch_size);
  if (!decoded) return std::move(decoded.error());
  submission_.application = credential_.application;
  submission_.token = credential_.token;
  submission_.nonce = headers_.nonce;
  submission_.nonce_expires_s = now / 1000 + kNonceLifeS;
  submission_.received = now;
  submission_.events = std::move(decoded->events);
  submission_.rejected = static_cast<std::uint32_t>(decoded->rejected.size());
  rejected_ = std::move(decoded->rejected);
  return std::nullopt;
}

void NativeExchange::submit(std::function<void(Answer)> reply) {
  submission_.done = [rejected = std::move(rejected_),
                      reply = std::move(reply)](const Result<Stored>& stored) {
    reply(stored ? success(*stored, rejected) : storage_unavailable(stored.error().code()));
  };
  events_.submit(std::move(submission_));
}

}  // namespace

std::string native_string_to_sign(std::string_view path,
                                  std::string_view timestamp,
                                  std::string_view nonce,
                                  std::string_view body) {
  std::string text = "telemetryd-native-v1\nPOST\n";
  text.append(path).append("\n").append(timestamp).append("\n").append(nonce).append("\n");
  return text + to_hex(sha256(body));
}

bool NativeEndpoint::owns(std::string_view path) const {
  return parse_native_path(path).has_value();
}

Admission NativeEndpoint::begin(const RequestHead& head) {
  if (!head.content_length) {
    return error_answer(411, "length_required", "send the body with a Content-Length");
  }
  if (*head.content_length > kBodyBytesMax) {
    return error_answer(413, "payload_too_large", "the body is larger than 8 MiB");
  }
  auto headers = parse_native_headers(head);
  if (!headers) return std::move(headers.error());
  const auto token = bearer_token(head);
  if (!token) return unauthorized();
  auto found = credentials_.find(sha256(*token));
  if (!found) {
    log::error("token_lookup_failed", {{"reason", found.error().message()}});
    return storage_unavailable(ErrorCode::kUnavailable);
  }
  if (!*found || !(*found)->active) return unauthorized();
  Credential& credential = **found;
  const auto path = parse_native_path(head.path);
  if (!path || path->organization != credential.organization_name ||
      path->application != credential.application_name) {
    return error_answer(403, "forbidden", "this token is not for this organization and app");
  }
  const std::int64_t age_s = clock_.unix_ms() / 1000 - headers->timestamp_s;
  if (age_s > kTimestampWindowS || age_s < -kTimestampWindowS) {
    return error_answer(
        403, "expired_timestamp", "X-Timestamp is more than 600 s from this server's clock");
  }
  return std::make_unique<NativeExchange>(
      std::string(head.path), std::move(*headers), std::move(credential), events_, nonces_, clock_);
}

}  // namespace telemetryd::server
