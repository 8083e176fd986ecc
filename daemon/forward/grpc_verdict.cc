#include "forward/grpc_verdict.h"

#include <algorithm>

#include "event/wire.h"
#include "forward/grpc_wire.h"
#include "forward/sink.h"

namespace telemetryd::forward {
namespace {

using Fate = GrpcVerdict::Fate;

std::string advice(GrpcCode code) {
  switch (code) {
    case GrpcCode::kUnauthenticated:
      return "token_file must hold the token that the relay's [gateway] token_file holds";
    case GrpcCode::kPermissionDenied:
      return "let the relay collect this app: `telemetryctl consent status` there";
    case GrpcCode::kUnimplemented:
    case GrpcCode::kNotFound: return "is url a telemetryd-gateway?";
    default: return "";
  }
}

std::string describe(const GrpcAnswer& answer) {
  std::string text = code_name(answer.code);
  if (!answer.message.empty()) text += ": " + answer.message;
  if (const std::string next = advice(answer.code); !next.empty()) text += "; " + next;
  return printable(text);
}

Fate fate_of(const GrpcAnswer& answer) {
  switch (answer.code) {
    case GrpcCode::kOk: return Fate::kAccepted;
    case GrpcCode::kInvalidArgument: return Fate::kInvalid;
    case GrpcCode::kResourceExhausted: return answer.retry_after ? Fate::kRetry : Fate::kTooLarge;
    case GrpcCode::kUnavailable:
    case GrpcCode::kAborted:
    case GrpcCode::kDeadlineExceeded:
    case GrpcCode::kCancelled:
    case GrpcCode::kUnknown:
    case GrpcCode::kInternal: return Fate::kRetry;
    default: return Fate::kHold;
  }
}

// PublishResponse.acknowledged of the only request of its instance must be its number.
bool acknowledges(std::string_view response) {
  event::Cursor cursor(response);
  std::uint64_t acknowledged = 0;
  while (!cursor.at_end()) {
    std::uint32_t tag = 0;
    if (!cursor.tag(tag)) return false;
    const bool read =
        tag == event::tag_of(1, event::kVarint) ? cursor.varint(acknowledged) : cursor.skip(tag);
    if (!read) return false;
  }
  return acknowledged == 1;
}

bool heals_with_time(long status) {
  return status == 408 || status == 425 || status == 429 || status >= 500;
}

std::string foreign(const HttpResponse& response) {
  return "status " + std::to_string(response.status) +
         " from something that is not telemetryd-gateway; check url, and whether a proxy or a "
         "captive portal is in the way";
}

GrpcVerdict judge_foreign(const HttpResponse& response) {
  if (!heals_with_time(response.status)) return {.fate = Fate::kHold, .words = foreign(response)};
  const std::chrono::milliseconds named(response.retry_after);
  return {.fate = Fate::kRetry,
          .retry_after = std::min<std::chrono::milliseconds>(named, std::chrono::hours(1)),
          .words = foreign(response)};
}

std::string no_answer(const HttpResponse& response) {
  switch (response.kind) {
    case HttpResponse::Kind::kTls:
      return printable("TLS: " + response.problem +
                       "; check ca_file, client_cert_file and client_key_file");
    case HttpResponse::Kind::kTooLarge:
      return "answer larger than " + std::to_string(Http::kBodyBytesMax) + " bytes";
    default: return printable(response.problem);
  }
}

GrpcVerdict judge_silence(const HttpResponse& response) {
  const bool person =
      response.kind == HttpResponse::Kind::kTls || response.kind == HttpResponse::Kind::kSetup;
  return {.fate = person ? Fate::kHold : Fate::kRetry, .words = no_answer(response)};
}

Error unreachable(std::string_view what, const HttpResponse& response) {
  std::string words =
      response.kind == HttpResponse::Kind::kAnswer ? foreign(response) : no_answer(response);
  return {ErrorCode::kUnavailable, std::string(what) + ": " + words};
}

}  // namespace

GrpcVerdict judge_publish(const HttpResponse& response) {
  if (response.kind != HttpResponse::Kind::kAnswer) return judge_silence(response);
  const GrpcAnswer answer = read_answer(response);
  if (answer.kind == GrpcAnswer::Kind::kForeign) return judge_foreign(response);
  if (answer.code == GrpcCode::kOk && !acknowledges(answer.body)) {
    return {.fate = Fate::kHold,
            .words =
                "OK without the acknowledgement that belongs to it; "
                "is url a telemetryd-gateway?"};
  }
  GrpcVerdict verdict;
  verdict.fate = fate_of(answer);
  verdict.code = static_cast<std::uint32_t>(answer.code);
  if (verdict.fate == Fate::kRetry && answer.retry_after) verdict.retry_after = *answer.retry_after;
  if (verdict.fate != Fate::kAccepted) verdict.words = describe(answer);
  return verdict;
}

Result<void> judge_health(const HttpResponse& response) {
  constexpr std::string_view kServing("\x08\x01", 2);  // HealthCheckResponse.status
  if (response.kind != HttpResponse::Kind::kAnswer) return fail(unreachable("health", response));
  const GrpcAnswer answer = read_answer(response);
  if (answer.kind == GrpcAnswer::Kind::kForeign) return fail(unreachable("health", response));
  if (answer.code != GrpcCode::kOk) {
    return fail(ErrorCode::kUnavailable, "health: " + describe(answer));
  }
  if (answer.body == kServing) return {};
  return fail(ErrorCode::kUnavailable,
              "health: not serving; telemetryd on that machine cannot be reached by its gateway");
}

Result<void> judge_empty_publish(const HttpResponse& response) {
  if (response.kind != HttpResponse::Kind::kAnswer) return fail(unreachable("Publish", response));
  const GrpcAnswer answer = read_answer(response);
  if (answer.kind == GrpcAnswer::Kind::kForeign) return fail(unreachable("Publish", response));
  if (answer.code == GrpcCode::kInvalidArgument) return {};
  return fail(ErrorCode::kUnavailable, "Publish: " + describe(answer));
}

}  // namespace telemetryd::forward
