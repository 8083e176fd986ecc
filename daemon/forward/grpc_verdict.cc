#include "forward/grpc_verdict.h"

#include "event/wire.h"
#include "forward/mutes.h"
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
    case GrpcCode::kInternal:
    case GrpcCode::kOutOfRange:
    case GrpcCode::kDataLoss: return Fate::kRetry;
    default: return Fate::kHold;
  }
}

v1::Cause cause_of_code(const GrpcAnswer& answer) {
  switch (answer.code) {
    case GrpcCode::kUnauthenticated:
    case GrpcCode::kPermissionDenied: return v1::CAUSE_AUTHENTICATION;
    case GrpcCode::kUnimplemented:
    case GrpcCode::kNotFound: return v1::CAUSE_ENDPOINT;
    case GrpcCode::kInvalidArgument: return v1::CAUSE_BAD_REQUEST;
    case GrpcCode::kResourceExhausted:
      return answer.retry_after ? v1::CAUSE_RATE_LIMIT : v1::CAUSE_SIZE;
    case GrpcCode::kDeadlineExceeded: return v1::CAUSE_TIMEOUT;
    case GrpcCode::kUnavailable:
    case GrpcCode::kAborted:
    case GrpcCode::kCancelled:
    case GrpcCode::kUnknown:
    case GrpcCode::kInternal:
    case GrpcCode::kDataLoss: return v1::CAUSE_SERVER;
    default: return v1::CAUSE_UNEXPECTED_ANSWER;
  }
}

// What answers with HTTP where gRPC is spoken.
v1::Cause cause_of_foreign(long status) {
  if (status == 407) return v1::CAUSE_PROXY;
  if (status == 401 || status == 403) return v1::CAUSE_AUTHENTICATION;
  if (status == 429) return v1::CAUSE_RATE_LIMIT;
  if (status == 511) return v1::CAUSE_CAPTIVE_PORTAL;
  if (status >= 500) return v1::CAUSE_SERVER;
  if (status >= 300) return v1::CAUSE_ENDPOINT;
  return status >= 200 ? v1::CAUSE_CAPTIVE_PORTAL : v1::CAUSE_UNEXPECTED_ANSWER;
}

v1::Cause cause_of(const GrpcAnswer& answer) {
  switch (answer.kind) {
    case GrpcAnswer::Kind::kForeign: return cause_of_foreign(answer.http_status);
    case GrpcAnswer::Kind::kTls: return v1::CAUSE_TLS;
    case GrpcAnswer::Kind::kTooLarge: return v1::CAUSE_UNEXPECTED_ANSWER;
    case GrpcAnswer::Kind::kStatus:
    case GrpcAnswer::Kind::kSetup: break;
  }
  if (answer.connection != v1::CAUSE_UNSPECIFIED) return answer.connection;
  const bool answered = answer.kind == GrpcAnswer::Kind::kStatus;
  return answered ? cause_of_code(answer) : v1::CAUSE_CONFIGURATION;
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
  return status == 408 || status == 425 || status == 429 || (status >= 500 && status != 511);
}

// What to say, and whether time heals it, when there is no status of a telemetryd-gateway.
std::string without_status(const GrpcAnswer& answer) {
  switch (answer.kind) {
    case GrpcAnswer::Kind::kForeign:
      return (answer.http_status == 0 ? "an answer"
                                      : "status " + std::to_string(answer.http_status)) +
             " from something that is not telemetryd-gateway; check url, and whether a proxy or a "
             "captive portal is in the way";
    case GrpcAnswer::Kind::kTls:
      return printable("TLS: " + answer.message +
                       "; check ca_file, client_cert_file and client_key_file");
    default: return printable(answer.message);
  }
}

Fate fate_without_status(const GrpcAnswer& answer) {
  switch (answer.kind) {
    case GrpcAnswer::Kind::kForeign:
      return heals_with_time(answer.http_status) ? Fate::kRetry : Fate::kHold;
    case GrpcAnswer::Kind::kTooLarge: return Fate::kRetry;
    default: return Fate::kHold;
  }
}

std::string words_of(const GrpcAnswer& answer) {
  return answer.kind == GrpcAnswer::Kind::kStatus ? describe(answer) : without_status(answer);
}

}  // namespace

GrpcVerdict judge_publish(const GrpcAnswer& answer) {
  if (answer.kind != GrpcAnswer::Kind::kStatus) {
    return {.fate = fate_without_status(answer),
            .words = without_status(answer),
            .cause = cause_of(answer)};
  }
  if (answer.code == GrpcCode::kOk && !acknowledges(answer.body)) {
    return {.fate = Fate::kHold,
            .words =
                "OK without the acknowledgement that belongs to it; "
                "is url a telemetryd-gateway?",
            .cause = v1::CAUSE_UNEXPECTED_ANSWER};
  }
  GrpcVerdict verdict;
  verdict.fate = fate_of(answer);
  verdict.code = static_cast<std::uint32_t>(answer.code);
  if (verdict.fate == Fate::kRetry && answer.retry_after) verdict.retry_after = *answer.retry_after;
  if (verdict.fate == Fate::kAccepted) return verdict;
  verdict.words = describe(answer);
  verdict.cause = cause_of(answer);
  return verdict;
}

void note(const GrpcAnswer& answer, v1::Outcome& outcome) {
  add_mutes(answer.mutes, outcome);
  if (answer.certificate_expires_s <= 0) return;
  outcome.set_certificate_expires_unix_s(static_cast<std::uint64_t>(answer.certificate_expires_s));
}

Result<void> judge_health(const GrpcAnswer& answer) {
  constexpr std::string_view kServing("\x08\x01", 2);  // HealthCheckResponse.status
  if (answer.kind != GrpcAnswer::Kind::kStatus || answer.code != GrpcCode::kOk) {
    return fail(ErrorCode::kUnavailable, "health: " + words_of(answer));
  }
  if (answer.body == kServing) return {};
  return fail(ErrorCode::kUnavailable,
              "health: not serving; telemetryd on that machine cannot be reached by its gateway");
}

Result<void> judge_empty_publish(const GrpcAnswer& answer) {
  const bool status = answer.kind == GrpcAnswer::Kind::kStatus;
  if (status && answer.code == GrpcCode::kInvalidArgument) return {};
  return fail(ErrorCode::kUnavailable, "Publish: " + words_of(answer));
}

}  // namespace telemetryd::forward
