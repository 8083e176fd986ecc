// telemetryd-gateway: takes events over gRPC and hands them to telemetryd, and ends when idle.

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "gateway/connections.h"
#include "gateway/front_door.h"
#include "gateway/grpc_log.h"
#include "gateway/hub.h"
#include "gateway/remote.h"
#include "gateway/startup.h"
#include "gateway/watchdog.h"
#include "loop/loop.h"

namespace telemetryd::gateway {
namespace {

constexpr int kExitOk = 0;
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr int kExitConfig = 78;

// What gRPC adds around the events of a frame that is as large as may be.
constexpr std::uint32_t kMessageExtraBytes = 64u << 10;
constexpr unsigned kSocketMode = 0666;
constexpr int kBacklog = 128;

struct Sockets {
  std::vector<Listening> listening;
  // Nobody else holds one of them, so nobody could start the next gateway.
  bool own = false;
};

// Turned off, there is nothing to bind; only the service manager, whose sockets are there
// nevertheless, has a use for us: senders are told no at once instead of waiting.
Result<Sockets> local_sockets(bool enabled, const Arguments& arguments) {
  Sockets sockets;
  TELEMETRYD_ASSIGN(sockets.listening, adopt_inherited());
  if (!sockets.listening.empty()) return sockets;
  if (arguments.listen.empty()) {
    TELEMETRYD_ASSIGN(Listening passed, take_listener(arguments.fd));
    sockets.listening.push_back(std::move(passed));
    return sockets;
  }
  if (!enabled) {
    return fail(ErrorCode::kFailedPrecondition,
                "[gateway] enabled is false, so there is nothing to listen for");
  }
  TELEMETRYD_ASSIGN(UniqueFd bound,
                    loop::listen_unix(arguments.listen.native(), kSocketMode, kBacklog));
  sockets.listening.push_back({.socket = std::move(bound), .remote = false});
  sockets.own = true;
  return sockets;
}

// The service manager's TCP sockets stand for grpc_listen.
Result<Sockets> all_sockets(const config::Config& config,
                            const Arguments& arguments,
                            const Remote& remote) {
  TELEMETRYD_ASSIGN(Sockets sockets, local_sockets(config.gateway.enabled, arguments));
  const bool has_remote = std::ranges::any_of(sockets.listening, &Listening::remote);
  if (config.gateway.enabled && !config.gateway.grpc_listen.empty() && !has_remote) {
    TELEMETRYD_ASSIGN(std::vector<Listening> bound, listen_tcp(config.gateway.grpc_listen));
    std::ranges::move(bound, std::back_inserter(sockets.listening));
    sockets.own = true;
  }
  for (const Listening& each : sockets.listening) {
    TELEMETRYD_ASSIGN(const bool loopback, is_loopback(each.socket.get()));
    TELEMETRYD_TRY(check_exposure(loopback, remote));
  }
  return sockets;
}

Result<void> run(const config::Config& config, const Arguments& arguments) {
  loop::Loop loop;
  const SystemClock clock;
  TELEMETRYD_ASSIGN(const auto connections, Connections::create(loop, clock));
  // Before everything that may take its time, and gone after everything that may.
  Watchdog watchdog(loop, [&connections] { return connections->count() != 0; });
  TELEMETRYD_ASSIGN(Remote remote, read_remote(config.gateway));
  TELEMETRYD_ASSIGN(Sockets sockets, all_sockets(config, arguments, remote));
  if (!config.gateway.enabled) {
    log::warn("gateway_disabled", {{"answer", "PERMISSION_DENIED"}, {"key", "[gateway] enabled"}});
  }
  FrontDoor* door = nullptr;
  Hub hub(loop,
          clock,
          {.enabled = config.gateway.enabled,
           .ingest_socket = config.ingest.socket.native(),
           .idle_exit = config.gateway.idle_exit,
           .exits_when_idle = !sockets.own},
          {.on_stopping = [&door] { door->stop_listening(); },
           .on_stopped = [&loop] { loop.stop(); },
           .on_flood = [&door](std::uint32_t uid,
                               const std::string& peer) { door->cut_off(uid, peer); },
           .connections = [&connections](
                              std::uint32_t uid,
                              const std::string& peer) { return connections->count(uid, peer); },
           .on_proven = [&connections](const std::string& peer) { connections->prove(peer); }});
  FrontDoor front_door(loop,
                       hub,
                       *connections,
                       watchdog,
                       config.ingest.frame_bytes_max + kMessageExtraBytes,
                       std::move(remote));
  door = &front_door;
  const loop::Signal terminate(loop, SIGTERM, [&hub] { hub.stop("SIGTERM"); });
  const loop::Signal interrupt(loop, SIGINT, [&hub] { hub.stop("SIGINT"); });
  for (Listening& each : sockets.listening) {
    front_door.listen(std::move(each.socket), each.remote);
  }
  loop.run();
  front_door.shut_down();
  finish_grpc_log();
  return {};
}

int main_in(std::span<const char* const> words) {
  log::open("telemetryd-gateway", log::Level::kInfo);
  const auto arguments = parse_arguments(words);
  if (!arguments) {
    std::fprintf(stderr, "telemetryd-gateway: %s\n", arguments.error().message().c_str());
    std::fprintf(stderr, "Try 'telemetryd-gateway --help'.\n");
    return kExitUsage;
  }
  if (arguments->help) {
    std::fputs(std::string(usage()).c_str(), stdout);
    return kExitOk;
  }
  if (arguments->version) {
    std::printf("telemetryd-gateway %s\n", std::string(kVersion).c_str());
    return kExitOk;
  }
  take_grpc_log();
  std::signal(SIGPIPE, SIG_IGN);
  // The token and the key pass through this process; they must not lie in a core file afterwards.
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  config::Sources sources;
  sources.file = arguments->config;
  sources.file_required = !arguments->config.empty();
  const config::Loaded loaded = config::load(sources);
  if (!loaded.config) {
    for (const config::Problem& problem : loaded.problems) {
      std::fprintf(stderr, "telemetryd-gateway: %s\n", config::to_string(problem).c_str());
    }
    return kExitConfig;
  }
  log::open("telemetryd-gateway", loaded.config->daemon.log_level);
  if (const auto ran = run(*loaded.config, *arguments); !ran) {
    log::error("gateway_not_serving", {{"cause", ran.error().message()}});
    return kExitFailed;
  }
  return kExitOk;
}

}  // namespace
}  // namespace telemetryd::gateway

int main(int argc, char** argv) {
  try {
    return telemetryd::gateway::main_in({argv, static_cast<std::size_t>(argc)});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "telemetryd-gateway: %s\n", error.what());
    return 1;
  }
}
