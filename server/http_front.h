// server/http_front.h: the insides of HttpServer, where libmicrohttpd meets the endpoints.
//
// Owns:    what http_server.h says.
// Thread:  the library's threads, several at once; one at a time per request.

#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <vector>

#include <microhttpd.h>

#include "base/mutex.h"
#include "server/acceptor.h"
#include "server/deadlines.h"
#include "server/http_server.h"

namespace telemetryd::server {

// One request from its first header to its last byte out.
struct HttpRequest {
  std::unique_ptr<Exchange> exchange;  // nothing once it is refused
  std::optional<Answer> answer;        // decided, perhaps before the body is over
  std::string body;
  std::uint64_t body_bytes_reserved = 0;
};

class HttpServer::Impl {
 public:
  Impl(ListenSocket socket,
       std::optional<TlsFiles> tls,
       Limits limits,
       const Clock& clock,
       std::vector<Endpoint*> endpoints);
  ~Impl();

  [[nodiscard]] Result<void> start();
  bool drain(std::chrono::milliseconds deadline);

  std::uint16_t port() const { return port_; }

  // Called by the library, through callbacks of three lines.
  void connection_opened(MHD_Connection* connection, void** marker);
  void connection_closed(MHD_Connection* connection);
  MHD_Result request_begun(MHD_Connection* connection,
                           const char* url,
                           const char* method,
                           void* marker,
                           void** request);
  MHD_Result body_arrived(HttpRequest& request, const char* data, std::size_t* size);
  MHD_Result body_ended(MHD_Connection* connection, HttpRequest& request);
  void request_ended(MHD_Connection* connection, HttpRequest* request);

 private:
  [[nodiscard]] Result<MHD_Daemon*> start_thread();
  // The library closes the descriptor, also when it cannot take it.
  bool let_in(UniqueFd connection, const sockaddr* peer, socklen_t size);
  // Routes and admits, from the headers alone.
  void admit(const RequestHead& head, std::size_t head_bytes, bool trusted, HttpRequest& request);
  bool reserve(std::uint64_t bytes);
  std::optional<Answer> receive(HttpRequest& request);
  void refuse_without_memory(HttpRequest& request);
  MHD_Result send(MHD_Connection* connection, const Answer& answer);

  const std::uint16_t port_;
  UniqueFd listening_;  // the acceptor's from start() on
  const std::optional<TlsFiles> tls_;
  const Limits limits_;
  const std::vector<Endpoint*> endpoints_;
  Deadlines deadlines_;
  std::array<MHD_Daemon*, 2> threads_{};
  std::size_t next_thread_ = 0;  // the acceptor's thread only
  std::unique_ptr<Acceptor> acceptor_;
  std::atomic<bool> draining_ = false;
  std::atomic<std::uint64_t> bodies_bytes_ = 0;

  Mutex mutex_;
  std::condition_variable idle_;
  std::size_t active_ TELEMETRYD_GUARDED_BY(mutex_) = 0;
};

}  // namespace telemetryd::server
