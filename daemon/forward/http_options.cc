#include "forward/http_options.h"

#include <algorithm>
#include <cstdint>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
#include <string_view>
#include <sys/socket.h>

#include "base/secret.h"

namespace telemetryd::forward {
namespace {

// Below this many bytes a second for stall_max, a transfer counts as standing still.
constexpr long kStallBytesPerSecond = 16;

void set_limits(CURL* easy, const HttpRequest& request) {
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, request.plain_http ? "http,https" : "https");
  curl_easy_setopt(easy,
                   CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(std::min(Http::kConnectMax, request.total).count()));
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(request.total.count()));
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, kStallBytesPerSecond);
  curl_easy_setopt(easy,
                   CURLOPT_LOW_SPEED_TIME,
                   static_cast<long>(std::max<std::int64_t>(1, request.stall_max.count() / 1000)));
}

// A connection that was cut without a word: sent bytes must be acknowledged in the time that a
// transfer may stand still, and a quiet one is asked.
int on_socket(void* request, curl_socket_t fd, curlsocktype) noexcept {
  const auto patience =
      static_cast<unsigned>(static_cast<const HttpRequest*>(request)->stall_max.count());
  ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof patience);
  return CURL_SOCKOPT_OK;
}

void set_connection(CURL* easy, const HttpRequest& request) {
  curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, &on_socket);
  curl_easy_setopt(easy, CURLOPT_SOCKOPTDATA, &request);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 30L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 10L);
  // Every new connection asks again: the old address may be what does not work.
  curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
}

void set_proxy(CURL* easy, const HttpRequest& request) {
  if (request.proxy.empty()) {
    if (request.direct) curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    return;
  }
  curl_easy_setopt(easy, CURLOPT_PROXY, request.proxy.c_str());
  // What the configuration says is not for the environment to take back.
  curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
  const std::string_view credentials = request.proxy_credentials.text();
  if (credentials.empty()) return;
  const std::size_t colon = std::min(credentials.find(':'), credentials.size());
  std::string user(credentials.substr(0, colon));
  std::string password(credentials.substr(std::min(colon + 1, credentials.size())));
  curl_easy_setopt(easy, CURLOPT_PROXYUSERNAME, user.c_str());
  curl_easy_setopt(easy, CURLOPT_PROXYPASSWORD, password.c_str());
  wipe(user);
  wipe(password);
}

// Not copied: the request outlives the handle.
void set_blob(CURL* easy, CURLoption option, std::string_view text) {
  if (text.empty()) return;
  curl_blob blob{const_cast<char*>(text.data()), text.size(), CURL_BLOB_NOCOPY};
  curl_easy_setopt(easy, option, &blob);
}

// By content and not by name: a connection counts as the same only with the same certificates.
void set_pem(CURL* easy, const Pem& pem) {
  set_blob(easy, CURLOPT_SSLCERT_BLOB, pem.certificate);
  set_blob(easy, CURLOPT_SSLKEY_BLOB, pem.key.text());
  if (pem.authorities.empty()) return;
  set_blob(easy, CURLOPT_CAINFO_BLOB, pem.authorities);
  set_blob(easy, CURLOPT_PROXY_CAINFO_BLOB, pem.authorities);
  // Without this the system's folder of authorities would be trusted beside the file.
  curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);
  curl_easy_setopt(easy, CURLOPT_PROXY_CAPATH, nullptr);
}

void set_tls(CURL* easy, const HttpRequest& request) {
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  curl_easy_setopt(easy, CURLOPT_PROXY_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  // Authorities that were added to the system's count soon.
  curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 60L);
  if (request.pem) set_pem(easy, *request.pem);
}

}  // namespace

void set_options(CURL* easy, const HttpRequest& request) {
  set_limits(easy, request);
  set_connection(easy, request);
  set_proxy(easy, request);
  set_tls(easy, request);
}

}  // namespace telemetryd::forward
