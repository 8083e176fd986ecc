#include "forward/ingest_request.h"

#include <algorithm>
#include <sys/utsname.h>
#include <utility>

#include "base/bytes.h"
#include "base/digest.h"
#include "forward/version.h"
#include "kit/signature.h"

namespace telemetryd::forward {

Result<std::string> ingest_url(const config::Destination& destination) {
  if (!destination.staging) return destination.url;
  if (destination.staging_url.empty()) {
    return fail(ErrorCode::kFailedPrecondition, "staging is on, but there is no staging_url");
  }
  return destination.staging_url;
}

kit::Sender this_sender() {
  kit::Sender sender;
  sender.program = kSender;
  utsname names{};
  if (::uname(&names) != 0) return sender;
  sender.os = names.sysname;
  std::ranges::transform(sender.os, sender.os.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  sender.arch = names.machine;
  return sender;
}

Result<HttpRequest> ingest_request(const config::Destination& destination,
                                   const SinkContext& context,
                                   const Credentials& credentials,
                                   std::string body,
                                   std::size_t events) {
  TELEMETRYD_ASSIGN(const std::string url, ingest_url(destination));
  const std::string suffix = "/v1/ingest/" + destination.org + "/" + destination.app;
  TELEMETRYD_ASSIGN(HttpRequest request, base_request(destination, url, suffix, context));
  set_body(request, std::move(body));
  const std::string timestamp = std::to_string(context.clock.unix_ms() / 1000);
  const std::string nonce = uuid_text(random_bytes16());
  const auto form =
      destination.plain_signature ? kit::SignatureForm::kPlain : kit::SignatureForm::kNonce;
  const std::string text = kit::string_to_sign(form, {timestamp, nonce, request.body});
  credentials.authorize(request);
  for (const std::string& header :
       {"Content-Type: application/json" + std::string(),
        "X-Signature: " + to_hex(hmac_sha256(credentials.secret(), text)),
        "X-Timestamp: " + timestamp,
        "X-Nonce: " + nonce,
        "X-Batch-Size: " + std::to_string(events),
        "X-SDK-Version: " + std::string(kSender),
        "X-Schema-Version: " + std::string(kit::kSchemaVersion),
        std::string("X-Clacks-Overhead: GNU Terry Pratchett")}) {
    request.headers.push_back(header);
  }
  return request;
}

}  // namespace telemetryd::forward
