#include "forward/grpc_sink.h"

#include <algorithm>
#include <utility>

#include "base/rfc3339.h"
#include "forward/grpc_delivery.h"
#include "forward/grpc_verdict.h"
#include "forward/upstream.h"

namespace telemetryd::forward {
namespace {

constexpr std::string_view kPublish = "/telemetry.v1.IngestService/Publish";
constexpr std::string_view kHealth = "/grpc.health.v1.Health/Check";
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

// Host and port of an url that split_url() takes.
std::string address_of(std::string_view url, bool tls) {
  const std::string_view rest = url.substr(url.find("//") + 2);
  const std::string_view authority = rest.substr(0, rest.find('/'));
  const std::size_t after_host = authority.starts_with('[') ? authority.find(']') : 0;
  const bool port = authority.find(':', after_host) != std::string_view::npos;
  return std::string(authority) + (port ? "" : tls ? ":443" : ":80");
}

// With a proxy of ours it is the proxy that is looked up and connected to.
void name_proxy(GrpcVerdict& verdict) {
  if (verdict.cause != v1::CAUSE_CONNECT && verdict.cause != v1::CAUSE_NAME_RESOLUTION) return;
  verdict.cause = v1::CAUSE_PROXY;
  verdict.words = printable("proxy: " + verdict.words);
}

}  // namespace

struct GrpcSink::Delivery {
  std::shared_ptr<GrpcChannel> channel;
  Secret token;
  GrpcDelivery state;
  std::function<void(v1::Outcome)> done;
  v1::Outcome beside;  // what answers said beside their verdicts
};

Result<Secret> GrpcSink::token() const {
  if (destination_.token_file.empty()) return Secret();
  TELEMETRYD_ASSIGN(Secret secret, read_secret("token_file", destination_.token_file));
  if (std::ranges::all_of(secret.text(), [](char c) { return c >= ' ' && c <= '~'; })) {
    return secret;
  }
  return fail(
      ErrorCode::kInvalidArgument,
      "token_file: " + destination_.token_file.native() + ": a token is printable ASCII only");
}

Result<std::shared_ptr<GrpcChannel>> GrpcSink::channel() {
  if (auto shared = channel_.lock()) return shared;
  TELEMETRYD_ASSIGN(const UrlParts url, split_url(destination_.url));
  const bool loopback = is_loopback(url.host);
  if (!url.tls && !loopback) {
    return fail(ErrorCode::kFailedPrecondition,
                "events go to " + url.host + " over TLS only; use https");
  }
  GrpcPeer peer;
  peer.address = address_of(destination_.url, url.tls);
  peer.tls = url.tls;
  peer.proxy = destination_.proxy;
  peer.direct = loopback && peer.proxy.empty();
  peer.pem_files = {
      destination_.ca_file, destination_.client_cert_file, destination_.client_key_file};
  auto opened = context_.grpc.open(peer);
  if (opened) channel_ = *opened;
  return opened;
}

void GrpcSink::begin(const v1::Lease& lease, std::function<void(v1::Outcome)> done) {
  // Whatever is wrong before the first byte is wrong with files or settings.
  auto secret = token();
  if (!secret) return done(hold(secret.error().message()));
  auto opened = channel();
  if (!opened) return done(hold(opened.error().message()));
  auto state = GrpcDelivery::make(lease, kCallsMax);
  if (!state) return done(hold(state.error().message()));
  start_calls(std::make_shared<Delivery>(
      Delivery{std::move(*opened), std::move(*secret), std::move(*state), std::move(done), {}}));
}

void GrpcSink::start_calls(const std::shared_ptr<Delivery>& delivery) {
  while (const auto next = delivery->state.next()) {
    call(delivery->channel,
         kPublish,
         publish_request(destination_.name, next->piece),
         delivery->token,
         [self = shared_from_this(), delivery, next = *next](const GrpcAnswer& answer) {
           GrpcVerdict verdict = judge_publish(answer);
           note(answer, delivery->beside);
           if (!self->destination_.proxy.empty()) name_proxy(verdict);
           self->look_at_certificate(answer, verdict);
           verdict.words = without(std::move(verdict.words), delivery->token.text());
           delivery->state.took(next, std::move(verdict));
           self->start_calls(delivery);
         });
  }
  if (!delivery->state.finished()) return;
  if (const auto done = std::exchange(delivery->done, nullptr)) {
    v1::Outcome outcome = delivery->state.outcome();
    outcome.MergeFrom(delivery->beside);
    done(std::move(outcome));
  }
}

void GrpcSink::look_at_certificate(const GrpcAnswer& answer, GrpcVerdict& verdict) const {
  if (!answer.closed && verdict.cause != v1::CAUSE_TLS) return;
  const std::int64_t expires = answer.certificate_expires_s;
  if (expires != 0 && expires < context_.clock.unix_ms() / 1000) {
    verdict.fate = GrpcVerdict::Fate::kHold;
    verdict.cause = v1::CAUSE_TLS;
    verdict.words += "; client_cert_file expired on " + rfc3339_seconds(expires) + ": renew it";
  } else if (answer.closed) {
    verdict.words += on_closed();
  }
}

// TLS 1.3 servers judge a client's certificate after the handshake, and those of gRPC close without
// a word.
std::string_view GrpcSink::on_closed() const {
  if (!destination_.url.starts_with("https:")) return "";
  if (destination_.client_cert_file.empty()) {
    return "; so closes a relay that asks for a client_cert_file";
  }
  return "; so closes a relay whose [gateway] client_ca_file did not sign client_cert_file";
}

void GrpcSink::call(const std::shared_ptr<GrpcChannel>& channel,
                    std::string_view method,
                    std::string message,
                    const Secret& token,
                    std::function<void(const GrpcAnswer&)> done) const {
  const auto url = split_url(destination_.url);
  GrpcCall call;
  if (url) call.method = url->path;
  call.method.append(method);
  call.total =
      context_.request_timeout + std::chrono::seconds(message.size() / kUploadBytesPerSecondMin);
  call.message = std::move(message);
  call.bearer = token.text();
  context_.grpc.start(channel, call, std::move(done));
}

void GrpcSink::probe(std::function<void(ProbeOutcome)> done) {
  auto read = token();
  if (!read) return done({false, printable(read.error().message())});
  const auto opened = channel();
  if (!opened) return done({false, printable(opened.error().message())});
  const auto secret = std::make_shared<const Secret>(std::move(*read));
  const auto failed = [secret, done](const Error& error) {
    done({false, printable(without(error.message(), secret->text()))});
  };
  const auto published = [done, failed](const GrpcAnswer& answer) {
    if (const auto asked = judge_empty_publish(answer); !asked) return failed(asked.error());
    done({true, "gRPC: the relay is serving and takes these credentials"});
  };
  call(*opened,
       kHealth,
       std::string(kHealthRequest),
       *secret,
       [self = shared_from_this(), channel = *opened, secret, failed, published](
           const GrpcAnswer& answer) {
         if (const auto healthy = judge_health(answer); !healthy) return failed(healthy.error());
         self->call(channel, kPublish, "", *secret, published);
       });
}

}  // namespace telemetryd::forward
