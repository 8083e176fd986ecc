// gateway/grpc_call.h: the network side of one call, between gRPC's threads and the loop.
//
// gRPC's threads do nothing but convert a message and post it; the Call on the loop decides. This
// side lives until gRPC has said OnDone and the loop has let go, whichever is later.
//
// Thread:  gRPC's for the On... functions, any for the Caller ones.
// Limits:  one read and one write at a time, which the Call keeps to.

#pragma once

#include <atomic>
#include <cstddef>
#include <grpcpp/grpcpp.h>
#include <map>
#include <memory>
#include <string>

#include "base/mutex.h"
#include "gateway/call.h"
#include "gateway/hub.h"
#include "loop/loop.h"

namespace telemetryd::gateway {

using Reactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

grpc::Status grpc_status(const Status& status);

// The calls that gRPC has begun and not let go, of each peer. One that its sender resets is let go
// some time later, so only here is seen how many there really are.
class OpenCalls {
 public:
  // How many the peer has now.
  std::size_t begin(const std::string& peer);
  void end(const std::string& peer);

  std::size_t total() const { return total_; }

 private:
  Mutex mutex_;
  std::map<std::string, std::size_t> by_peer_ TELEMETRYD_GUARDED_BY(mutex_);
  std::atomic<std::size_t> total_{0};
};

// What the calls of a server share; the last of them may outlive the server.
struct CallScope {
  loop::Loop& loop;
  Hub& hub;
  std::uint32_t uid = 0;
  std::string token;
  OpenCalls calls;
};

// Begins a call that `call` decides; the reactor deletes itself.
Reactor* new_call(const std::shared_ptr<CallScope>& scope,
                  grpc::CallbackServerContext& context,
                  std::shared_ptr<Call> call);
// Ends a call at once.
Reactor* new_refused_call(const std::shared_ptr<CallScope>& scope,
                          grpc::CallbackServerContext& context,
                          const Status& status);

// The other end as gRPC names it; empty for a Unix socket.
std::string peer_name(const CallScope& scope, const grpc::CallbackServerContext& context);

}  // namespace telemetryd::gateway
