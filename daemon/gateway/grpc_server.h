// gateway/grpc_server.h: a gRPC server for the connections of one peer uid, or of other machines.
//
// A call does not know its connection, only its server. So each uid has a server of its own, and
// whose events a call brings is a fact of construction: no table from descriptors to users that a
// reused number could confuse. Methods take raw bytes: what a malformed request is answered is this
// program's decision, not the library's.
//
// Owns:    the server, its calls.
// Thread:  loop, but for shutdown(), which waits for gRPC's threads: after the loop has ended, or
//          when there are no calls and no connections.
// Limits:  docs/formats/grpc.md; memory and threads per server by a resource quota.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "gateway/hub.h"
#include "gateway/remote.h"
#include "loop/loop.h"

namespace telemetryd::gateway {

class GrpcServer {
 public:
  static constexpr std::size_t kMemoryMax = 64u << 20;

  struct Options {
    std::uint32_t uid = 0;
    std::uint32_t message_bytes_max = 0;
    Remote remote;
  };

  static Result<std::unique_ptr<GrpcServer>> start(loop::Loop& loop, Hub& hub, Options options);
  virtual ~GrpcServer() = default;

  // Serves a connected socket.
  virtual void take(UniqueFd connection) = 0;
  // Calls that began and have not been forgotten.
  virtual std::size_t calls() const = 0;
  // What gRPC may have in its buffers for this server; less than before is reached as they empty.
  virtual void limit_memory(std::size_t bytes) = 0;
  virtual void shutdown(std::chrono::system_clock::time_point deadline) = 0;
};

}  // namespace telemetryd::gateway
