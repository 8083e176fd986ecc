// telemetryd-forward: delivers what telemetryd leases to it, and ends when nothing is left.

#include <csignal>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "forward/forwarder.h"
#include "forward/startup.h"
#include "forward/version.h"

namespace telemetryd::forward {
namespace {

constexpr int kExitOk = 0;
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

int failed(std::string_view event, const Error& error) {
  log::error(event, {{"cause", error.message()}});
  return kExitFailed;
}

Result<void> serve(UniqueFd link, const Arguments& arguments) {
  const SystemClock clock;
  Forwarder forwarder(std::move(link), clock, [&arguments] {
    config::Sources sources;
    sources.file = arguments.config;
    sources.file_required = !arguments.config.empty();
    return config::load(sources);
  });
  return forwarder.run();
}

Result<void> serve_listener(const UniqueFd& listener, const Arguments& arguments, bool forever) {
  do {
    TELEMETRYD_ASSIGN(UniqueFd link, accept_daemon(listener.get(), arguments.peer));
    if (const auto served = serve(std::move(link), arguments); !served) {
      if (!forever) return served;
      log::warn("link_broken", {{"cause", served.error().message()}});
    }
  } while (forever);
  return {};
}

Result<void> run(const Arguments& arguments) {
  TELEMETRYD_ASSIGN(const UniqueFd inherited, inherited_listener());
  // The service manager keeps its socket and starts us again; our own would be gone with us.
  if (inherited) return serve_listener(inherited, arguments, false);
  if (!arguments.listen.empty()) {
    TELEMETRYD_ASSIGN(const UniqueFd own, listen_at(arguments.listen));
    return serve_listener(own, arguments, true);
  }
  TELEMETRYD_ASSIGN(UniqueFd link, take_link(arguments.fd));
  return serve(std::move(link), arguments);
}

int main_in(std::span<const char* const> words) {
  log::open("telemetryd-forward", log::Level::kInfo);
  const auto arguments = parse_arguments(words);
  if (!arguments) {
    std::fprintf(stderr, "telemetryd-forward: %s\n", arguments.error().message().c_str());
    std::fprintf(stderr, "Try 'telemetryd-forward --help'.\n");
    return kExitUsage;
  }
  if (arguments->help) {
    std::fputs(std::string(usage()).c_str(), stdout);
    return kExitOk;
  }
  if (arguments->version) {
    std::printf("telemetryd-forward %s\n", std::string(kVersion).c_str());
    return kExitOk;
  }
  std::signal(SIGPIPE, SIG_IGN);
  // Secrets pass through this process; they must not lie in a core file afterwards.
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  if (const auto ran = run(*arguments); !ran) return failed("forwarder_failed", ran.error());
  return kExitOk;
}

}  // namespace
}  // namespace telemetryd::forward

int main(int argc, char** argv) {
  try {
    return telemetryd::forward::main_in({argv, static_cast<std::size_t>(argc)});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "telemetryd-forward: %s\n", error.what());
    return 1;
  }
}
