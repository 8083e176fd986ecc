#include "gateway/front_door.h"

#include <algorithm>
#include <sys/socket.h>
#include <utility>

#include "base/log.h"
#include "gateway/startup.h"

namespace telemetryd::gateway {

FrontDoor::FrontDoor(loop::Loop& loop,
                     Hub& hub,
                     Connections& connections,
                     Watchdog& watchdog,
                     std::uint32_t message_bytes_max,
                     Remote remote)
    : loop_(loop),
      hub_(hub),
      connections_(connections),
      watchdog_(watchdog),
      message_bytes_max_(message_bytes_max),
      remote_(std::move(remote)) {}

FrontDoor::~FrontDoor() = default;

void FrontDoor::listen(UniqueFd socket, bool remote) {
  listeners_.push_back(std::make_unique<loop::Listener>(
      loop_, std::move(socket), [this, remote](UniqueFd connection) {
        if (remote) {
          accept(std::move(connection), kRemoteUid);
        } else {
          accept_local(std::move(connection));
        }
      }));
}

void FrontDoor::stop_listening() {
  listeners_.clear();
}

void FrontDoor::shut_down() {
  const auto deadline = std::chrono::system_clock::now() + kShutdownDeadline;
  for (const auto& [uid, server] : servers_) server->shutdown(deadline);
  servers_.clear();
}

void FrontDoor::accept_local(UniqueFd connection) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return;
  // Nobody's uid; the number means "another machine" from here on.
  if (peer.uid == kRemoteUid) return;
  accept(std::move(connection), peer.uid);
}

void FrontDoor::accept(UniqueFd connection, std::uint32_t uid) {
  watchdog_.watch();
  hub_.touch();
  // Asked first: a duplicate in Connections would keep open what is closed here.
  GrpcServer* const server = server_of(uid);
  if (server == nullptr) return;
  if (!connections_.add(uid, connection.get())) {
    log::debug("connection_refused", {{"uid", uid}, {"connections", connections_.count()}});
    return;
  }
  server->take(std::move(connection));
}

void FrontDoor::cut_off(std::uint32_t uid, const std::string& peer) {
  connections_.shut(uid, peer);
}

GrpcServer* FrontDoor::server_of(std::uint32_t uid) {
  const auto found = servers_.find(uid);
  if (found != servers_.end()) return found->second.get();
  if (servers_.size() >= kUidsMax && !end_one_server()) {
    log::warn("too_many_users", {{"uid", uid}, {"servers", servers_.size()}});
    return nullptr;
  }
  GrpcServer::Options options{.uid = uid, .message_bytes_max = message_bytes_max_, .remote = {}};
  if (uid == kRemoteUid) options.remote = remote_;
  auto server = GrpcServer::start(loop_, hub_, std::move(options));
  if (!server) {
    log::error("grpc_server_failed", {{"uid", uid}, {"cause", server.error().message()}});
    return nullptr;
  }
  GrpcServer* const started = servers_.emplace(uid, std::move(*server)).first->second.get();
  share_memory();
  return started;
}

void FrontDoor::share_memory() {
  const std::size_t part =
      std::clamp(kMemoryMax / servers_.size(), kMemoryMin, GrpcServer::kMemoryMax);
  for (const auto& [uid, server] : servers_) server->limit_memory(part);
}

bool FrontDoor::end_one_server() {
  for (auto each = servers_.begin(); each != servers_.end(); ++each) {
    if (connections_.count(each->first) != 0 || each->second->calls() != 0) continue;
    each->second->shutdown(std::chrono::system_clock::now());
    servers_.erase(each);
    return true;
  }
  return false;
}

}  // namespace telemetryd::gateway
