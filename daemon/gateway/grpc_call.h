// gateway/grpc_call.h: the network side of one call, between gRPC's threads and the loop.
//
// gRPC's threads do nothing but convert a message and post it; the Call on the loop decides. This
// side lives until gRPC has said OnDone and the loop has let go, whichever is later.
//
// Thread:  gRPC's for the On... functions, any for the Caller ones.
// Limits:  one read and one write at a time, which the Call keeps to.

#pragma once

#include <atomic>
#include <grpcpp/grpcpp.h>
#include <memory>
#include <string>

#include "base/mutex.h"
#include "gateway/call.h"
#include "gateway/hub.h"
#include "loop/loop.h"

namespace telemetryd::gateway {

using Reactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

grpc::Status grpc_status(const Status& status);

// What the calls of a server share; the last of them may outlive the server.
struct CallScope {
  loop::Loop& loop;
  Hub& hub;
  std::uint32_t uid = 0;
  std::string token;
  std::atomic<std::size_t> calls{0};
};

// Begins a call that `call` decides; the reactor deletes itself.
Reactor* new_call(const std::shared_ptr<CallScope>& scope,
                  grpc::CallbackServerContext& context,
                  std::shared_ptr<Call> call);
// Ends a call at once.
Reactor* new_refused_call(const std::shared_ptr<CallScope>& scope, const Status& status);

}  // namespace telemetryd::gateway
