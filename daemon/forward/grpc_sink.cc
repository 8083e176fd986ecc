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
  std::shared_ptr<const Secret> token;
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
  start_calls(std::make_shared<Delivery>(Delivery{
      std::make_shared<const Secret>(std::move(*secret)), std::move(*state), std::move(done)}));
}

void GrpcSink::start_calls(const std::shared_ptr<Delivery>& delivery) {
  while (const auto next = delivery->state.next()) {
    const auto publish =
        std::make_shared<Call>(Call{kPublish, publish_request(destination_.name, next->piece)});
    call(publish,
         delivery->token,
         [self = shared_from_this(), delivery, next = *next](const HttpResponse& response) {
           GrpcVerdict verdict = judge_publish(response);
           // gRPC servers of OpenSSL ask for a certificate, and close without a word when none
           // comes.
           if (response.closed && self->destination_.client_cert_file.empty()) {
             verdict.words += "; so closes a relay that asks for a client_cert_file";
           }
           verdict.words = without(std::move(verdict.words), delivery->token->text());
           delivery->state.took(next, std::move(verdict));
           self->start_calls(delivery);
         });
  }
  if (!delivery->state.finished()) return;
  if (const auto done = std::exchange(delivery->done, nullptr)) done(delivery->state.outcome());
}

void GrpcSink::call(const std::shared_ptr<Call>& what,
                    const std::shared_ptr<const Secret>& token,
                    std::function<void(const HttpResponse&)> done) {
  auto request = base_request(*token);
  if (!request) {
    HttpResponse none;
    none.kind = HttpResponse::Kind::kSetup;
    none.problem = request.error().message();
    return done(none);
  }
  request->total += std::chrono::seconds(what->message.size() / kUploadBytesPerSecondMin);
  make_call(*request, what->method, what->message);
  ++what->tries;
  context_.http.start(std::move(*request),
                      [self = shared_from_this(), what, token, done = std::move(done)](
                          const HttpResponse& response) {
                        if (response.reset && what->tries < kTriesMax) {
                          return self->call(what, token, done);
                        }
                        done(response);
                      });
}

void GrpcSink::probe(std::function<void(ProbeOutcome)> done) {
  auto read = token();
  if (!read) return done({false, printable(read.error().message())});
  const auto secret = std::make_shared<const Secret>(std::move(*read));
  const auto failed = [secret, done](const Error& error) {
    done({false, printable(without(error.message(), secret->text()))});
  };
  const auto published = [done, failed](const HttpResponse& response) {
    if (const auto asked = judge_empty_publish(response); !asked) return failed(asked.error());
    done({true, "gRPC: the relay is serving and takes these credentials"});
  };
  const auto health = std::make_shared<Call>(Call{kHealth, std::string(kHealthRequest)});
  call(health,
       secret,
       [self = shared_from_this(), secret, failed, published](const HttpResponse& response) {
         if (const auto healthy = judge_health(response); !healthy) return failed(healthy.error());
         self->call(std::make_shared<Call>(Call{kPublish, ""}), secret, published);
       });
}

}  // namespace telemetryd::forward
