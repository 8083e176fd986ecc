#include "app/machine_ids.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace telemetryd::app {
namespace {

// Store thread.
Result<std::string> read_or_derive(store::Store& store,
                                   const MachineIds::Key& wanted,
                                   const std::filesystem::path& uid_file) {
  const auto& [app, scheme] = wanted;
  const bool kit = scheme == identity::Scheme::kTelemetryKit;
  const std::string name = kit ? "telemetry_kit_machine_id" : "machine_id";
  const std::string key = name + "/" + app;
  TELEMETRYD_ASSIGN(std::optional<std::string> stored, store.identity(key));
  if (stored) return *stored;
  const auto derived = identity::derive(scheme, app, uid_file);
  TELEMETRYD_TRY(store.set_identity(name + "_source/" + app, derived.source));
  // Nobody hears an ID that would be another one after the next start.
  TELEMETRYD_TRY(store.set_identity(key, derived.machine_id));
  log::info(
      "machine_id_derived",
      {{"app", app}, {"scheme", kit ? "telemetry-kit" : "salted"}, {"source", derived.source}});
  return derived.machine_id;
}

}  // namespace

identity::Scheme machine_id_scheme(const config::Config& config, const std::string& app) {
  const auto name = config::route(config.routes, app);
  const auto found = std::ranges::find_if(
      config.destinations, [&](const auto& destination) { return destination.name == name; });
  const bool kit = found != config.destinations.end() && found->telemetry_kit_machine_id;
  return kit ? identity::Scheme::kTelemetryKit : identity::Scheme::kSaltThenUid;
}

MachineIds::MachineIds(loop::Loop& loop, store::StoreThread& store, std::filesystem::path uid_file)
    : loop_(loop), store_(store), uid_file_(std::move(uid_file)) {}

void MachineIds::ask(const Key& key, std::function<void(std::string)> done) {
  if (const auto found = known_.find(key); found != known_.end()) return done(found->second);
  auto& waiting = waiting_[key];
  waiting.push_back(std::move(done));
  if (waiting.size() > 1) return;
  const auto posted = store_.post([this, key](store::Store& store) {
    const auto id = read_or_derive(store, key, uid_file_);
    if (!id) {
      log::warn("machine_id_unavailable", {{"app", key.first}, {"cause", id.error().message()}});
    }
    loop_.post_when_room([this, key, text = id.value_or("")] { answer(key, text); });
  });
  if (!posted) answer(key, "");
}

std::string MachineIds::known(const Key& key) const {
  const auto found = known_.find(key);
  return found == known_.end() ? std::string() : found->second;
}

void MachineIds::answer(const Key& key, const std::string& machine_id) {
  if (!machine_id.empty()) known_[key] = machine_id;
  const auto waiting = std::exchange(waiting_[key], {});
  waiting_.erase(key);
  for (const auto& done : waiting) done(machine_id);
}

}  // namespace telemetryd::app
