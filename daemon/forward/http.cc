#include "forward/http.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <list>
#include <map>
#include <memory>
#include <string_view>
#include <utility>

#include <curl/curl.h>

#include "base/check.h"
#include "base/secret.h"
#include "forward/http_fault.h"
#include "forward/http_options.h"
#include "forward/mutes.h"

namespace telemetryd::forward {
namespace {

struct Transfer {
  HttpRequest request;
  std::function<void(HttpResponse)> done;
  HttpResponse response;
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  curl_slist* connect_to = nullptr;
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
    curl_slist_free_all(connect_to);
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

curl_waitfd wait_for(int fd, bool readable, bool writable) {
  curl_waitfd waited{};
  waited.fd = fd;
  waited.events =
      static_cast<short>((readable ? CURL_WAIT_POLLIN : 0) | (writable ? CURL_WAIT_POLLOUT : 0));
  return waited;
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

bool could_not_look_up(const Transfer& transfer, CURLcode code) {
  if (code == CURLE_COULDNT_RESOLVE_HOST) return true;
  return code == CURLE_OPERATION_TIMEDOUT && phase_of(transfer, 0) == Phase::kResolve;
}

// Where servers were reached last, for when their names cannot be looked up: a DNS server that is
// down takes no upstream with it. Over TLS only, where who answers must prove to be the server.
class LastAddresses {
 public:
  static constexpr std::size_t kServersMax = 512;

  void keep(const Transfer& transfer) {
    // Behind a proxy it is the proxy's.
    const HttpRequest& request = transfer.request;
    if (request.plain_http || !request.proxy.empty()) return;
    if (!request.direct && environment_has_proxy()) return;
    const char* address = nullptr;
    curl_easy_getinfo(transfer.easy, CURLINFO_PRIMARY_IP, &address);
    if (address == nullptr || *address == '\0') return;
    const std::string server = server_of(transfer);
    if (by_server_.size() >= kServersMax && !by_server_.contains(server)) by_server_.clear();
    by_server_[server] = address;
  }

  // Makes the transfer go there; false when nobody was.
  bool use(Transfer& transfer) const {
    const auto known = by_server_.find(server_of(transfer));
    if (known == by_server_.end()) return false;
    const bool v6 = known->second.find(':') != std::string::npos;
    const std::string address = v6 ? "[" + known->second + "]" : known->second;
    // HOST:PORT:CONNECT-TO-HOST:CONNECT-TO-PORT, of which an empty one stays as it is.
    transfer.connect_to = curl_slist_append(nullptr, (known->first + ":" + address + ":").c_str());
    curl_easy_setopt(transfer.easy, CURLOPT_CONNECT_TO, transfer.connect_to);
    return true;
  }

 private:
  static std::string server_of(const Transfer& transfer) {
    const Origin origin = origin_of(transfer.request.url.c_str());
    return origin.host + ":" + origin.port;
  }

  std::map<std::string, std::string> by_server_;
};

}  // namespace

struct Http::Impl {
  CURLM* multi = curl_multi_init();
  std::list<std::unique_ptr<Transfer>> transfers;
  PemFiles pem_files;
  LastAddresses addresses;
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
    if (transfer.asked_again || transfer.header_bytes > 0) return false;
    const bool elsewhere = could_not_look_up(transfer, code) && addresses.use(transfer);
    if (code != CURLE_HTTP2 && !elsewhere) return false;
    transfer.asked_again = true;
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
    if (code == CURLE_OK) addresses.keep(*transfer);
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
  set_options(transfer->easy, transfer->request);
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

Http::Ready Http::wait(int fd,
                       bool until_writable,
                       std::span<const pollfd> others,
                       std::chrono::milliseconds at_most) {
  std::vector<curl_waitfd> waited;
  waited.push_back(wait_for(fd, true, until_writable));
  for (const pollfd& other : others) {
    waited.push_back(
        wait_for(other.fd, (other.events & POLLIN) != 0, (other.events & POLLOUT) != 0));
  }
  // Without the first when there is none.
  const std::span<curl_waitfd> given = std::span(waited).subspan(fd >= 0 ? 0 : 1);
  // Without a request or a bound there is nothing to time: sleeps until somebody speaks. Nothing
  // may be served before this: an answer made then would lie unsent while we sleep. A request that
  // was just started has a timer at zero and ends the sleep at once.
  const auto ms =
      static_cast<int>(std::clamp(at_most, std::chrono::milliseconds(0), kForever).count());
  curl_multi_poll(impl_->multi, given.data(), static_cast<unsigned>(given.size()), ms, nullptr);
  int running = 0;
  curl_multi_perform(impl_->multi, &running);
  impl_->collect();
  // POLLHUP and POLLERR come back as they are; reading finds out what they mean.
  const short revents = waited.front().revents;
  return {(revents & ~CURL_WAIT_POLLOUT) != 0, (revents & CURL_WAIT_POLLOUT) != 0};
}

void Http::wake() {
  curl_multi_wakeup(impl_->multi);
}

}  // namespace telemetryd::forward
