#include "server/server.h"

#include <utility>

#include "server/storage.h"

namespace telemetryd::server {

Result<std::unique_ptr<Server>> Server::start(ServerOptions options, const Clock& clock) {
  TELEMETRYD_ASSIGN(StorageLock lock,
                    StorageLock::take(options.database, StorageLock::Kind::kServe));
  TELEMETRYD_ASSIGN(Storage storage, open_storage(options.database, StorageMode::kCreate));
  std::unique_ptr<Server> server(new Server(std::move(lock), options.nonces));
  TELEMETRYD_ASSIGN(server->store_,
                    SqliteStore::open(options.database, clock, server->nonces_, options.store));
  TELEMETRYD_ASSIGN(server->credentials_,
                    SqliteCredentials::open(options.database, std::move(storage.sealer), clock));
  server->gate_ = std::make_unique<Gate>(
      *server->credentials_, server->nonces_, server->rates_, server->failures_, clock);
  server->native_ = std::make_unique<NativeEndpoint>(*server->gate_, *server->store_);
  server->kit_ = std::make_unique<KitEndpoint>(*server->gate_, *server->store_, options.kit);
  server->health_ = std::make_unique<HealthEndpoint>();
  server->ready_ = std::make_unique<ReadyEndpoint>(*server->store_);
  TELEMETRYD_ASSIGN(ListenSocket socket, listen_on(options.listen));
  TELEMETRYD_ASSIGN(server->http_,
                    HttpServer::start(std::move(socket),
                                      std::move(options.tls),
                                      options.http,
                                      clock,
                                      {server->native_.get(),
                                       server->kit_.get(),
                                       server->health_.get(),
                                       server->ready_.get()}));
  return server;
}

Server::~Server() {
  // The storage's last callbacks resume connections, so its queue is emptied while HTTP still runs.
  if (store_ != nullptr) store_->stop();
  http_.reset();
}

bool Server::stop(std::chrono::milliseconds deadline) {
  const bool complete = http_->drain(deadline);
  store_->stop();
  return complete;
}

}  // namespace telemetryd::server
