#include "forward/native_sink.h"

#include <utility>

#include "base/bytes.h"
#include "base/digest.h"
#include "forward/native_verdict.h"
#include "forward/upstream.h"
#include "forward/version.h"

namespace telemetryd::forward {

struct NativeSink::Upload {
  Upload(Credentials credentials_arg, const v1::Lease& lease)
      : credentials(std::move(credentials_arg)), layout(lease) {}

  Credentials credentials;
  BatchLayout layout;
  HttpRequest request;
  std::string body_sha256;
  std::size_t body_bytes = 0;
};

Result<std::shared_ptr<NativeSink::Upload>> NativeSink::make_upload(const v1::Lease& lease) const {
  const std::string suffix = "/v1/native/" + destination_.org + "/" + destination_.app;
  TELEMETRYD_ASSIGN(HttpRequest request,
                    base_request(destination_, destination_.url, suffix, context_));
  TELEMETRYD_ASSIGN(const UrlParts url, split_url(destination_.url));
  TELEMETRYD_ASSIGN(Credentials credentials, Credentials::read(destination_));
  auto upload = std::make_shared<Upload>(std::move(credentials), lease);

  const UnixMs now = context_.clock.unix_ms();
  const std::string path = url.path + suffix;
  const std::string timestamp = std::to_string(now / 1000);
  const std::string nonce = uuid_text(random_bytes16());
  set_body(request, native_body(lease, now, kSender));
  upload->body_sha256.assign(as_text(sha256(request.body)));
  upload->body_bytes = request.body.size();
  upload->credentials.authorize(request);
  request.headers.push_back("Content-Type: application/x-protobuf");
  request.headers.push_back("X-Timestamp: " + timestamp);
  request.headers.push_back("X-Nonce: " + nonce);
  request.headers.push_back("X-Signature: " + sign(upload->credentials.secret(),
                                                   {"POST", path, timestamp, nonce, request.body}));
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
                        upload->credentials.hide(outcome);
                        outcome.set_body_bytes(upload->body_bytes);
                        outcome.set_body_sha256(upload->body_sha256);
                        done(std::move(outcome));
                      });
}

void NativeSink::probe(std::function<void(ProbeOutcome)> done) {
  probe_health(
      destination_, destination_.url, context_, describe, done, [self = shared_from_this(), done] {
        self->probe_upload(done);
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
        done({false, upload->credentials.hide("upload without events: " + outcome.error())});
      });
}

}  // namespace telemetryd::forward
