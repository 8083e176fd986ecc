#include "forward/http.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <list>
#include <memory>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string_view>
#include <sys/socket.h>
#include <utility>

#include <climits>
#include <curl/curl.h>

#include "base/check.h"
#include "base/secret.h"
#include "forward/http_fault.h"
#include "forward/mutes.h"

namespace telemetryd::forward {
namespace {

// Below this many bytes a second for stall_max, a transfer counts as standing still.
constexpr long kStallBytesPerSecond = 16;

struct Transfer {
  HttpRequest request;
  std::function<void(HttpResponse)> done;
  HttpResponse response;
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  std::array<char, CURL_ERROR_SIZE> problem{};
  std::size_t header_bytes = 0;
  bool too_large = false;
  bool in_handshake = false;  // or behind it
  bool asked_again = false;
  std::optional<std::chrono::seconds> clock_ahead;  // what Http knew when it began

  Transfer() = default;
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  ~Transfer() {
    curl_easy_cleanup(easy);
    for (curl_slist* header = headers; header != nullptr; header = header->next) {
      for (char* c = header->data; *c != '\0'; ++c) *static_cast<volatile char*>(c) = '\0';
    }
    curl_slist_free_all(headers);
    for (std::string& header : request.headers) wipe(header);
  }

  std::size_t take_body(std::string_view bytes) {
    too_large = too_large || response.body.size() + bytes.size() > Http::kBodyBytesMax;
    if (too_large) return 0;
    response.body.append(bytes);
    return bytes.size();
  }

  std::size_t take_header(std::string_view line) {
    header_bytes += line.size();
    too_large = too_large || header_bytes > Http::kHeaderBytesMax;
    if (too_large) return 0;
    return line.size();
  }
};

std::size_t on_body(char* bytes, std::size_t, std::size_t size, void* transfer) noexcept {
  return static_cast<Transfer*>(transfer)->take_body({bytes, size});
}

std::size_t on_header(char* bytes, std::size_t, std::size_t size, void* transfer) noexcept {
  return static_cast<Transfer*>(transfer)->take_header({bytes, size});
}

CURLcode on_handshake(CURL*, void*, void* transfer) noexcept {
  static_cast<Transfer*>(transfer)->in_handshake = true;
  return CURLE_OK;
}

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

void set_request(Transfer& transfer) {
  CURL* easy = transfer.easy;
  for (const std::string& header : transfer.request.headers) {
    transfer.headers = curl_slist_append(transfer.headers, header.c_str());
  }
  curl_easy_setopt(easy, CURLOPT_URL, transfer.request.url.c_str());
  // The path is signed as written; curl must not tidy it up.
  curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer.headers);
  if (transfer.request.method == "POST") {
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, transfer.request.body.data());
    curl_easy_setopt(
        easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(transfer.request.body.size()));
  }
  curl_easy_setopt(easy, CURLOPT_PRIVATE, &transfer);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer.problem.data());
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, &on_handshake);
  curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, &transfer);
}

std::int64_t time_of(CURL* easy, CURLINFO which) {
  curl_off_t microseconds = 0;
  curl_easy_getinfo(easy, which, &microseconds);
  return microseconds;
}

long number_of(CURL* easy, CURLINFO which) {
  long number = 0;
  curl_easy_getinfo(easy, which, &number);
  return number;
}

Phase phase_of(const Transfer& transfer, long proxy_status) {
  CURL* easy = transfer.easy;
  if (time_of(easy, CURLINFO_STARTTRANSFER_TIME_T) > 0) return Phase::kRead;
  if (time_of(easy, CURLINFO_PRETRANSFER_TIME_T) > 0) {
    const auto sent = static_cast<std::size_t>(time_of(easy, CURLINFO_SIZE_UPLOAD_T));
    return sent < transfer.request.body.size() ? Phase::kSend : Phase::kWait;
  }
  if (!transfer.request.proxy.empty() && proxy_status == 0) return Phase::kProxy;
  if (transfer.in_handshake) return Phase::kTls;
  if (time_of(easy, CURLINFO_NAMELOOKUP_TIME_T) > 0) return Phase::kConnect;
  return Phase::kResolve;
}

// Of an url.
struct Origin {
  std::string host;
  std::string port;
};

Origin origin_of(const char* url) {
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> parsed(curl_url(), curl_url_cleanup);
  if (!parsed || curl_url_set(parsed.get(), CURLUPART_URL, url, 0) != CURLUE_OK) return {};
  const auto part = [&](CURLUPart which) {
    char* text = nullptr;
    curl_url_get(parsed.get(), which, &text, CURLU_DEFAULT_PORT);
    std::string copy = text != nullptr ? text : "";
    curl_free(text);
    return copy;
  };
  Origin origin{part(CURLUPART_HOST), part(CURLUPART_PORT)};
  // As curl writes an IPv6 address in its sentences.
  if (origin.host.starts_with('[')) origin.host = origin.host.substr(1, origin.host.size() - 2);
  return origin;
}

// Whether curl may have found one there; it looks for exceptions itself.
bool environment_has_proxy() {
  constexpr std::array kNames = {
      "https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"};
  return std::ranges::any_of(kNames, [](const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0';
  });
}

void explain_failure(Transfer& transfer, CURLcode code) {
  CURL* easy = transfer.easy;
  const HttpRequest& request = transfer.request;
  const Origin origin = origin_of(request.url.c_str());
  const std::string server = origin.host + " port " + origin.port;
  Ending ending;
  ending.code = code;
  ending.words = transfer.problem[0] != '\0' ? transfer.problem.data() : curl_easy_strerror(code);
  ending.proxy_status = number_of(easy, CURLINFO_HTTP_CONNECTCODE);
  ending.phase = phase_of(transfer, ending.proxy_status);
  ending.certificate = number_of(easy, CURLINFO_SSL_VERIFYRESULT);
  ending.proxy_certificate = number_of(easy, CURLINFO_PROXY_SSL_VERIFYRESULT);
  ending.server = server;
  ending.proxy_is_set = !request.proxy.empty();
  ending.proxy_is_possible = !request.direct && environment_has_proxy();
  ending.over_https_proxy = request.proxy.starts_with("https://");
  ending.own_certificate = request.pem && !request.pem->certificate.empty();
  ending.own_certificate_expires_s = request.pem ? request.pem->expires_s : 0;
  ending.now_s = request.now_s;
  ending.clock_ahead = transfer.clock_ahead;
  Fault fault = explain(ending);
  transfer.response.kind = fault.kind;
  transfer.response.cause = fault.cause;
  transfer.response.problem = std::move(fault.words);
}

void read_redirect(Transfer& transfer) {
  const char* location = nullptr;
  curl_easy_getinfo(transfer.easy, CURLINFO_REDIRECT_URL, &location);
  if (location == nullptr) return;
  transfer.response.location = location;
  const Origin ours = origin_of(transfer.request.url.c_str());
  transfer.response.elsewhere = origin_of(location).host != ours.host;
}

// A list may stand in several lines.
void read_mutes(Transfer& transfer) {
  std::string list;
  curl_header* line = nullptr;
  for (std::size_t i = 0;
       curl_easy_header(transfer.easy, "Telemetry-Mute", i, CURLH_HEADER, -1, &line) == CURLHE_OK;
       ++i) {
    if (i > 0) list += ", ";
    list += line->value;
  }
  transfer.response.mutes = parse_mutes(list);
}

void read_headers(Transfer& transfer) {
  HttpResponse& response = transfer.response;
  response.status = number_of(transfer.easy, CURLINFO_RESPONSE_CODE);
  const auto retry_after = time_of(transfer.easy, CURLINFO_RETRY_AFTER);
  response.retry_after = std::chrono::seconds(std::clamp<std::int64_t>(retry_after, 0, 86400));
  const char* content_type = nullptr;
  curl_easy_getinfo(transfer.easy, CURLINFO_CONTENT_TYPE, &content_type);
  if (content_type != nullptr) response.content_type = content_type;
  read_redirect(transfer);
  read_mutes(transfer);
  curl_header* date = nullptr;
  if (curl_easy_header(transfer.easy, "Date", 0, CURLH_HEADER, -1, &date) != CURLHE_OK) return;
  const time_t theirs = curl_getdate(date->value, nullptr);
  if (theirs <= 0 || transfer.request.now_s == 0) return;
  response.clock_ahead = std::chrono::seconds(transfer.request.now_s - theirs);
}

void finish(Transfer& transfer, CURLcode code) {
  HttpResponse& response = transfer.response;
  read_headers(transfer);
  if (transfer.request.pem) response.certificate_expires_s = transfer.request.pem->expires_s;
  if (transfer.too_large) {
    response.kind = HttpResponse::Kind::kTooLarge;
    response.cause = v1::CAUSE_UNEXPECTED_ANSWER;
  } else if (code == CURLE_OK) {
    response.kind = HttpResponse::Kind::kAnswer;
  } else {
    explain_failure(transfer, code);
  }
}
}  // namespace

struct Http::Impl {
  CURLM* multi = curl_multi_init();
  std::list<std::unique_ptr<Transfer>> transfers;
  PemFiles pem_files;
  // By the last server that told its time.
  std::optional<std::chrono::seconds> clock_ahead;

  void collect() {
    int waiting = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi, &waiting)) {
      if (message->msg != CURLMSG_DONE) continue;
      const CURLcode code = message->data.result;
      char* owner = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &owner);
      curl_multi_remove_handle(multi, message->easy_handle);
      complete(reinterpret_cast<Transfer*>(owner), code);
    }
  }

  // A server of HTTP/2 that goes away (GOAWAY) before it has looked at a request is none that
  // fails: the next connection leads to another. libcurl 7.88 does so for single requests only.
  bool ask_again(Transfer& transfer, CURLcode code) {
    if (code != CURLE_HTTP2 || transfer.header_bytes > 0) return false;
    if (std::exchange(transfer.asked_again, true)) return false;
    transfer.in_handshake = false;
    curl_easy_setopt(transfer.easy, CURLOPT_FRESH_CONNECT, 1L);
    return curl_multi_add_handle(multi, transfer.easy) == CURLM_OK;
  }

  void complete(Transfer* ended, CURLcode code) {
    const auto at = std::ranges::find_if(
        transfers, [&](const auto& transfer) { return transfer.get() == ended; });
    TELEMETRYD_CHECK(at != transfers.end());
    if (ask_again(*ended, code)) return;
    const std::unique_ptr<Transfer> transfer = std::move(*at);
    transfers.erase(at);
    finish(*transfer, code);
    if (transfer->response.clock_ahead) clock_ahead = transfer->response.clock_ahead;
    transfer->done(std::move(transfer->response));
  }
};

Http::Http() {
  TELEMETRYD_CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
  impl_ = std::make_unique<Impl>();
  TELEMETRYD_CHECK(impl_->multi != nullptr);
}

Http::~Http() {
  for (const auto& transfer : impl_->transfers) {
    curl_multi_remove_handle(impl_->multi, transfer->easy);
  }
  impl_->transfers.clear();
  curl_multi_cleanup(impl_->multi);
  impl_.reset();
  curl_global_cleanup();
}

void Http::start(HttpRequest request, std::function<void(HttpResponse)> done) {
  auto transfer = std::make_unique<Transfer>();
  transfer->request = std::move(request);
  transfer->done = std::move(done);
  transfer->clock_ahead = impl_->clock_ahead;
  transfer->easy = curl_easy_init();
  TELEMETRYD_CHECK(transfer->easy != nullptr);
  set_limits(transfer->easy, transfer->request);
  set_connection(transfer->easy, transfer->request);
  set_proxy(transfer->easy, transfer->request);
  set_tls(transfer->easy, transfer->request);
  set_request(*transfer);
  TELEMETRYD_CHECK(curl_multi_add_handle(impl_->multi, transfer->easy) == CURLM_OK);
  impl_->transfers.push_back(std::move(transfer));
}

PemFiles& Http::pem_files() {
  return impl_->pem_files;
}

std::size_t Http::running() const {
  return impl_->transfers.size();
}

Http::Ready Http::wait(int fd, bool until_writable) {
  curl_waitfd extra{};
  extra.fd = fd;
  extra.events = static_cast<short>(CURL_WAIT_POLLIN | (until_writable ? CURL_WAIT_POLLOUT : 0));
  // Without a request there is nothing to time: sleeps until the link speaks. Nothing may be served
  // before this: an answer made then would lie unsent while we sleep. A request that was just
  // started has a timer at zero and ends the sleep at once.
  curl_multi_poll(impl_->multi, &extra, fd >= 0 ? 1 : 0, INT_MAX, nullptr);
  int running = 0;
  curl_multi_perform(impl_->multi, &running);
  impl_->collect();
  // POLLHUP and POLLERR come back as they are; reading finds out what they mean.
  return {(extra.revents & ~CURL_WAIT_POLLOUT) != 0, (extra.revents & CURL_WAIT_POLLOUT) != 0};
}

void Http::wake() {
  curl_multi_wakeup(impl_->multi);
}

}  // namespace telemetryd::forward
