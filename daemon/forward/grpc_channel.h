// forward/grpc_channel.h: unary calls over libgrpc++, answered on the forwarder's thread.
//
// The only place of the forwarder that knows the library. Its threads do one thing here: they note
// that a call has ended and wake the forwarder, which looks at it in serve(). Nothing of gRPC is
// made before the first channel, so a forwarder without a destination of kind `grpc` pays nothing.
//
// Owns:    GrpcCalls: the calls that are out, the completion queue and its thread.
// Thread:  the forwarder's; callbacks run inside serve().
// Limits:  kCallsMax out at a time; kAnswerBytesMax; GrpcCall::total.
// Fails:   open: as PemFiles. How a call ended is in its GrpcAnswer.

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "forward/grpc_answer.h"
#include "forward/pem_files.h"

namespace telemetryd::forward {

struct GrpcPeer {
  std::string address;  // host and port, as a URL writes them
  bool tls = true;
  bool direct = false;  // no proxy, whatever the environment says
  std::string proxy;    // "http://host:port"; empty: as the environment says
  PemPaths pem_files;
};

struct GrpcCall {
  std::string method;  // "/package.Service/Method"
  std::string message;
  std::string_view bearer;  // empty: none; copied
  std::chrono::milliseconds total{30000};
};

// A connection that is made with the first call and shared by those at a time.
class GrpcChannel;

class GrpcCalls {
 public:
  static constexpr std::size_t kCallsMax = 1024;
  // Odd on purpose: the library's words about an answer above it name it, and cannot be taken for a
  // peer's about a request.
  static constexpr int kAnswerBytesMax = (1 << 20) + 1;

  // `wake` ends the forwarder's sleep; any thread calls it.
  explicit GrpcCalls(std::function<void()> wake);
  // Cancels what is out and waits for the library to let go of it; calls nobody.
  ~GrpcCalls();
  GrpcCalls(const GrpcCalls&) = delete;
  GrpcCalls& operator=(const GrpcCalls&) = delete;

  [[nodiscard]] Result<std::shared_ptr<GrpcChannel>> open(const GrpcPeer& peer);
  // `done` is called once, from serve(). The channel lives at least as long as the call.
  void start(std::shared_ptr<GrpcChannel> channel,
             const GrpcCall& call,
             std::function<void(const GrpcAnswer&)> done);
  // Calls `done` of what has ended.
  void serve();

 private:
  struct Impl;
  std::function<void()> wake_;
  PemFiles pem_files_;
  std::unique_ptr<Impl> impl_;  // with the first channel
};

}  // namespace telemetryd::forward
