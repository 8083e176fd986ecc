// server/server.h: storage, endpoints and HTTP front of one running telemetry-server, put together.
//
// Owns:    all of it, in the order of the data reversed: HTTP stops before storage.
// Thread:  start, stop and destruction from one thread.
// Fails:   start, as the part that failed; nothing is left running then.

#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "base/result.h"
#include "server/credentials.h"
#include "server/failure_limiter.h"
#include "server/gate.h"
#include "server/health_endpoint.h"
#include "server/http_server.h"
#include "server/kit_endpoint.h"
#include "server/native_endpoint.h"
#include "server/nonce_memory.h"
#include "server/rate_limiter.h"
#include "server/sqlite_store.h"
#include "server/storage_lock.h"

namespace telemetryd::server {

struct ServerOptions {
  std::filesystem::path database;
  ListenAddress listen;
  std::optional<TlsFiles> tls;
  HttpServer::Limits http;
  NonceMemory::Limits nonces;
  SqliteStore::Limits store;
  KitLeniency kit;
};

class Server {
 public:
  // Creates and migrates the database when it has to.
  [[nodiscard]] static Result<std::unique_ptr<Server>> start(ServerOptions options,
                                                             const Clock& clock);
  ~Server();

  std::uint16_t port() const { return http_->port(); }

  // Answers what has begun, stores what is queued. False when the deadline cut requests off.
  bool stop(std::chrono::milliseconds deadline);

 private:
  Server(StorageLock lock, NonceMemory::Limits nonces) : lock_(std::move(lock)), nonces_(nonces) {}

  StorageLock lock_;
  NonceMemory nonces_;
  RateLimiter rates_;
  FailureLimiter failures_;
  std::unique_ptr<SqliteCredentials> credentials_;
  std::unique_ptr<SqliteStore> store_;
  std::unique_ptr<Gate> gate_;
  std::unique_ptr<NativeEndpoint> native_;
  std::unique_ptr<KitEndpoint> kit_;
  std::unique_ptr<HealthEndpoint> health_;
  std::unique_ptr<ReadyEndpoint> ready_;
  std::unique_ptr<HttpServer> http_;
};

}  // namespace telemetryd::server
