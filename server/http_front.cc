#include "server/http_front.h"

#include <algorithm>
#include <charconv>
#include <new>
#include <utility>

#include "server/client_certificate.h"
#include "server/peer_network.h"

namespace telemetryd::server {
namespace {

constexpr std::size_t kHeadBytesMax = 16u << 10;
// What is read and thrown away to answer a refused request in peace.
constexpr std::uint64_t kDiscardBytesMax = 2u << 20;
constexpr std::uint64_t kBodyStepBytes = 512u << 10;
constexpr std::int64_t kComeAgainS = 1;

MHD_Result collect_header(void* cls, MHD_ValueKind, const char* key, const char* value) {
  auto& head = *static_cast<RequestHead*>(cls);
  head.headers.emplace_back(key, value == nullptr ? "" : value);
  return MHD_YES;
}

Bytes16 network_of(MHD_Connection* connection) {
  const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
  return peer_network(info == nullptr ? nullptr : info->client_addr);
}

RequestHead read_head(MHD_Connection* connection, const char* url, const char* method) {
  RequestHead head{.method = method, .path = url, .network = network_of(connection)};
  MHD_get_connection_values(connection, MHD_HEADER_KIND, &collect_header, &head);
  if (has_header(head, "Transfer-Encoding")) return head;
  if (const auto text = only_header(head, "Content-Length")) {
    std::uint64_t length = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), length);
    if (error == std::errc() && end == text->data() + text->size()) head.content_length = length;
  }
  return head;
}

int descriptor(MHD_Connection* connection) {
  const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  return info == nullptr ? -1 : info->connect_fd;
}

bool method_allowed(std::string_view methods, std::string_view method) {
  while (!methods.empty()) {
    const std::size_t comma = methods.find(", ");
    if (methods.substr(0, comma) == method) return true;
    if (comma == std::string_view::npos) break;
    methods.remove_prefix(comma + 2);
  }
  return false;
}

// Whether what the client may still send is little enough to read for nothing.
bool discardable(const RequestHead& head) {
  if (has_header(head, "Expect") || has_header(head, "Transfer-Encoding")) return false;
  return head.content_length.value_or(0) <= kDiscardBytesMax;
}

}  // namespace

void HttpServer::Impl::connection_opened(MHD_Connection* connection, void** marker) {
  deadlines_.set(descriptor(connection), limits_.head_time_max);
  *marker = nullptr;
  if (tls_ && tls_->client_ca && require_client_certificate(connection)) *marker = this;
}

void HttpServer::Impl::connection_closed(MHD_Connection* connection) {
  deadlines_.forget(descriptor(connection));
  acceptor_->left();
}

void HttpServer::Impl::admit(const RequestHead& head,
                             std::size_t head_bytes,
                             bool trusted,
                             HttpRequest& request) {
  if (!trusted) {
    request.answer = error_answer(403, "forbidden", "a client certificate is needed");
    return;
  }
  const auto owner = std::ranges::find_if(
      endpoints_, [&](const Endpoint* endpoint) { return endpoint->owns(head.path); });
  if (owner == endpoints_.end()) {
    request.answer = error_answer(404, "not_found", "there is nothing at this path");
    return;
  }
  if (!method_allowed((*owner)->methods(), head.method)) {
    request.answer = error_answer(405, "method_not_allowed", "this path takes other methods");
    request.answer->headers.emplace_back("Allow", (*owner)->methods());
    return;
  }
  if (head_bytes > kHeadBytesMax) {
    request.answer = error_answer(431, "headers_too_large", "the headers are larger than 16 KiB");
    request.answer->close = true;
    return;
  }
  if (draining_) {
    request.answer = error_answer(503, "service_unavailable", "the server is stopping", 5);
    request.answer->close = true;
    return;
  }
  Admission admission = (*owner)->begin(head);
  if (auto* refused = std::get_if<Answer>(&admission)) {
    request.answer = std::move(*refused);
    return;
  }
  const std::uint64_t bytes = head.content_length.value_or(0);
  if (!reserve(bytes)) {
    request.answer = error_answer(503, "service_unavailable", "too many requests at once", 1);
    return;
  }
  request.body_bytes_reserved = bytes;
  request.exchange = std::move(std::get<std::unique_ptr<Exchange>>(admission));
}

bool HttpServer::Impl::reserve(std::uint64_t bytes) {
  if (bodies_bytes_.fetch_add(bytes) + bytes <= limits_.bodies_bytes_max) return true;
  bodies_bytes_.fetch_sub(bytes);
  return false;
}

MHD_Result HttpServer::Impl::request_begun(
    MHD_Connection* connection, const char* url, const char* method, void* marker, void** slot) {
  auto owned = std::make_unique<HttpRequest>();
  HttpRequest& request = *owned;
  *slot = owned.release();
  {
    const MutexLock lock(mutex_);
    ++active_;
  }
  const RequestHead head = read_head(connection, url, method);
  const auto* size = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
  const bool trusted = !tls_ || !tls_->client_ca || marker != nullptr;
  admit(head, size == nullptr ? 0 : size->header_size, trusted, request);
  const auto steps = static_cast<std::chrono::milliseconds::rep>(
      head.content_length.value_or(0) / kBodyStepBytes + 1);
  deadlines_.set(descriptor(connection),
                 limits_.body_time_max * std::min<decltype(steps)>(steps, 17));
  if (request.answer && (request.answer->close || !discardable(head))) {
    request.answer->close = true;
    return send(connection, *request.answer);
  }
  return MHD_YES;
}

MHD_Result HttpServer::Impl::body_arrived(HttpRequest& request,
                                          const char* data,
                                          std::size_t* size) {
  // The library never gives more than Content-Length; a body without one has nothing reserved.
  if (request.exchange != nullptr) {
    if (request.body.size() + *size > request.body_bytes_reserved) return MHD_NO;
    try {
      if (request.body.empty()) request.body.reserve(request.body_bytes_reserved);
      request.body.append(data, *size);
    } catch (const std::bad_alloc&) {
      refuse_without_memory(request);  // the rest is read and thrown away
    }
  }
  *size = 0;
  return MHD_YES;
}

// Most of a request's memory is its body and what is read from it; all of that is free again when
// the few bytes of this answer are made.
void HttpServer::Impl::refuse_without_memory(HttpRequest& request) {
  request.exchange.reset();
  request.body = {};
  request.answer = error_answer(
      503, "service_unavailable", "no memory for this request; send it again", kComeAgainS);
}

std::optional<Answer> HttpServer::Impl::receive(HttpRequest& request) {
  try {
    return request.exchange->receive(std::move(request.body));
  } catch (const std::bad_alloc&) {
    refuse_without_memory(request);
    return request.answer;
  }
}

MHD_Result HttpServer::Impl::body_ended(MHD_Connection* connection, HttpRequest& request) {
  if (!request.answer) request.answer = receive(request);
  if (request.answer) {
    deadlines_.set(descriptor(connection), limits_.body_time_max);
    return send(connection, *request.answer);
  }
  // Suspended before submit(), because the answer may come before submit() returns.
  deadlines_.forget(descriptor(connection));
  MHD_suspend_connection(connection);
  request.exchange->submit([connection, &request](Answer answer) {
    request.answer = std::move(answer);
    MHD_resume_connection(connection);
  });
  return MHD_YES;
}

void HttpServer::Impl::request_ended(MHD_Connection* connection, HttpRequest* request) {
  if (request == nullptr) return;
  bodies_bytes_.fetch_sub(request->body_bytes_reserved);
  delete request;
  deadlines_.set(descriptor(connection), limits_.head_time_max);
  const MutexLock lock(mutex_);
  if (--active_ == 0) idle_.notify_all();
}

MHD_Result HttpServer::Impl::send(MHD_Connection* connection, const Answer& answer) {
  // The library copies the text, since the request may be gone before the last byte of it is.
  MHD_Response* response = MHD_create_response_from_buffer(
      answer.body.size(), const_cast<char*>(answer.body.data()), MHD_RESPMEM_MUST_COPY);
  if (response == nullptr) return MHD_NO;
  if (!answer.body.empty()) {
    MHD_add_response_header(response, "Content-Type", "application/json");
  }
  MHD_add_response_header(response, "X-Clacks-Overhead", "GNU Terry Pratchett");
  for (const auto& [name, value] : answer.headers) {
    MHD_add_response_header(response, name.c_str(), value.c_str());
  }
  if (answer.close || draining_) MHD_add_response_header(response, "Connection", "close");
  const MHD_Result queued = MHD_queue_response(connection, answer.status, response);
  MHD_destroy_response(response);
  return queued;
}

}  // namespace telemetryd::server
