#include "server/http_server.h"

#include <array>
#include <cstdarg>
#include <cstdio>

#include "base/log.h"
#include "server/http_front.h"

namespace telemetryd::server {
namespace {

// Headers up to this arrive at us and get our answer; beyond it the library sends its own 431. The
// memory is mapped, so what is not used costs nothing.
constexpr std::size_t kConnectionMemory = 128u << 10;
constexpr unsigned kQuietSecondsMax = 60;
constexpr const char* kTlsPriorities = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";

using Impl = HttpServer::Impl;

MHD_Result on_request(void* cls,
                      MHD_Connection* connection,
                      const char* url,
                      const char* method,
                      const char*,
                      const char* data,
                      std::size_t* size,
                      void** slot) {
  auto& impl = *static_cast<Impl*>(cls);
  auto* request = static_cast<HttpRequest*>(*slot);
  if (request == nullptr) {
    const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    void* marker = info == nullptr ? nullptr : info->socket_context;
    return impl.request_begun(connection, url, method, marker, slot);
  }
  if (*size != 0) return impl.body_arrived(*request, data, size);
  return impl.body_ended(connection, *request);
}

void on_connection(void* cls,
                   MHD_Connection* connection,
                   void** marker,
                   MHD_ConnectionNotificationCode code) {
  auto& impl = *static_cast<Impl*>(cls);
  if (code == MHD_CONNECTION_NOTIFY_STARTED) return impl.connection_opened(connection, marker);
  impl.connection_closed(connection);
}

void on_completed(void* cls, MHD_Connection* connection, void** slot, MHD_RequestTerminationCode) {
  static_cast<Impl*>(cls)->request_ended(connection, static_cast<HttpRequest*>(*slot));
  *slot = nullptr;
}

// The signature covers the path as it was sent, and names need no escapes.
std::size_t keep_escapes(void*, MHD_Connection*, char* text) {
  return std::char_traits<char>::length(text);
}

// What the library has to say is about single connections: a peer can cause it at will.
void on_library_log(void*, const char* format, va_list arguments) {
  std::array<char, 256> line{};
  std::vsnprintf(line.data(), line.size(), format, arguments);
  log::debug("http_library_said", {{"text", line.data()}});
}

}  // namespace

Impl::Impl(ListenSocket socket,
           std::optional<TlsFiles> tls,
           Limits limits,
           const Clock& clock,
           std::vector<Endpoint*> endpoints)
    : port_(socket.port),
      listening_(std::move(socket.fd)),
      tls_(std::move(tls)),
      limits_(limits),
      endpoints_(std::move(endpoints)),
      deadlines_(clock) {}

Result<void> Impl::start() {
  for (MHD_Daemon*& thread : threads_) {
    TELEMETRYD_ASSIGN(thread, start_thread());
  }
  // Made before it starts: the first connection may have ended when start() returns.
  acceptor_ = std::make_unique<Acceptor>(std::move(listening_),
                                         limits_.connections_max,
                                         [this](UniqueFd fd, const sockaddr* peer, socklen_t size) {
                                           return let_in(std::move(fd), peer, size);
                                         });
  return acceptor_->start();
}

bool Impl::let_in(UniqueFd connection, const sockaddr* peer, socklen_t size) {
  MHD_Daemon* thread = threads_[next_thread_++ % threads_.size()];
  return MHD_add_connection(thread, connection.release(), peer, size) == MHD_YES;
}

Result<MHD_Daemon*> Impl::start_thread() {
  std::vector<MHD_OptionItem> options;
  const auto add = [&](MHD_OPTION option, intptr_t value, void* pointer) {
    options.push_back({option, value, pointer});
  };
  const auto text = [](std::string_view from) { return const_cast<char*>(from.data()); };
  unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME |
                   MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
  // The acceptor keeps the limit; the library forgets a connection a little after it has left.
  add(MHD_OPTION_CONNECTION_LIMIT, 2 * limits_.connections_max + 64, nullptr);
  add(MHD_OPTION_CONNECTION_TIMEOUT, kQuietSecondsMax, nullptr);
  add(MHD_OPTION_CONNECTION_MEMORY_LIMIT, kConnectionMemory, nullptr);
  add(MHD_OPTION_CONNECTION_MEMORY_INCREMENT, kConnectionMemory / 4, nullptr);
  add(MHD_OPTION_STRICT_FOR_CLIENT, 1, nullptr);
  if (tls_) {
    flags |= MHD_USE_TLS;
    add(MHD_OPTION_HTTPS_MEM_KEY, 0, text(tls_->key.text()));
    add(MHD_OPTION_HTTPS_MEM_CERT, 0, text(tls_->certificate));
    add(MHD_OPTION_HTTPS_PRIORITIES, 0, text(kTlsPriorities));
    if (tls_->client_ca) add(MHD_OPTION_HTTPS_MEM_TRUST, 0, text(*tls_->client_ca));
  }
  add(MHD_OPTION_END, 0, nullptr);
  MHD_Daemon* daemon = MHD_start_daemon(flags,
                                        0,
                                        nullptr,
                                        nullptr,
                                        &on_request,
                                        this,
                                        MHD_OPTION_EXTERNAL_LOGGER,
                                        &on_library_log,
                                        nullptr,
                                        MHD_OPTION_NOTIFY_COMPLETED,
                                        &on_completed,
                                        this,
                                        MHD_OPTION_NOTIFY_CONNECTION,
                                        &on_connection,
                                        this,
                                        MHD_OPTION_UNESCAPE_CALLBACK,
                                        &keep_escapes,
                                        nullptr,
                                        MHD_OPTION_ARRAY,
                                        options.data(),
                                        MHD_OPTION_END);
  if (daemon != nullptr) return daemon;
  if (tls_) {
    return fail(ErrorCode::kInvalidArgument,
                "TLS cannot start; check that the certificate and the key are PEM files that "
                "belong together");
  }
  return fail(ErrorCode::kUnavailable, "the HTTP server cannot start");
}

bool Impl::drain(std::chrono::milliseconds deadline) {
  draining_ = true;
  acceptor_->stop();
  const auto end = std::chrono::steady_clock::now() + deadline;
  MutexLock lock(mutex_);
  while (active_ != 0) {
    if (idle_.wait_until(lock.native(), end) == std::cv_status::timeout) return active_ == 0;
  }
  return true;
}

Impl::~Impl() {
  if (acceptor_ != nullptr) acceptor_->stop();
  for (MHD_Daemon* thread : threads_) {
    if (thread != nullptr) MHD_stop_daemon(thread);
  }
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() = default;

Result<std::unique_ptr<HttpServer>> HttpServer::start(ListenSocket socket,
                                                      std::optional<TlsFiles> tls,
                                                      Limits limits,
                                                      const Clock& clock,
                                                      std::vector<Endpoint*> endpoints) {
  auto impl = std::make_unique<Impl>(
      std::move(socket), std::move(tls), limits, clock, std::move(endpoints));
  TELEMETRYD_TRY(impl->start());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

std::uint16_t HttpServer::port() const {
  return impl_->port();
}

bool HttpServer::drain(std::chrono::milliseconds deadline) {
  return impl_->drain(deadline);
}

}  // namespace telemetryd::server
