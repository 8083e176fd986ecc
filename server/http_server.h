// server/http_server.h: HTTP/1.1 over TCP or TLS in front of the endpoints.
//
// One thread accepts, two serve all connections. A request that waits for a commit is suspended, so
// waiting costs a connection and no thread. What is refused by its headers is answered without
// keeping its body: a small one is read and thrown away, so that the answer survives and the
// connection too; of a large one nothing is read, and the connection closes.
//
// Owns:    the listening socket, the connections and their threads.
// Thread:  start, drain and destruction from one thread.
// Limits:  Limits below; headers of 16 KiB, a body of 8 MiB, all bodies together bodies_bytes_max.
// Fails:   start with kInvalidArgument for certificates that cannot be used, else as the kernel.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "server/crypto.h"
#include "server/endpoint.h"
#include "server/listen_socket.h"

namespace telemetryd::server {

struct TlsFiles {
  std::string certificate;  // PEM texts
  Secret key;
  std::optional<std::string> client_ca;  // given: only clients with a certificate of it
};

class HttpServer {
 public:
  struct Limits {
    unsigned connections_max = 1024;
    std::uint64_t bodies_bytes_max = 256u << 20;
    // From the connection, or the answer before, to the last header.
    std::chrono::milliseconds head_time_max{30'000};
    // For a body, and as much again for each 512 KiB of it: 17 KiB a second is enough.
    std::chrono::milliseconds body_time_max{30'000};
  };

  // The endpoints must outlive the server.
  [[nodiscard]] static Result<std::unique_ptr<HttpServer>> start(ListenSocket socket,
                                                                 std::optional<TlsFiles> tls,
                                                                 Limits limits,
                                                                 const Clock& clock,
                                                                 std::vector<Endpoint*> endpoints);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  std::uint16_t port() const;

  // Takes no new connections or requests; true once the last answer is sent, false when the
  // deadline came first. Storage must still run.
  bool drain(std::chrono::milliseconds deadline);

  class Impl;

 private:
  explicit HttpServer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace telemetryd::server
