#include "forward/grpc_sink.h"

#include <utility>

#include "forward/grpc_delivery.h"
#include "forward/grpc_verdict.h"
#include "forward/grpc_wire.h"
#include "forward/upstream.h"
#include "forward/version.h"

namespace telemetryd::forward {
namespace {

constexpr std::string_view kPublish = "telemetry.v1.IngestService/Publish";
constexpr std::string_view kHealth = "grpc.health.v1.Health/Check";
// HealthCheckRequest.service = "telemetry.v1.IngestService".
constexpr std::string_view kHealthRequest = "\x0a\x1atelemetry.v1.IngestService";

// An upstream that quotes our token must not get it into logs and status.
std::string without(std::string text, std::string_view secret) {
  constexpr std::string_view kShown = "[hidden]";
  if (secret.empty()) return text;
  for (std::size_t at = text.find(secret); at != std::string::npos;
       at = text.find(secret, at + kShown.size())) {
    text.replace(at, secret.size(), kShown);
  }
  return text;
}

}  // namespace

struct GrpcSink::Delivery {
  Secret token;
  GrpcDelivery state;
  std::function<void(v1::Outcome)> done;
};

Result<Secret> GrpcSink::token() const {
  if (destination_.token_file.empty()) return Secret("");
  return Secret::read(destination_.token_file);
}

Result<HttpRequest> GrpcSink::base_request(const Secret& token) const {
  TELEMETRYD_ASSIGN(const UrlParts url, split_url(destination_.url));
  const bool loopback = is_loopback(url.host);
  if (!url.tls && !loopback) {
    return fail(ErrorCode::kFailedPrecondition,
                "events go to " + url.host + " over TLS only; use https");
  }
  HttpRequest request;
  request.url = destination_.url;
  request.ca_file = destination_.ca_file;
  request.client_cert_file = destination_.client_cert_file;
  request.client_key_file = destination_.client_key_file;
  request.plain_http = !url.tls;
  request.direct = loopback;
  request.stall_max = context_.request_timeout;
  request.total = context_.request_timeout;
  // An empty value removes curl's own header: waiting for "100 Continue" costs a round trip.
  request.headers = {"Expect:", "User-Agent: " + std::string(kSender)};
  if (token.text().empty()) return request;
  std::string authorization = "Authorization: Bearer ";
  authorization.reserve(authorization.size() + token.text().size());
  authorization.append(token.text());
  request.headers.push_back(std::move(authorization));
  return request;
}

void GrpcSink::begin(const v1::Lease& lease, std::function<void(v1::Outcome)> done) {
  // Whatever is wrong before the first byte is wrong with files or settings.
  auto secret = token();
  if (!secret) return done(hold(secret.error().message()));
  const auto tried = base_request(*secret);
  if (!tried) return done(hold(tried.error().message()));
  auto state = GrpcDelivery::make(lease, kCallsMax, kSplitsMax);
  if (!state) return done(hold(state.error().message()));
  start_calls(
      std::make_shared<Delivery>(Delivery{std::move(*secret), std::move(*state), std::move(done)}));
}

void GrpcSink::start_calls(const std::shared_ptr<Delivery>& delivery) {
  while (const auto call = delivery->state.next()) {
    auto request = base_request(delivery->token);
    if (!request) {
      delivery->state.took(*call,
                           {.fate = GrpcVerdict::Fate::kHold, .words = request.error().message()});
      continue;
    }
    const std::string message = publish_request(destination_.name, call->piece);
    request->total += std::chrono::seconds(message.size() / kUploadBytesPerSecondMin);
    make_call(*request, kPublish, message);
    context_.http.start(
        std::move(*request),
        [self = shared_from_this(), delivery, call = *call](const HttpResponse& response) {
          GrpcVerdict verdict = judge_publish(response);
          verdict.words = without(std::move(verdict.words), delivery->token.text());
          delivery->state.took(call, std::move(verdict));
          self->start_calls(delivery);
        });
  }
  if (delivery->state.finished()) delivery->done(delivery->state.outcome());
}

void GrpcSink::probe(std::function<void(ProbeOutcome)> done) {
  auto read = token();
  if (!read) return done({false, printable(read.error().message())});
  const auto secret = std::make_shared<Secret>(std::move(*read));
  auto request = base_request(*secret);
  if (!request) return done({false, printable(request.error().message())});
  make_call(*request, kHealth, kHealthRequest);
  context_.http.start(
      std::move(*request), [self = shared_from_this(), secret, done](const HttpResponse& response) {
        const auto healthy = judge_health(response);
        if (healthy) return self->probe_publish(secret, done);
        done({false, printable(without(healthy.error().message(), secret->text()))});
      });
}

void GrpcSink::probe_publish(const std::shared_ptr<Secret>& token,
                             std::function<void(ProbeOutcome)> done) {
  auto request = base_request(*token);
  if (!request) return done({false, printable(request.error().message())});
  make_call(*request, kPublish, "");
  context_.http.start(
      std::move(*request),
      [self = shared_from_this(), token, done = std::move(done)](const HttpResponse& response) {
        const auto asked = judge_empty_publish(response);
        if (asked) return done({true, "gRPC: the relay is serving and takes these credentials"});
        done({false, printable(without(asked.error().message(), token->text()))});
      });
}

}  // namespace telemetryd::forward
