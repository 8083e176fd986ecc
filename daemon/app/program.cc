#include "app/program.h"

#include <csignal>
#include <cstdio>
#include <exception>
#include <malloc.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>

#include "base/log.h"

namespace telemetryd::app {
namespace {

constexpr int kHeapsMax = 2;

struct Arguments {
  std::string config;
  std::string state_dir;
  std::string runtime_dir;
  bool check_config = false;
  bool print_config = false;
};

// What people type is relative to where they are; what we keep is not.
std::filesystem::path absolute(const std::string& path) {
  return path.empty() ? std::filesystem::path() : std::filesystem::absolute(path);
}

config::Sources sources_of(const Arguments& arguments) {
  config::Sources sources;
  sources.file = absolute(arguments.config);
  sources.file_required = !arguments.config.empty();
  if (!arguments.state_dir.empty()) sources.state_dir = absolute(arguments.state_dir);
  if (!arguments.runtime_dir.empty()) sources.runtime_dir = absolute(arguments.runtime_dir);
  return sources;
}

void print_problems(const config::Loaded& loaded) {
  for (const auto& problem : loaded.problems) {
    std::fprintf(stderr, "telemetryd: %s\n", config::to_string(problem).c_str());
  }
}

int check(const config::Loaded& loaded) {
  for (const auto& file : loaded.files) std::printf("%s\n", file.c_str());
  std::puts("The configuration is in order.");
  return kExitOk;
}

int serve(const Arguments& arguments, config::Loaded loaded, const StoreFactory& open_store) {
  ::umask(077);
  std::signal(SIGPIPE, SIG_IGN);
  log::open("telemetryd", loaded.config->daemon.log_level);
  auto daemon = Daemon::open(sources_of(arguments), std::move(loaded), open_store, version());
  if (!daemon) {
    log::error(
        "not_started",
        {{"cause", daemon.error().error.message()}, {"exit_code", daemon.error().exit_code}});
    return daemon.error().exit_code;
  }
  return (*daemon)->run();
}

// Each thread's own heap would keep what that thread freed; ours are few and mostly idle.
void limit_heaps() {
#ifdef M_ARENA_MAX
  ::mallopt(M_ARENA_MAX, kHeapsMax);
#endif
}

int run(int argc, char** argv, const StoreFactory& open_store) {
  Arguments arguments;
  CLI::App program("Collects events from every app on this machine and has them delivered.",
                   "telemetryd");
  program.add_option(
      "--config", arguments.config, "Configuration file; conf.d beside it counts too");
  program.add_option("--state-dir", arguments.state_dir, "Folder of the event store");
  program.add_option("--runtime-dir", arguments.runtime_dir, "Folder of the sockets");
  program.add_flag("--check-config", arguments.check_config, "List every problem and exit");
  program.add_flag("--print-config", arguments.print_config, "Print every setting and its origin");
  program.set_version_flag("--version", "telemetryd " + version());
  try {
    program.parse(argc, argv);
  } catch (const CLI::Success& asked) {
    return program.exit(asked);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "telemetryd: %s\nTry telemetryd --help.\n", error.what());
    return kExitUsage;
  }
  config::Loaded loaded = config::load(sources_of(arguments));
  if (!loaded.config) {
    print_problems(loaded);
    return kExitConfig;
  }
  if (arguments.print_config) {
    std::fputs(config::print(*loaded.config).c_str(), stdout);
    return kExitOk;
  }
  if (arguments.check_config) return check(loaded);
  return serve(arguments, std::move(loaded), open_store);
}

}  // namespace

std::string version() {
  return TELEMETRYD_VERSION;
}

int run_program(int argc, char** argv, const StoreFactory& open_store) {
  limit_heaps();
  try {
    return run(argc, argv, open_store);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "telemetryd: %s\n", error.what());
    return kExitFailed;
  }
}

}  // namespace telemetryd::app
