#include "forward/native_sink.h"

#include <utility>

#include <openssl/sha.h>

#include "base/bytes.h"
#include "forward/native_verdict.h"
#include "forward/secret.h"
#include "forward/version.h"

namespace telemetryd::forward {
namespace {

// An upstream that quotes our credentials must not get them into logs and status.
std::string without(std::string text, std::string_view secret) {
  constexpr std::string_view kShown = "[hidden]";
  for (std::size_t at = text.find(secret); at != std::string::npos;
       at = text.find(secret, at + kShown.size())) {
    text.replace(at, secret.size(), kShown);
  }
  return text;
}

}  // namespace

struct NativeSink::Upload {
  Upload(Secret token_arg, Secret secret_arg, const v1::Lease& lease)
      : token(std::move(token_arg)), secret(std::move(secret_arg)), layout(lease) {}

  Secret token;
  Secret secret;
  BatchLayout layout;
  HttpRequest request;
  std::string body_sha256;
  std::size_t body_bytes = 0;

  std::string clean(std::string text) const {
    return without(without(std::move(text), token.text()), secret.text());
  }
};

Result<HttpRequest> NativeSink::base_request() const {
  TELEMETRYD_ASSIGN(const UrlParts url, split_url(destination_.url));
  const bool loopback = is_loopback(url.host);
  if (!url.tls && !loopback && !destination_.allow_plain_http) {
    return fail(ErrorCode::kFailedPrecondition,
                "plain http to " + url.host + " is not allowed; use https");
  }
  HttpRequest request;
  request.ca_file = destination_.ca_file;
  request.client_cert_file = destination_.client_cert_file;
  request.client_key_file = destination_.client_key_file;
  request.plain_http = !url.tls;
  request.direct = loopback;
  request.stall_max = context_.request_timeout;
  request.total = context_.request_timeout;
  // An empty value removes curl's own header: waiting for "100 Continue" costs a round trip.
  request.headers = {"Expect:", "User-Agent: " + std::string(kSender)};
  return request;
}

Result<std::shared_ptr<NativeSink::Upload>> NativeSink::make_upload(const v1::Lease& lease) const {
  TELEMETRYD_ASSIGN(HttpRequest request, base_request());
  TELEMETRYD_ASSIGN(const UrlParts url, split_url(destination_.url));
  TELEMETRYD_ASSIGN(Secret token, Secret::read(destination_.token_file));
  TELEMETRYD_ASSIGN(Secret secret, Secret::read(destination_.secret_file));
  auto upload = std::make_shared<Upload>(std::move(token), std::move(secret), lease);

  const std::string suffix = "/v1/native/" + destination_.org + "/" + destination_.app;
  const std::string path = url.path + suffix;
  std::string base = destination_.url;
  while (base.ends_with('/')) base.pop_back();
  const UnixMs now = context_.clock.unix_ms();
  const std::string timestamp = std::to_string(now / 1000);
  const std::string nonce = uuid_text(random_bytes16());

  request.method = "POST";
  request.url = base + suffix;
  request.body = native_body(lease, now, kSender);
  std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest{};
  SHA256(as_bytes(request.body).data(), request.body.size(), digest.data());
  upload->body_sha256.assign(as_text(digest));
  upload->body_bytes = request.body.size();
  request.total += std::chrono::seconds(request.body.size() / kUploadBytesPerSecondMin);
  const std::string signature =
      sign(upload->secret.text(), {"POST", path, timestamp, nonce, request.body});
  std::string authorization = "Authorization: Bearer ";
  authorization.reserve(authorization.size() + upload->token.text().size());
  authorization.append(upload->token.text());
  request.headers.push_back(std::move(authorization));
  request.headers.push_back("Content-Type: application/x-protobuf");
  request.headers.push_back("X-Timestamp: " + timestamp);
  request.headers.push_back("X-Nonce: " + nonce);
  request.headers.push_back("X-Signature: " + signature);
  request.headers.push_back("X-Batch-Size: " + std::to_string(upload->layout.events()));
  upload->request = std::move(request);
  return upload;
}

void NativeSink::begin(const v1::Lease& lease, std::function<void(v1::Outcome)> done) {
  auto made = make_upload(lease);
  // Whatever is wrong before the first byte is wrong with files or settings.
  if (!made) return done(hold(made.error().message()));
  const std::shared_ptr<Upload> upload = *made;
  context_.http.start(std::move(upload->request),
                      [self = shared_from_this(), upload, done](const HttpResponse& response) {
                        v1::Outcome outcome = judge(response, upload->layout);
                        outcome.set_error(upload->clean(outcome.error()));
                        for (auto& rejected : *outcome.mutable_rejected()) {
                          rejected.set_reason(upload->clean(rejected.reason()));
                        }
                        outcome.set_body_bytes(upload->body_bytes);
                        outcome.set_body_sha256(upload->body_sha256);
                        done(std::move(outcome));
                      });
}

void NativeSink::probe(std::function<void(ProbeOutcome)> done) {
  auto request = base_request();
  if (!request) return done({false, printable(request.error().message())});
  request->method = "GET";
  request->url = destination_.url;
  while (request->url.ends_with('/')) request->url.pop_back();
  request->url += "/health";
  context_.http.start(std::move(*request),
                      [self = shared_from_this(), done](const HttpResponse& response) {
                        const bool answered = response.kind == HttpResponse::Kind::kAnswer;
                        if (answered && response.status == 200) return self->probe_upload(done);
                        done({false, printable("GET /health: " + describe(response))});
                      });
}

void NativeSink::probe_upload(std::function<void(ProbeOutcome)> done) {
  v1::Lease empty;
  empty.set_attempt(1);
  auto made = make_upload(empty);
  if (!made) return done({false, printable(made.error().message())});
  const std::shared_ptr<Upload> upload = *made;
  context_.http.start(
      std::move(upload->request),
      [self = shared_from_this(), upload, done](const HttpResponse& response) {
        const v1::Outcome outcome = judge(response, upload->layout);
        if (outcome.verdict() == v1::VERDICT_DELIVERED) {
          return done({true, "connected and authenticated; an upload without events was accepted"});
        }
        done({false, upload->clean("upload without events: " + outcome.error())});
      });
}

}  // namespace telemetryd::forward
