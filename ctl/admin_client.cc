#include "ctl/admin_client.h"

#include <cstring>
#include <mutex>
#include <sys/un.h>

#include <curl/curl.h>
#include <fmt/format.h>

namespace telemetryd::ctl {
namespace {

constexpr std::size_t kAnswerBytesMax = 16 * 1024 * 1024;
constexpr std::size_t kLineBytesMax = 1024 * 1024;
constexpr long kConnectMilliseconds = 2000;

void initialise_curl() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

std::size_t append_body(char* data, std::size_t, std::size_t size, void* user) {
  auto& body = *static_cast<std::string*>(user);
  if (body.size() + size > kAnswerBytesMax) return 0;
  body.append(data, size);
  return size;
}

// Cuts what arrives into lines; a line that the reader does not want ends the transfer.
struct LineCutter {
  const std::function<bool(std::string_view)>* on_line;
  CURL* curl;
  std::string rest;      // the line that is not complete, or the body of an error answer
  bool stopped = false;  // by the reader
  bool too_long = false;

  static std::size_t feed(char* data, std::size_t, std::size_t size, void* user) {
    auto& self = *static_cast<LineCutter*>(user);
    self.rest.append(data, size);
    long status = 0;
    curl_easy_getinfo(self.curl, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200 && !self.cut()) return 0;
    if (self.rest.size() > kLineBytesMax) {
      self.too_long = true;
      return 0;
    }
    return size;
  }

  bool cut() {
    std::size_t begin = 0;
    for (auto end = rest.find('\n'); end != std::string::npos; end = rest.find('\n', begin)) {
      const std::string_view line(rest.data() + begin, end - begin);
      begin = end + 1;
      if (!line.empty() && !(*on_line)(line)) {
        stopped = true;
        return false;
      }
    }
    rest.erase(0, begin);
    return true;
  }
};

ErrorCode code_for_status(long status) {
  switch (status) {
    case 400: return ErrorCode::kInvalidArgument;
    case 403: return ErrorCode::kPermissionDenied;
    case 404: return ErrorCode::kNotFound;
    case 413: return ErrorCode::kResourceExhausted;
    case 409:
    case 503: return ErrorCode::kFailedPrecondition;
    default: return ErrorCode::kInternal;
  }
}

// {"error":{"code","message"}}, and for a refused reload also "problems": [].
Error error_of_answer(long status, const std::string& body) {
  const auto json = nlohmann::json::parse(body, nullptr, false);
  std::string message = fmt::format("telemetryd answered with HTTP status {}", status);
  if (json.is_object() && json.contains("error") && json["error"].is_object()) {
    message = json["error"].value("message", message);
  }
  if (json.is_object() && json.contains("problems") && json["problems"].is_array()) {
    for (const auto& problem : json["problems"]) {
      message += "\n  " + (problem.is_string() ? problem.get<std::string>() : problem.dump());
    }
  }
  return {code_for_status(status), message};
}

}  // namespace

struct AdminClient::Impl {
  std::filesystem::path socket;
  CURL* curl = nullptr;

  void prepare(const std::string& path) {
    curl_easy_reset(curl);
    const std::string url = "http://localhost" + path;
    curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket.c_str());
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, kConnectMilliseconds);
  }

  Error transport_error(CURLcode code) const {
    long os_error = 0;
    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &os_error);
    if (code == CURLE_OPERATION_TIMEDOUT) {
      return {ErrorCode::kUnavailable,
              fmt::format("telemetryd did not answer in time on {}", socket.native())};
    }
    if (code == CURLE_WRITE_ERROR) {
      return {ErrorCode::kResourceExhausted, "the answer of telemetryd is larger than 16 MiB"};
    }
    if (socket.native().size() >= sizeof(sockaddr_un::sun_path)) {
      return {ErrorCode::kInvalidArgument,
              fmt::format("{}: a socket's path is at most 107 bytes long", socket.native())};
    }
    const char* reason =
        os_error != 0 ? strerrordesc_np(static_cast<int>(os_error)) : curl_easy_strerror(code);
    return {ErrorCode::kUnavailable,
            fmt::format("telemetryd cannot be reached on {}: {}", socket.native(), reason)};
  }

  Result<nlohmann::json> exchange(std::chrono::milliseconds answer_time) {
    std::string body;
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, append_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(answer_time.count()));
    const CURLcode code = curl_easy_perform(curl);
    if (code != CURLE_OK) return fail(transport_error(code));
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) return fail(error_of_answer(status, body));
    auto json = nlohmann::json::parse(body, nullptr, false);
    if (json.is_discarded()) return fail(ErrorCode::kInternal, "telemetryd did not answer in JSON");
    return json;
  }
};

AdminClient::AdminClient(std::filesystem::path socket) : impl_(std::make_unique<Impl>()) {
  initialise_curl();
  impl_->socket = std::move(socket);
  impl_->curl = curl_easy_init();
}

AdminClient::~AdminClient() {
  if (impl_->curl != nullptr) curl_easy_cleanup(impl_->curl);
}

Result<nlohmann::json> AdminClient::get(const std::string& path,
                                        std::chrono::milliseconds answer_time) {
  if (impl_->curl == nullptr) return fail(ErrorCode::kInternal, "libcurl cannot be initialised");
  impl_->prepare(path);
  return impl_->exchange(answer_time);
}

Result<nlohmann::json> AdminClient::post(const std::string& path,
                                         const nlohmann::json& body,
                                         std::chrono::milliseconds answer_time) {
  if (impl_->curl == nullptr) return fail(ErrorCode::kInternal, "libcurl cannot be initialised");
  impl_->prepare(path);
  const std::string text = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  curl_slist* headers = curl_slist_append(nullptr, "Content-Type: application/json");
  curl_easy_setopt(impl_->curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(impl_->curl, CURLOPT_POSTFIELDSIZE, static_cast<long>(text.size()));
  curl_easy_setopt(impl_->curl, CURLOPT_POSTFIELDS, text.c_str());
  auto answer = impl_->exchange(answer_time);
  curl_easy_setopt(impl_->curl, CURLOPT_HTTPHEADER, nullptr);
  curl_slist_free_all(headers);
  return answer;
}

Result<void> AdminClient::stream(const std::string& path,
                                 const std::function<bool(std::string_view)>& on_line) {
  if (impl_->curl == nullptr) return fail(ErrorCode::kInternal, "libcurl cannot be initialised");
  impl_->prepare(path);
  LineCutter cutter{&on_line, impl_->curl, {}, false, false};
  curl_easy_setopt(impl_->curl, CURLOPT_WRITEFUNCTION, LineCutter::feed);
  curl_easy_setopt(impl_->curl, CURLOPT_WRITEDATA, &cutter);
  const CURLcode code = curl_easy_perform(impl_->curl);
  if (cutter.stopped) return {};
  if (cutter.too_long) {
    return fail(ErrorCode::kResourceExhausted, "a line of the stream is longer than 1 MiB");
  }
  long status = 0;
  curl_easy_getinfo(impl_->curl, CURLINFO_RESPONSE_CODE, &status);
  if (status != 0 && status != 200) return fail(error_of_answer(status, cutter.rest));
  if (code != CURLE_OK) return fail(impl_->transport_error(code));
  return {};
}

std::string query_escape(std::string_view text) {
  constexpr std::string_view kPlain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
  std::string out;
  for (const char c : text) {
    if (kPlain.find(c) != std::string_view::npos) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

}  // namespace telemetryd::ctl
