#include "app/reload.h"

#include <fmt/format.h>

#include "app/folders.h"
#include "app/gateway.h"
#include "base/log.h"
#include "config/address.h"

namespace telemetryd::app {
namespace {

void take_over(Parts& parts, config::Config&& wanted) {
  parts.config.destinations = std::move(wanted.destinations);
  parts.config.routes = std::move(wanted.routes);
  parts.config.policy = wanted.policy;
  // The origins of keys that wait for a restart stay those of their running values.
  std::erase_if(parts.config.origins, [](const auto& origin) {
    return origin.first.starts_with("destination.") || origin.first.starts_with("route.") ||
           origin.first.starts_with("policy.");
  });
  for (const auto& [key, origin] : wanted.origins) parts.config.origins.try_emplace(key, origin);
}

const std::string& upstream_of(const config::Destination& destination) {
  return destination.staging ? destination.staging_url : destination.url;
}

bool has_store(consent::MachinePolicy mode) {
  return mode != consent::MachinePolicy::kOff;
}

}  // namespace

std::vector<schedule::DestinationSpec> destination_specs(const config::Config& config) {
  std::vector<schedule::DestinationSpec> specs;
  for (const auto& destination : config.destinations) {
    const bool on_this_machine = destination.kind == "file" || destination.kind == "none" ||
                                 config::is_loopback(config::host_of(upstream_of(destination)));
    specs.push_back({destination.name, destination.kind, on_this_machine});
  }
  return specs;
}

Reloaded reload(Parts& parts) {
  config::Loaded loaded = config::load(parts.sources);
  if (!loaded.config) {
    for (const auto& problem : loaded.problems) {
      log::error("config_problem", {{"problem", config::to_string(problem)}});
    }
    return {.done = false, .problems = std::move(loaded.problems), .restart_needed = {}};
  }
  parts.notifier.reloading();
  Reloaded result{.done = true, .problems = {}, .restart_needed = {}};
  result.restart_needed = config::restart_needed(parts.config, *loaded.config);
  // A daemon that was started without a store cannot begin to collect by itself.
  if (!parts.store && has_store(loaded.config->policy.mode)) {
    result.restart_needed.emplace_back("policy.mode");
    loaded.config->policy.mode = parts.config.policy.mode;
  }
  take_over(parts, std::move(*loaded.config));
  parts.config_files = std::move(loaded.files);
  ++parts.generation;

  parts.policy->set_machine(parts.config.policy.mode);
  const auto published = publish_policy(parts.config.daemon.runtime_dir, parts.config.policy.mode);
  if (!published) log::warn("policy_not_published", {{"cause", published.error().message()}});
  if (parts.ingest) parts.ingest->refresh_modes();
  follow_policy(parts);
  if (parts.scheduler) parts.scheduler->reconfigure(destination_specs(parts.config));
  parts.notifier.ready(fmt::format("Serving, configuration {}", parts.generation));
  log::info("config_reloaded",
            {{"generation", parts.generation},
             {"destinations", parts.config.destinations.size()},
             {"restart_needed", result.restart_needed.size()}});
  return result;
}

}  // namespace telemetryd::app
