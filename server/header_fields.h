// server/header_fields.h: the parts of request heads that upload formats have in common, checked
// for shape.
//
// Thread:  any; no state.

#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string_view>

#include "base/bytes.h"
#include "server/answer.h"
#include "server/crypto.h"
#include "server/endpoint.h"

namespace telemetryd::server {

struct UploadPath {
  std::string_view organization;
  std::string_view application;
};

// "{prefix}{org}/{app}", both names as registry.h has them and nothing behind.
std::optional<UploadPath> parse_upload_path(std::string_view prefix, std::string_view path);

// 411 without a Content-Length, 413 with one above `bytes_max`, which `words` names.
std::optional<Answer> check_length(const RequestHead& head,
                                   std::uint64_t bytes_max,
                                   std::string_view words);

// Digits only, at most `digits_max` of them.
std::optional<std::uint64_t> parse_decimal(std::optional<std::string_view> text,
                                           std::size_t digits_max);
inline constexpr std::size_t kTimestampDigitsMax = 12;
inline constexpr std::size_t kBatchSizeDigitsMax = 10;

// 36 characters with hyphens in their places.
std::optional<Bytes16> parse_nonce(std::optional<std::string_view> text);

// 64 hex digits of either case.
std::optional<Digest> parse_signature(std::optional<std::string_view> text);

// The token of "Authorization: Bearer …", which is looked up, never compared.
std::optional<std::string_view> bearer_token(const RequestHead& head);

// `type` is a media type in lower case; parameters behind it do not matter.
bool media_type_is(std::string_view value, std::string_view type);

// 400 that names the header and what it should have been.
std::unexpected<Answer> bad_header(std::string_view name, std::string_view expected);

}  // namespace telemetryd::server
