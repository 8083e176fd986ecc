#include "app/machine_ids.h"

#include <utility>

#include "base/log.h"
#include "identity/identity.h"

namespace telemetryd::app {
namespace {

// Store thread.
Result<std::string> read_or_derive(store::Store& store,
                                   const std::string& app,
                                   const std::filesystem::path& uid_file) {
  const std::string key = "machine_id/" + app;
  TELEMETRYD_ASSIGN(std::optional<std::string> stored, store.identity(key));
  if (stored) return *stored;
  const auto derived = identity::derive(identity::Scheme::kSaltThenUid, app, uid_file);
  TELEMETRYD_TRY(store.set_identity("machine_id_source/" + app, derived.source));
  // Nobody hears an ID that would be another one after the next start.
  TELEMETRYD_TRY(store.set_identity(key, derived.machine_id));
  log::info("machine_id_derived", {{"app", app}, {"source", derived.source}});
  return derived.machine_id;
}

}  // namespace

MachineIds::MachineIds(loop::Loop& loop, store::StoreThread& store, std::filesystem::path uid_file)
    : loop_(loop), store_(store), uid_file_(std::move(uid_file)) {}

void MachineIds::ask(const std::string& app, std::function<void(std::string)> done) {
  if (const auto found = known_.find(app); found != known_.end()) return done(found->second);
  auto& waiting = waiting_[app];
  waiting.push_back(std::move(done));
  if (waiting.size() > 1) return;
  const auto posted = store_.post([this, app](store::Store& store) {
    const auto id = read_or_derive(store, app, uid_file_);
    if (!id) log::warn("machine_id_unavailable", {{"app", app}, {"cause", id.error().message()}});
    loop_.post_when_room([this, app, text = id.value_or("")] { answer(app, text); });
  });
  if (!posted) answer(app, "");
}

std::string MachineIds::known(const std::string& app) const {
  const auto found = known_.find(app);
  return found == known_.end() ? std::string() : found->second;
}

void MachineIds::answer(const std::string& app, const std::string& machine_id) {
  if (!machine_id.empty()) known_[app] = machine_id;
  const auto waiting = std::exchange(waiting_[app], {});
  waiting_.erase(app);
  for (const auto& done : waiting) done(machine_id);
}

}  // namespace telemetryd::app
