#include "server/native_headers.h"

#include "server/header_fields.h"

namespace telemetryd::server {

std::expected<NativeHeaders, Answer> parse_native_headers(const RequestHead& head) {
  NativeHeaders headers;
  if (only_header(head, "Content-Type") != "application/x-protobuf") {
    return bad_header("Content-Type", "application/x-protobuf");
  }
  if (has_header(head, "Content-Encoding")) {
    return std::unexpected(error_answer(400, "bad_request", "Content-Encoding is not supported"));
  }
  const auto timestamp = only_header(head, "X-Timestamp");
  const auto timestamp_s = parse_decimal(timestamp, kTimestampDigitsMax);
  if (!timestamp_s) return bad_header("X-Timestamp", "seconds since the epoch");
  headers.timestamp = *timestamp;
  headers.timestamp_s = static_cast<std::int64_t>(*timestamp_s);

  const auto nonce = only_header(head, "X-Nonce");
  const auto uuid = parse_nonce(nonce);
  if (!uuid) return bad_header("X-Nonce", "a UUID");
  headers.nonce_text = *nonce;
  headers.nonce = *uuid;

  const auto signature = parse_signature(only_header(head, "X-Signature"));
  if (!signature) return bad_header("X-Signature", "64 hex digits");
  headers.signature = *signature;

  const auto batch_size = parse_decimal(only_header(head, "X-Batch-Size"), kBatchSizeDigitsMax);
  if (!batch_size) return bad_header("X-Batch-Size", "a number of events");
  headers.batch_size = *batch_size;
  return headers;
}

}  // namespace telemetryd::server
