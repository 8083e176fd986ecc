// gateway/health.h: grpc.health.v1.Health: whether events would find the daemon now.
//
// gRPC's own health service repeats what it was told last. This one looks: SERVING means that
// somebody listens on ingest.sock. Asking keeps nobody awake: it does not count as traffic.
//
// Owns:    the timer that looks again for those who watch.
// Thread:  loop.
// Limits:  one look at the socket per kFresh, and per kWatchInterval while somebody watches.

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "base/clock.h"
#include "gateway/call.h"
#include "loop/loop.h"

namespace telemetryd::gateway {

class Hub;
class HealthCall;

class Health {
 public:
  static constexpr std::chrono::milliseconds kFresh{200};
  static constexpr std::chrono::milliseconds kWatchInterval{2'000};

  Health(loop::Loop& loop, const Clock& clock, std::function<bool()> look);

  bool serving();
  void watch(HealthCall& call);
  void unwatch(HealthCall& call);

 private:
  void on_timer();

  const Clock& clock_;
  const std::function<bool()> look_;
  std::optional<bool> serving_;
  BootMs looked_ = 0;
  std::set<HealthCall*> watchers_;
  loop::Timer timer_;
};

class HealthCall final : public Call {
 public:
  enum class Kind { kCheck, kWatch };

  // `proves`: that the connection is a sender's, because nothing is asked for that was not brought.
  HealthCall(Hub& hub, std::uint32_t uid, std::string peer, Kind kind, bool proves)
      : hub_(hub), uid_(uid), peer_(std::move(peer)), kind_(kind), proves_(proves) {}

  void begin(std::shared_ptr<Caller> caller) override;
  std::function<void()> prepare(std::string_view message) override;
  void half_closed() override;
  void written() override;
  void cancelled() override;
  void end(const Status& status) override;

  // The answer may be another one now.
  void tell(bool serving);

 private:
  enum class Serving { kServing = 1, kNotServing = 2, kServiceUnknown = 3 };

  void take(const std::optional<std::string>& service);
  void write_more();

  Hub& hub_;
  const std::uint32_t uid_;
  const std::string peer_;
  const Kind kind_;
  const bool proves_;
  std::shared_ptr<Caller> caller_;
  bool asked_ = false;
  bool writing_ = false;
  std::optional<Serving> state_;
  std::optional<Serving> written_;
};

}  // namespace telemetryd::gateway
