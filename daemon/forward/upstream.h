// forward/upstream.h: what every HTTP upstream needs: its address, our credentials, a request.
//
// Thread:  any; no state.
// Limits:  kUploadBytesPerSecondMin gives slow links time beyond request_timeout.
// Fails:   kInvalidArgument for an address that is none, kFailedPrecondition for plain http beyond
//          this machine, otherwise as Secret::read.

#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/secret.h"
#include "config/config.h"
#include "forward/http.h"
#include "forward/sink.h"

namespace telemetryd::forward {

inline constexpr std::size_t kUploadBytesPerSecondMin = 16u << 10;

// Scheme, host and path of a configured url.
struct UrlParts {
  bool tls = false;
  std::string host;  // without port, brackets and case
  std::string path;  // without a final slash; may be empty
};

[[nodiscard]] Result<UrlParts> split_url(std::string_view url);
// localhost, 127.0.0.0/8, ::1.
bool is_loopback(std::string_view host);

// A request to `url` + `suffix` with the destination's certificates and our time-outs, without
// method and body.
[[nodiscard]] Result<HttpRequest> base_request(const config::Destination& destination,
                                               std::string url,
                                               std::string_view suffix,
                                               const SinkContext& context);

// Makes it a POST of `body` that has time for a slow link.
void set_body(HttpRequest& request, std::string body);

// GET {url}/health: `healthy` goes on after a 200, anything else ends the probe.
void probe_health(const config::Destination& destination,
                  const std::string& url,
                  const SinkContext& context,
                  std::string (*describe)(const HttpResponse&),
                  const std::function<void(ProbeOutcome)>& done,
                  std::function<void()> healthy);

// A problem names the key of the destination and the file.
[[nodiscard]] Result<Secret> read_secret(std::string_view key, const std::filesystem::path& file);

// Token and secret, read for one request and wiped after it.
class Credentials {
 public:
  // A destination without a token file has no token.
  [[nodiscard]] static Result<Credentials> read(const config::Destination& destination);

  std::string_view secret() const { return secret_.text(); }

  // Adds the bearer token, if there is one.
  void authorize(HttpRequest& request) const;

  // An upstream that quotes our credentials must not get them into logs and status.
  std::string hide(std::string text) const;
  void hide(v1::Outcome& outcome) const;

 private:
  std::optional<Secret> token_;
  Secret secret_;
};

}  // namespace telemetryd::forward
