#include "server/native_endpoint.h"

#include <nlohmann/json.hpp>

#include "server/batch.h"
#include "server/header_fields.h"
#include "server/native_headers.h"
#include "server/upload_exchange.h"

namespace telemetryd::server {
namespace {

constexpr std::string_view kPrefix = "/v1/native/";

Answer success(const Stored& stored, const std::vector<RejectedEvent>& rejected) {
  nlohmann::ordered_json errors = nlohmann::ordered_json::array();
  for (const RejectedEvent& event : rejected) {
    errors.push_back({{"index", event.index}, {"code", event.code}, {"message", event.message}});
  }
  const nlohmann::ordered_json body{{"status", "success"},
                                    {"accepted", stored.accepted},
                                    {"duplicates", stored.known()},
                                    {"rejected", rejected.size()},
                                    {"errors", std::move(errors)}};
  return {.status = 200, .body = body.dump()};
}

class NativeExchange final : public UploadExchange {
 public:
  NativeExchange(Gate& gate,
                 EventStore& events,
                 std::optional<RateState> rate,
                 std::string path,
                 NativeHeaders headers,
                 Credential credential,
                 FailureLimiter::Sender sender)
      : UploadExchange(gate, events, rate),
        path_(std::move(path)),
        headers_(std::move(headers)),
        credential_(std::move(credential)),
        sender_(sender) {}

 private:
  std::optional<Answer> read(std::string body) override;
  Tell tell() override;

  const std::string path_;
  const NativeHeaders headers_;
  const Credential credential_;
  const FailureLimiter::Sender sender_;
  std::vector<RejectedEvent> rejected_;
};

std::optional<Answer> NativeExchange::read(std::string body) {
  if (auto refused = gate().check_failures(sender_)) return refused;
  const std::string to_sign =
      native_string_to_sign(path_, headers_.timestamp, headers_.nonce_text, body);
  const Digest expected = hmac_sha256(credential_.secret.text(), to_sign);
  if (!equal_constant_time(expected, headers_.signature)) {
    return gate().wrong_signature(sender_);
  }
  if (auto refused = check_fresh(credential_, headers_.nonce)) return refused;
  // First to where it stays, then decoded: a move of a short string would leave the views behind.
  submission().body = std::make_unique<const std::string>(std::move(body));
  auto decoded = decode_batch(*submission().body, headers_.batch_size);
  if (!decoded) return std::move(decoded.error());
  submission().events = std::move(decoded->events);
  submission().rejected = static_cast<std::uint32_t>(decoded->rejected.size());
  rejected_ = std::move(decoded->rejected);
  return std::nullopt;
}

UploadExchange::Tell NativeExchange::tell() {
  return
      [rejected = std::move(rejected_)](const Stored& stored) { return success(stored, rejected); };
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
  return parse_upload_path(kPrefix, path).has_value();
}

Admission NativeEndpoint::begin(const RequestHead& head) {
  if (auto refused = check_length(head, kBodyBytesMax, "8 MiB")) return std::move(*refused);
  auto headers = parse_native_headers(head);
  if (!headers) return std::move(headers.error());
  const auto token = bearer_token(head);
  if (!token) return unauthorized("the bearer token is missing");
  auto credential = gate_.find(*token);
  if (!credential) return std::move(credential.error());
  const auto path = parse_upload_path(kPrefix, head.path);
  if (!path || !credential->is_for(path->organization, path->application)) {
    return wrong_application();
  }
  if (auto refused = gate_.check_time(headers->timestamp_s)) return std::move(*refused);
  const FailureLimiter::Sender sender{
      .network = head.network, .application = credential->application, .token = credential->token};
  if (auto refused = gate_.check_failures(sender)) return std::move(*refused);
  std::optional<RateState> rate;
  if (auto refused = gate_.check_rate(*credential, rate)) return std::move(*refused);
  return std::make_unique<NativeExchange>(gate_,
                                          events_,
                                          rate,
                                          std::string(head.path),
                                          std::move(*headers),
                                          std::move(*credential),
                                          sender);
}

}  // namespace telemetryd::server
