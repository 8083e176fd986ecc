#include "forward/http.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <list>
#include <string_view>
#include <utility>

#include <climits>
#include <curl/curl.h>

#include "base/check.h"
#include "base/secret.h"

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

void set_limits(CURL* easy, const HttpRequest& request) {
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, request.plain_http ? "http,https" : "https");
  if (request.direct) curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
  curl_easy_setopt(easy,
                   CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(std::min(Http::kConnectMax, request.total).count()));
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(request.total.count()));
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, kStallBytesPerSecond);
  curl_easy_setopt(easy,
                   CURLOPT_LOW_SPEED_TIME,
                   static_cast<long>(std::max<std::int64_t>(1, request.stall_max.count() / 1000)));
}

void set_tls(CURL* easy, const HttpRequest& request) {
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (!request.ca_file.empty()) {
    curl_easy_setopt(easy, CURLOPT_CAINFO, request.ca_file.c_str());
    // Without this the system's folder of authorities would be trusted beside the file.
    curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);
  }
  if (!request.client_cert_file.empty()) {
    curl_easy_setopt(easy, CURLOPT_SSLCERT, request.client_cert_file.c_str());
    curl_easy_setopt(easy, CURLOPT_SSLKEY, request.client_key_file.c_str());
  }
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
}

HttpResponse::Kind kind_of(CURLcode code, const Transfer& transfer) {
  const std::string_view problem(transfer.problem.data());
  switch (code) {
    case CURLE_OK: return HttpResponse::Kind::kAnswer;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CLIENTCERT:
    case CURLE_USE_SSL_FAILED: return HttpResponse::Kind::kTls;
    case CURLE_SSL_CONNECT_ERROR: {
      // A connection that breaks in the handshake is weather; a refusal names OpenSSL's error.
      const bool refused = problem.find("error:") != std::string_view::npos;
      return refused ? HttpResponse::Kind::kTls : HttpResponse::Kind::kNetwork;
    }
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR: {
      // TLS 1.3 servers refuse a client certificate only after the handshake.
      const bool alert = problem.find("alert") != std::string_view::npos;
      return alert ? HttpResponse::Kind::kTls : HttpResponse::Kind::kNetwork;
    }
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_NOT_BUILT_IN:
    case CURLE_FAILED_INIT:
    case CURLE_BAD_FUNCTION_ARGUMENT: return HttpResponse::Kind::kSetup;
    default: return HttpResponse::Kind::kNetwork;
  }
}

void finish(Transfer& transfer, CURLcode code) {
  HttpResponse& response = transfer.response;
  response.kind = transfer.too_large ? HttpResponse::Kind::kTooLarge : kind_of(code, transfer);
  response.problem =
      transfer.problem[0] != '\0' ? transfer.problem.data() : curl_easy_strerror(code);
  curl_easy_getinfo(transfer.easy, CURLINFO_RESPONSE_CODE, &response.status);
  curl_off_t retry_after = 0;
  curl_easy_getinfo(transfer.easy, CURLINFO_RETRY_AFTER, &retry_after);
  response.retry_after = std::chrono::seconds(std::clamp<curl_off_t>(retry_after, 0, 86400));
  const char* location = nullptr;
  curl_easy_getinfo(transfer.easy, CURLINFO_REDIRECT_URL, &location);
  if (location != nullptr) response.location = location;
}

}  // namespace

struct Http::Impl {
  CURLM* multi = curl_multi_init();
  std::list<std::unique_ptr<Transfer>> transfers;

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

  void complete(Transfer* ended, CURLcode code) {
    const auto at = std::ranges::find_if(
        transfers, [&](const auto& transfer) { return transfer.get() == ended; });
    TELEMETRYD_CHECK(at != transfers.end());
    const std::unique_ptr<Transfer> transfer = std::move(*at);
    transfers.erase(at);
    finish(*transfer, code);
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
  transfer->easy = curl_easy_init();
  TELEMETRYD_CHECK(transfer->easy != nullptr);
  set_limits(transfer->easy, transfer->request);
  set_tls(transfer->easy, transfer->request);
  set_request(*transfer);
  TELEMETRYD_CHECK(curl_multi_add_handle(impl_->multi, transfer->easy) == CURLM_OK);
  impl_->transfers.push_back(std::move(transfer));
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
