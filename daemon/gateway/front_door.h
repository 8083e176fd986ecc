// gateway/front_door.h: accepts connections, asks the kernel whose they are, and hands each to that
// user's server.
//
// Owns:    the listening sockets, one server per uid in use and one for other machines.
// Thread:  loop; shut_down() after the loop has ended.
// Limits:  kUidsMax servers; kMemoryMax of gRPC's buffers for all, in equal parts of at least
//          kMemoryMin; Connections.
// Fails:   a connection that finds no place is closed; nobody else notices.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "gateway/connections.h"
#include "gateway/grpc_server.h"
#include "gateway/hub.h"
#include "gateway/remote.h"
#include "gateway/watchdog.h"
#include "loop/loop.h"

namespace telemetryd::gateway {

class FrontDoor {
 public:
  static constexpr std::size_t kUidsMax = 64;
  static constexpr std::size_t kMemoryMax = 96u << 20;
  // With less gRPC takes no message of the largest size.
  static constexpr std::size_t kMemoryMin = 2u << 20;
  // For all servers together.
  static constexpr std::chrono::milliseconds kShutdownDeadline = config::kGatewayShutdownMax;

  FrontDoor(loop::Loop& loop,
            Hub& hub,
            Connections& connections,
            Watchdog& watchdog,
            std::uint32_t message_bytes_max,
            Remote remote);
  ~FrontDoor();

  // `remote`: over TCP, so nobody has a uid.
  void listen(UniqueFd socket, bool remote);
  // Who connects from now on waits in the socket's queue for the next gateway.
  void stop_listening();
  void shut_down();
  // Ends the connections of a sender that floods.
  void cut_off(std::uint32_t uid, const std::string& peer);

 private:
  void accept_local(UniqueFd connection);
  void accept(UniqueFd connection, std::uint32_t uid);
  GrpcServer* server_of(std::uint32_t uid);
  // Ends the server of a uid that has neither connections nor calls.
  bool end_one_server();
  void share_memory();

  loop::Loop& loop_;
  Hub& hub_;
  Connections& connections_;
  Watchdog& watchdog_;
  const std::uint32_t message_bytes_max_;
  const Remote remote_;
  std::vector<std::unique_ptr<loop::Listener>> listeners_;
  std::map<std::uint32_t, std::unique_ptr<GrpcServer>> servers_;
};

}  // namespace telemetryd::gateway
