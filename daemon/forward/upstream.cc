#include "forward/upstream.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "forward/version.h"

namespace telemetryd::forward {
namespace {

std::string without(std::string text, std::string_view secret) {
  constexpr std::string_view kShown = "[hidden]";
  for (std::size_t at = text.find(secret); at != std::string::npos;
       at = text.find(secret, at + kShown.size())) {
    text.replace(at, secret.size(), kShown);
  }
  return text;
}

}  // namespace

Result<Secret> read_secret(std::string_view key, const std::filesystem::path& file) {
  auto secret = Secret::read(file);
  if (!secret) return fail(secret.error().with_context(std::string(key)));
  return secret;
}

Result<UrlParts> split_url(std::string_view url) {
  UrlParts parts;
  parts.tls = url.starts_with("https://");
  if (!parts.tls && !url.starts_with("http://")) {
    return fail(ErrorCode::kInvalidArgument, "url must begin with https:// or http://");
  }
  std::string_view rest = url.substr(parts.tls ? 8 : 7);
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  std::string_view authority = rest.substr(0, slash);
  std::string_view path = rest.substr(slash);
  if (url.find_first_of("?#@ ") != std::string_view::npos || authority.empty()) {
    return fail(ErrorCode::kInvalidArgument, "url must be scheme, host, port and path, no more");
  }
  while (path.ends_with('/')) path.remove_suffix(1);
  parts.path = path;
  const bool bracketed = authority.starts_with('[');
  const std::size_t end = bracketed ? authority.find(']') : authority.find(':');
  parts.host = authority.substr(bracketed ? 1 : 0,
                                end == std::string_view::npos ? end : end - (bracketed ? 1 : 0));
  std::ranges::transform(parts.host, parts.host.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  return parts;
}

bool is_loopback(std::string_view host) {
  if (host == "localhost" || host == "::1") return true;
  // Only a dotted quad: "127.example.org" is somebody else.
  return host.starts_with("127.") &&
         host.find_first_not_of("0123456789.") == std::string_view::npos &&
         std::ranges::count(host, '.') == 3;
}

namespace {

Result<void> set_proxy(HttpRequest& request, const config::Destination& destination) {
  request.proxy = destination.proxy;
  if (destination.proxy_credentials_file.empty()) return {};
  TELEMETRYD_ASSIGN(request.proxy_credentials,
                    read_secret("proxy_credentials_file", destination.proxy_credentials_file));
  return {};
}

}  // namespace

Result<HttpRequest> base_request(const config::Destination& destination,
                                 std::string url,
                                 std::string_view suffix,
                                 const SinkContext& context) {
  TELEMETRYD_ASSIGN(const UrlParts parts, split_url(url));
  const bool loopback = is_loopback(parts.host);
  if (!parts.tls && !loopback && !destination.allow_plain_http) {
    return fail(ErrorCode::kFailedPrecondition,
                "plain http to " + parts.host + " is not allowed; use https");
  }
  while (url.ends_with('/')) url.pop_back();
  HttpRequest request;
  request.url = url.append(suffix);
  request.plain_http = !parts.tls;
  request.direct = loopback;
  TELEMETRYD_TRY(set_proxy(request, destination));
  if (parts.tls || destination.proxy.starts_with("https://")) {
    TELEMETRYD_ASSIGN(
        request.pem,
        context.http.pem_files().load(
            {destination.ca_file, destination.client_cert_file, destination.client_key_file}));
  }
  request.stall_max = context.request_timeout;
  request.total = context.request_timeout;
  request.now_s = context.clock.unix_ms() / 1000;
  // An empty value removes curl's own header: waiting for "100 Continue" costs a round trip.
  request.headers = {"Expect:", "User-Agent: " + std::string(kSender)};
  return request;
}

void set_body(HttpRequest& request, std::string body) {
  request.method = "POST";
  request.body = std::move(body);
  request.total += std::chrono::seconds(request.body.size() / kUploadBytesPerSecondMin);
}

void probe_health(const config::Destination& destination,
                  const std::string& url,
                  const SinkContext& context,
                  std::string (*describe)(const HttpResponse&),
                  const std::function<void(ProbeOutcome)>& done,
                  std::function<void()> healthy) {
  auto request = base_request(destination, url, "/health", context);
  if (!request) return done({false, printable(request.error().message())});
  request->method = "GET";
  context.http.start(std::move(*request),
                     [describe, done, healthy = std::move(healthy)](const HttpResponse& response) {
                       const bool answered = response.kind == HttpResponse::Kind::kAnswer;
                       if (answered && response.status == 200) return healthy();
                       done({false, printable("GET /health: " + describe(response))});
                     });
}

Result<Credentials> Credentials::read(const config::Destination& destination) {
  Credentials credentials;
  if (!destination.token_file.empty()) {
    TELEMETRYD_ASSIGN(credentials.token_, read_secret("token_file", destination.token_file));
  }
  TELEMETRYD_ASSIGN(credentials.secret_, read_secret("secret_file", destination.secret_file));
  return credentials;
}

void Credentials::authorize(HttpRequest& request) const {
  if (!token_) return;
  std::string header = "Authorization: Bearer ";
  header.reserve(header.size() + token_->text().size());
  header.append(token_->text());
  request.headers.push_back(std::move(header));
}

std::string Credentials::hide(std::string text) const {
  if (token_) text = without(std::move(text), token_->text());
  return without(std::move(text), secret_.text());
}

void Credentials::hide(v1::Outcome& outcome) const {
  outcome.set_error(hide(outcome.error()));
  for (auto& rejected : *outcome.mutable_rejected()) rejected.set_reason(hide(rejected.reason()));
}

}  // namespace telemetryd::forward
