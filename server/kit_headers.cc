#include "server/kit_headers.h"

#include <algorithm>

#include "server/gate.h"
#include "server/header_fields.h"

namespace telemetryd::server {
namespace {

std::optional<Answer> check_presence(const RequestHead& head, const KitLeniency& leniency) {
  for (const char* name : {"X-Signature", "X-Timestamp"}) {
    if (!has_header(head, name)) return unauthorized(std::string(name) + " is missing");
  }
  if (!has_header(head, "X-Nonce") && !leniency.plain_signatures) {
    return unauthorized("X-Nonce is missing; sign timestamp, nonce and body");
  }
  if (!bearer_token(head) && (has_header(head, "Authorization") || !leniency.missing_token)) {
    return unauthorized("the bearer token is missing");
  }
  return std::nullopt;
}

// Any of several will do: a sender that said it twice meant it.
bool asks_not_to_be_tracked(const RequestHead& head) {
  return std::ranges::any_of(head.headers, [](const auto& header) {
    return same_header_name(header.first, "DNT") && header.second == "1";
  });
}

}  // namespace

std::expected<KitHeaders, Answer> parse_kit_headers(const RequestHead& head,
                                                    const KitLeniency& leniency) {
  if (auto refused = check_presence(head, leniency)) return std::unexpected(std::move(*refused));
  KitHeaders headers;
  if (const auto token = bearer_token(head)) headers.token = *token;

  const auto timestamp = only_header(head, "X-Timestamp");
  const auto timestamp_s = parse_decimal(timestamp, kTimestampDigitsMax);
  if (!timestamp_s) return bad_header("X-Timestamp", "seconds since the epoch");
  headers.timestamp = *timestamp;
  headers.timestamp_s = static_cast<std::int64_t>(*timestamp_s);

  if (has_header(head, "X-Batch-Size")) {
    headers.batch_size = parse_decimal(only_header(head, "X-Batch-Size"), kBatchSizeDigitsMax);
    if (!headers.batch_size) return bad_header("X-Batch-Size", "a number of events");
  }
  if (has_header(head, "X-Nonce")) {
    const auto nonce = only_header(head, "X-Nonce");
    headers.nonce = parse_nonce(nonce);
    if (!headers.nonce) return bad_header("X-Nonce", "a UUID");
    headers.nonce_text = *nonce;
  }
  const auto type = only_header(head, "Content-Type");
  if (has_header(head, "Content-Type") && (!type || !media_type_is(*type, "application/json"))) {
    return bad_header("Content-Type", "application/json");
  }
  if (has_header(head, "Content-Encoding")) {
    return std::unexpected(error_answer(400, "bad_request", "Content-Encoding is not supported"));
  }
  const auto signature = parse_signature(only_header(head, "X-Signature"));
  if (!signature) {
    return std::unexpected(
        error_answer(401, "invalid_signature", "X-Signature must be there once, as 64 hex digits"));
  }
  headers.signature = *signature;
  headers.do_not_track = asks_not_to_be_tracked(head);
  return headers;
}

}  // namespace telemetryd::server
