// app/gateway_starter.h: telemetryd-gateway, started by the first connection and gone when idle.
//
// Listens on grpc.sock without accepting: the first connection makes the socket readable, and the
// child that is started then inherits it and accepts. While a child lives nobody here looks at the
// socket; when it has ended, looking begins again, so connections that a crash left behind start
// the next one. A child that fails is started again after growing waits, and connections wait in
// the kernel's queue meanwhile. Idle costs nothing: no timer runs but between failures and while
// stopping.
//
// Owns:    the listening socket and its file, the child.
// Thread:  loop.
// Limits:  Options; kBacklog connections wait.
// Fails:   never: what is wrong is logged once, and told by status().

#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "config/stop_times.h"
#include "ingest/ingest_server.h"
#include "loop/loop.h"

namespace telemetryd::app {

class GatewayStarter {
 public:
  static constexpr int kBacklog = 128;

  struct Options {
    std::filesystem::path socket;
    std::vector<std::string> command;  // with the socket as fd 3
    bool always = false;  // it listens elsewhere too: start it at once, and again when it ends
    std::chrono::milliseconds delay_min{1000};                     // after a first failure
    std::chrono::milliseconds delay_max{10000};                    // people wait for it
    std::chrono::milliseconds stop_max = config::kGatewayStopMax;  // from SIGTERM to SIGKILL
  };

  struct Status {
    const char* state = "off";  // "listening", "running"
    std::uint64_t starts = 0;
    std::string last_exit;  // "exit status 1", "signal 9"; empty: none yet
    std::string problem;    // in words for a person, while it is one
    bool missing = false;   // the problem is that there is no such program
  };

  GatewayStarter(loop::Loop& loop, const Clock& clock, Options options);
  // Kills a child that still runs.
  ~GatewayStarter();

  // Begins to listen, or tries again what failed; nothing when it does already.
  void start();
  // Lets the child finish what it has under way. `done` comes once, at the latest after stop_max,
  // unless start() comes first.
  void stop(std::function<void()> done);

  // Whether the peer is the child that runs now. Its process id cannot be another's, for it has
  // not been waited for.
  bool is_child(const ingest::Peer& peer) const;

  Status status() const;

 private:
  void listen();
  void wait_for_connection();
  void launch();
  void ended(const loop::Child::Exit& exit);
  void failed(const std::string& cause);
  void close_socket();
  void stopped();
  bool program_missing();
  std::chrono::milliseconds ran() const;

  loop::Loop& loop_;
  const Clock& clock_;
  const Options options_;
  std::mt19937_64 prng_{std::random_device{}()};
  bool wanted_ = false;
  UniqueFd listening_;
  std::optional<loop::Poll> connection_;
  std::unique_ptr<loop::Child> child_;
  loop::Timer timer_;  // until the next start, or until the child is killed
  std::function<void()> on_stopped_;
  BootMs started_boot_ms_ = 0;
  std::uint64_t starts_ = 0;
  std::uint32_t failures_ = 0;  // in a row
  std::string last_exit_;
  std::string problem_;
  bool missing_ = false;
};

}  // namespace telemetryd::app
