#include "server/native_headers.h"

#include <algorithm>
#include <charconv>

#include "server/registry.h"

namespace telemetryd::server {
namespace {

constexpr std::string_view kPrefix = "/v1/native/";
constexpr std::size_t kTokenBytesMax = 256;

std::unexpected<Answer> bad_header(std::string_view name, std::string_view expected) {
  return std::unexpected(
      error_answer(400,
                   "bad_request",
                   std::string(name) + " must be there once and be " + std::string(expected)));
}

// Digits only: from_chars alone would take a sign.
std::optional<std::uint64_t> parse_decimal(std::optional<std::string_view> text,
                                           std::size_t digits_max) {
  if (!text || text->empty() || text->size() > digits_max) return std::nullopt;
  if (!std::ranges::all_of(*text, [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  std::uint64_t value = 0;
  std::from_chars(text->data(), text->data() + text->size(), value);
  return value;
}

bool ascii_prefix_equal(std::string_view text, std::string_view lower_prefix) {
  if (text.size() < lower_prefix.size()) return false;
  return std::equal(lower_prefix.begin(), lower_prefix.end(), text.begin(), [](char l, char c) {
    return l == (c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c);
  });
}

}  // namespace

std::optional<NativePath> parse_native_path(std::string_view path) {
  if (!path.starts_with(kPrefix)) return std::nullopt;
  const std::string_view rest = path.substr(kPrefix.size());
  const std::size_t slash = rest.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const NativePath parts{rest.substr(0, slash), rest.substr(slash + 1)};
  if (!name_valid(parts.organization) || !name_valid(parts.application)) return std::nullopt;
  return parts;
}

std::expected<NativeHeaders, Answer> parse_native_headers(const RequestHead& head) {
  NativeHeaders headers;
  if (only_header(head, "Content-Type") != "application/x-protobuf") {
    return bad_header("Content-Type", "application/x-protobuf");
  }
  if (has_header(head, "Content-Encoding")) {
    return std::unexpected(error_answer(400, "bad_request", "Content-Encoding is not supported"));
  }
  const auto timestamp = only_header(head, "X-Timestamp");
  const auto timestamp_s = parse_decimal(timestamp, 12);
  if (!timestamp_s) return bad_header("X-Timestamp", "seconds since the epoch");
  headers.timestamp = *timestamp;
  headers.timestamp_s = static_cast<std::int64_t>(*timestamp_s);

  const auto nonce = only_header(head, "X-Nonce");
  const auto uuid = nonce && nonce->size() == 36 ? parse_uuid(*nonce) : std::nullopt;
  if (!uuid) return bad_header("X-Nonce", "a UUID");
  headers.nonce_text = *nonce;
  headers.nonce = *uuid;

  const auto signature = only_header(head, "X-Signature");
  const auto bytes = signature ? from_hex(*signature) : std::nullopt;
  if (!bytes || bytes->size() != headers.signature.size()) {
    return bad_header("X-Signature", "64 hex digits");
  }
  std::copy_n(as_bytes(*bytes).begin(), headers.signature.size(), headers.signature.begin());

  const auto batch_size = parse_decimal(only_header(head, "X-Batch-Size"), 10);
  if (!batch_size) return bad_header("X-Batch-Size", "a number of events");
  headers.batch_size = *batch_size;
  return headers;
}

std::optional<std::string_view> bearer_token(const RequestHead& head) {
  constexpr std::string_view kScheme = "bearer ";
  const auto value = only_header(head, "Authorization");
  if (!value || !ascii_prefix_equal(*value, kScheme)) return std::nullopt;
  const std::string_view token = value->substr(kScheme.size());
  if (token.empty() || token.size() > kTokenBytesMax) return std::nullopt;
  return token;
}

}  // namespace telemetryd::server
