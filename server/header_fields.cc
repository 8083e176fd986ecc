#include "server/header_fields.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "server/registry.h"

namespace telemetryd::server {
namespace {

constexpr std::size_t kTokenBytesMax = 256;

bool ascii_prefix_equal(std::string_view text, std::string_view lower_prefix) {
  if (text.size() < lower_prefix.size()) return false;
  return std::equal(lower_prefix.begin(), lower_prefix.end(), text.begin(), [](char l, char c) {
    return l == (c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c);
  });
}

}  // namespace

std::optional<UploadPath> parse_upload_path(std::string_view prefix, std::string_view path) {
  if (!path.starts_with(prefix)) return std::nullopt;
  const std::string_view rest = path.substr(prefix.size());
  const std::size_t slash = rest.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const UploadPath parts{rest.substr(0, slash), rest.substr(slash + 1)};
  if (!name_valid(parts.organization) || !name_valid(parts.application)) return std::nullopt;
  return parts;
}

std::optional<Answer> check_length(const RequestHead& head,
                                   std::uint64_t bytes_max,
                                   std::string_view words) {
  if (!head.content_length) {
    return error_answer(411, "length_required", "send the body with a Content-Length");
  }
  if (*head.content_length <= bytes_max) return std::nullopt;
  return error_answer(413, "payload_too_large", "the body is larger than " + std::string(words));
}

// from_chars alone would take a sign.
std::optional<std::uint64_t> parse_decimal(std::optional<std::string_view> text,
                                           std::size_t digits_max) {
  if (!text || text->empty() || text->size() > digits_max) return std::nullopt;
  if (!std::ranges::all_of(*text, [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  std::uint64_t value = 0;
  std::from_chars(text->data(), text->data() + text->size(), value);
  return value;
}

std::optional<Bytes16> parse_nonce(std::optional<std::string_view> text) {
  constexpr std::size_t kTextBytes = 36;
  return text && text->size() == kTextBytes ? parse_uuid(*text) : std::nullopt;
}

std::optional<Digest> parse_signature(std::optional<std::string_view> text) {
  const auto bytes = text ? from_hex(*text) : std::nullopt;
  Digest digest{};
  if (!bytes || bytes->size() != digest.size()) return std::nullopt;
  std::copy_n(as_bytes(*bytes).begin(), digest.size(), digest.begin());
  return digest;
}

std::optional<std::string_view> bearer_token(const RequestHead& head) {
  constexpr std::string_view kScheme = "bearer ";
  const auto value = only_header(head, "Authorization");
  if (!value || !ascii_prefix_equal(*value, kScheme)) return std::nullopt;
  const std::string_view token = value->substr(kScheme.size());
  if (token.empty() || token.size() > kTokenBytesMax) return std::nullopt;
  return token;
}

bool media_type_is(std::string_view value, std::string_view type) {
  if (!ascii_prefix_equal(value, type)) return false;
  const std::size_t end = value.find_first_not_of(" \t", type.size());
  return end == std::string_view::npos || value[end] == ';';
}

std::unexpected<Answer> bad_header(std::string_view name, std::string_view expected) {
  return std::unexpected(
      error_answer(400,
                   "bad_request",
                   std::string(name) + " must be there once and be " + std::string(expected)));
}

}  // namespace telemetryd::server
