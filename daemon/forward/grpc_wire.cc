#include "forward/grpc_wire.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <openssl/evp.h>

#include "base/bytes.h"
#include "base/check.h"
#include "event/wire.h"

namespace telemetryd::forward {
namespace {

using event::Cursor;
using event::kBytes;
using event::kVarint;
using event::tag_of;

constexpr std::size_t kPrefixBytes = 5;
constexpr std::string_view kContentType = "application/grpc";
constexpr std::string_view kRetryInfo = "type.googleapis.com/google.rpc.RetryInfo";
constexpr std::chrono::seconds kRetryAfterMax{3600};

std::string_view header(const HttpResponse& response, std::string_view name) {
  const auto found = std::ranges::find(response.headers, name, &HttpHeader::name);
  return found == response.headers.end() ? std::string_view() : std::string_view(found->value);
}

// grpc-message is percent-encoded; what is no escape stays as it is.
std::string percent_decoded(std::string_view text) {
  std::string plain;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const auto byte =
        text[at] == '%' && at + 3 <= text.size() ? from_hex(text.substr(at + 1, 2)) : std::nullopt;
    plain.push_back(byte ? byte->front() : text[at]);
    if (byte) at += 2;
  }
  return plain;
}

// Binary headers are base64 with or without padding; several values stand behind commas.
std::optional<std::string> base64_decoded(std::string_view text) {
  text = text.substr(0, text.find(','));
  while (text.ends_with('=')) text.remove_suffix(1);
  const std::size_t padding = (4 - text.size() % 4) % 4;
  const std::string padded = std::string(text) + std::string(padding, '=');
  std::string bytes(padded.size() / 4 * 3, '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                   as_bytes(padded).data(),
                                   static_cast<int>(padded.size()));
  if (size < 0 || padding > 2) return std::nullopt;
  bytes.resize(static_cast<std::size_t>(size) - padding);
  return bytes;
}

// Calls `field` with (tag, cursor) for every field; it consumes the value and says whether it
// could.
template <typename Field>
bool each_field(std::string_view message, Field field) {
  Cursor cursor(message);
  while (!cursor.at_end()) {
    std::uint32_t tag = 0;
    if (!cursor.tag(tag) || !field(tag, cursor)) return false;
  }
  return true;
}

// The last bytes field of that number; nothing when there is none or the message is malformed.
std::optional<std::string_view> bytes_field(std::string_view message, std::uint32_t number) {
  std::optional<std::string_view> found;
  const bool whole = each_field(message, [&](std::uint32_t tag, Cursor& cursor) {
    if (tag != tag_of(number, kBytes)) return cursor.skip(tag);
    return cursor.bytes(found.emplace());
  });
  return whole ? found : std::nullopt;
}

// google.protobuf.Duration, rounded up so that nobody comes a moment early.
std::optional<std::chrono::milliseconds> duration(std::string_view message) {
  std::uint64_t seconds = 0;
  std::uint64_t nanos = 0;
  const bool whole = each_field(message, [&](std::uint32_t tag, Cursor& cursor) {
    if (tag == tag_of(1, kVarint)) return cursor.varint(seconds);
    if (tag == tag_of(2, kVarint)) return cursor.varint(nanos);
    return cursor.skip(tag);
  });
  if (!whole || nanos >= 1'000'000'000) return std::nullopt;
  // A negative one is a large number here.
  if (static_cast<std::int64_t>(seconds) < 0) return std::chrono::milliseconds(0);
  const std::chrono::seconds bounded(
      std::min<std::uint64_t>(seconds, static_cast<std::uint64_t>(kRetryAfterMax.count())));
  const std::chrono::milliseconds exact =
      bounded + std::chrono::milliseconds((nanos + 999'999) / 1'000'000);
  return std::min<std::chrono::milliseconds>(exact, kRetryAfterMax);
}

// google.rpc.Status.details is a list of google.protobuf.Any, one of which may be a RetryInfo.
std::optional<std::chrono::milliseconds> retry_info(std::string_view status) {
  std::optional<std::chrono::milliseconds> found;
  each_field(status, [&](std::uint32_t tag, Cursor& cursor) {
    if (tag != tag_of(3, kBytes)) return cursor.skip(tag);
    std::string_view any;
    if (!cursor.bytes(any)) return false;
    if (bytes_field(any, 1) != kRetryInfo) return true;
    const auto info = bytes_field(any, 2).value_or("");
    found = duration(bytes_field(info, 1).value_or(""));
    return true;
  });
  return found;
}

std::optional<GrpcCode> parse_code(std::string_view text) {
  std::uint32_t number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || problem != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return static_cast<GrpcCode>(number);
}

// The only message of the body; nothing when it is compressed, cut or not alone.
std::optional<std::string> only_message(std::string_view body) {
  if (body.size() < kPrefixBytes || body[0] != 0) return std::nullopt;
  std::size_t size = 0;
  for (std::size_t i = 1; i < kPrefixBytes; ++i) {
    size = size << 8 | static_cast<unsigned char>(body[i]);
  }
  if (body.size() - kPrefixBytes != size) return std::nullopt;
  return std::string(body.substr(kPrefixBytes));
}

}  // namespace

std::string code_name(GrpcCode code) {
  constexpr std::array<std::string_view, 17> kNames = {"OK",
                                                       "CANCELLED",
                                                       "UNKNOWN",
                                                       "INVALID_ARGUMENT",
                                                       "DEADLINE_EXCEEDED",
                                                       "NOT_FOUND",
                                                       "ALREADY_EXISTS",
                                                       "PERMISSION_DENIED",
                                                       "RESOURCE_EXHAUSTED",
                                                       "FAILED_PRECONDITION",
                                                       "ABORTED",
                                                       "OUT_OF_RANGE",
                                                       "UNIMPLEMENTED",
                                                       "INTERNAL",
                                                       "UNAVAILABLE",
                                                       "DATA_LOSS",
                                                       "UNAUTHENTICATED"};
  const auto number = static_cast<std::uint32_t>(code);
  if (number < kNames.size()) return std::string(kNames[number]);
  return "code " + std::to_string(number);
}

std::string grpc_body(std::string_view message) {
  TELEMETRYD_CHECK(message.size() <= UINT32_MAX);
  std::string body;
  body.reserve(kPrefixBytes + message.size());
  body.push_back(0);  // not compressed
  for (int shift = 24; shift >= 0; shift -= 8) {
    body.push_back(static_cast<char>(message.size() >> shift & 0xff));
  }
  return body.append(message);
}

void make_call(HttpRequest& request, std::string_view method, std::string_view message) {
  request.method = "POST";
  request.http2 = true;
  while (request.url.ends_with('/')) request.url.pop_back();
  request.url.append("/").append(method);
  request.body = grpc_body(message);
  request.headers.emplace_back("Content-Type: application/grpc");
  request.headers.emplace_back("TE: trailers");
  request.headers.push_back("Grpc-Timeout: " + std::to_string(request.total.count()) + "m");
}

GrpcAnswer read_answer(const HttpResponse& response) {
  GrpcAnswer answer;
  const std::string_view type = header(response, "content-type");
  if (response.status != 200 || !type.starts_with(kContentType)) return answer;
  answer.kind = GrpcAnswer::Kind::kStatus;
  const auto code = parse_code(header(response, "grpc-status"));
  if (!code) {
    answer.message = "the answer ended without a status";
    return answer;
  }
  answer.code = *code;
  answer.message = percent_decoded(header(response, "grpc-message"));
  if (const auto details = base64_decoded(header(response, "grpc-status-details-bin"))) {
    answer.retry_after = retry_info(*details);
  }
  if (answer.code != GrpcCode::kOk) return answer;
  auto message = only_message(response.body);
  if (!message) {
    answer.kind = GrpcAnswer::Kind::kForeign;
    return answer;
  }
  answer.body = std::move(*message);
  return answer;
}

}  // namespace telemetryd::forward
