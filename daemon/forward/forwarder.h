// forward/forwarder.h: the lease protocol's other side: leases in, outcomes out, until end of file.
//
// Reads its own configuration, so the daemon can name a destination but not redirect its secrets.
// While the configuration cannot be read, every lease is held with the reason; nothing is lost and
// `telemetryctl destination list` shows it.
//
// Owns:    the link's descriptor, the sinks, the connections, and what tells how the machine stands
//          to the world.
// Thread:  one, the caller's of run().
// Limits:  kBodyBytesMax per message; kOutputBytesMax of unsent answers ends the link.
// Fails:   kInvalidArgument when the daemon broke the protocol.

#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "config/config.h"
#include "forward/grpc_channel.h"
#include "forward/http.h"
#include "forward/sink.h"
#include "forward/world.h"

namespace telemetryd::forward {

class Forwarder {
 public:
  static constexpr std::size_t kBodyBytesMax = 16u << 20;
  static constexpr std::size_t kOutputBytesMax = 16u << 20;

  // Reads the configuration; called at the start and after each Reload.
  using Load = std::function<config::Loaded()>;

  Forwarder(UniqueFd link, const Clock& clock, Load load);
  ~Forwarder();
  Forwarder(const Forwarder&) = delete;
  Forwarder& operator=(const Forwarder&) = delete;

  // Greets, serves, returns at end of file; requests that are still out are dropped then.
  [[nodiscard]] Result<void> run();

 private:
  void reload();
  [[nodiscard]] Result<bool> read_link();  // false: end of file
  [[nodiscard]] Result<void> write_link();
  [[nodiscard]] Result<void> serve_input();
  [[nodiscard]] Result<void> serve(const v1::ToForwarder& message);
  void serve_lease(const v1::Lease& lease);
  void serve_probe(const v1::Probe& probe);
  // The sink, or null with `why` filled in.
  std::shared_ptr<Sink> sink_of(const std::string& destination, std::string& why) const;
  void answer(const v1::FromForwarder& message);
  void tell_news();
  std::chrono::milliseconds until_news() const;

  UniqueFd link_;
  const Clock& clock_;
  Load load_;
  World world_;
  Http http_;
  GrpcCalls grpc_;
  std::map<std::string, std::shared_ptr<Sink>> sinks_;
  std::string config_problem_;
  std::string input_;
  std::string output_;
};

}  // namespace telemetryd::forward
