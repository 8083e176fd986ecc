// telemetryd-gateway: takes events over gRPC and hands them to telemetryd, and ends when idle.

#include <csignal>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "gateway/connections.h"
#include "gateway/front_door.h"
#include "gateway/hub.h"
#include "gateway/startup.h"
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

Result<std::vector<Listening>> listeners_of(const Arguments& arguments, bool& inherited) {
  TELEMETRYD_ASSIGN(std::vector<Listening> listeners, inherited_listeners());
  inherited = true;
  if (!listeners.empty()) return listeners;
  if (!arguments.listen.empty()) {
    inherited = false;
    TELEMETRYD_ASSIGN(UniqueFd own,
                      loop::listen_unix(arguments.listen.native(), kSocketMode, kBacklog));
    listeners.push_back({.socket = std::move(own), .remote = false});
    return listeners;
  }
  TELEMETRYD_ASSIGN(Listening passed, take_listener(arguments.fd));
  listeners.push_back(std::move(passed));
  return listeners;
}

Result<void> run(const config::Config& config, const Arguments& arguments) {
  bool inherited = false;
  TELEMETRYD_ASSIGN(std::vector<Listening> listeners, listeners_of(arguments, inherited));
  loop::Loop loop;
  const SystemClock clock;
  TELEMETRYD_ASSIGN(auto connections, Connections::create(loop));
  FrontDoor* door = nullptr;
  Hub hub(
      loop,
      clock,
      {.ingest_socket = config.ingest.socket.native(),
       .idle_exit = config.gateway.idle_exit,
       .exits_when_idle = inherited},
      [&door] { door->stop_listening(); },
      [&loop] { loop.stop(); });
  FrontDoor front_door(
      loop, hub, std::move(connections), config.ingest.frame_bytes_max + kMessageExtraBytes, {});
  door = &front_door;
  const loop::Signal terminate(loop, SIGTERM, [&hub] { hub.stop("SIGTERM"); });
  const loop::Signal interrupt(loop, SIGINT, [&hub] { hub.stop("SIGINT"); });
  for (Listening& each : listeners) front_door.listen(std::move(each.socket), each.remote);
  loop.run();
  front_door.shut_down();
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
  std::signal(SIGPIPE, SIG_IGN);
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
    log::error("gateway_failed", {{"cause", ran.error().message()}});
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
