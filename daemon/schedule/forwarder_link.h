// schedule/forwarder_link.h: the one connection to telemetryd-forward, from start to end of file.
//
// Starts a child with one end of a socket pair as fd 3, or connects to forward.sock where the
// service manager runs the forwarder. Nothing is sent before its Hello. A forwarder that breaks the
// protocol, stays silent or dies is ended for good before another is started, so two never deliver
// at once.
//
// Owns:    the socket, the child, the time-outs of Hello and answers.
// Thread:  loop.
// Limits:  kHelloMax until Hello, kAnswerMax for each answer that is owed.
// Fails:   through on_end, with words for `telemetryctl destination list`.

#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "loop/loop.h"
#include "schedule/backoff.h"
#include "schedule/lease_codec.h"

namespace telemetryd::schedule {

class ForwarderLink {
 public:
  static constexpr std::chrono::milliseconds kHelloMax{10000};
  static constexpr std::chrono::milliseconds kAnswerMax{7200000};

  struct Options {
    std::filesystem::path socket;      // empty: start `command`
    std::vector<std::string> command;  // program and arguments
    BackoffLimits backoff;
  };

  struct Hooks {
    std::function<void()> on_ready;
    std::function<void(Outcome)> on_outcome;
    std::function<void(ProbeResult)> on_probe_result;
    std::function<void(const Conditions&)> on_conditions;
    std::function<void()> on_route_change;
    // The link is gone without having been closed; nothing that was sent will be answered.
    std::function<void(const std::string& why)> on_end;
    // After close(), on a later turn of the loop: open() works again.
    std::function<void()> on_closed;
  };

  ForwarderLink(loop::Loop& loop, const Clock& clock, Options options, Prng& prng, Hooks hooks);
  // Kills a child that still runs.
  ~ForwarderLink();
  ForwarderLink(const ForwarderLink&) = delete;
  ForwarderLink& operator=(const ForwarderLink&) = delete;

  // Begins to start or connect, unless already begun or before earliest(). An error counts as a
  // failure for earliest(); on_end is not called for it.
  [[nodiscard]] Result<void> open();
  bool is_open() const;
  bool ready() const;

  // After failures, not before this time.
  BootMs earliest() const { return earliest_; }

  // Somebody asks by hand: no waiting for the next open().
  void forgive() { earliest_ = 0; }

  // Only while ready(). The answer to `owed`, a lease's or a probe's ID, has kAnswerMax to come.
  void send(std::string message, std::optional<std::uint64_t> owed);
  // Orderly end: the forwarder sees end of file and exits.
  void close();
  // close(), then waits for the child to exit and kills it after `grace`. `done` comes once, on a
  // later turn of the loop.
  void shutdown(std::chrono::milliseconds grace, std::function<void()> done);

 private:
  struct Impl;
  friend struct Impl;
  BootMs earliest_ = 0;
  std::unique_ptr<Impl> impl_;
};

}  // namespace telemetryd::schedule
