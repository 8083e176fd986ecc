#include <fstream>
#include <unistd.h>

#include <fmt/format.h>

#include "app/api_json.h"
#include "app/api_request.h"
#include "app/gateway.h"
#include "app/handlers.h"
#include "app/status_reasons.h"

namespace telemetryd::app {
namespace {

struct StoreView {
  store::Info info;
  store::Accounts machine;
  std::vector<AppQueue> apps;
};

// Everything a status needs, in two steps: the scheduler's side, then the store's.
struct View {
  Observed observed;
  StoreView store;
};

Result<StoreView> view_of(store::Store& store) {
  StoreView view;
  TELEMETRYD_ASSIGN(view.info, store.info());
  TELEMETRYD_ASSIGN(const store::Ledger ledger, store.ledger());
  view.machine = store::machine_total(ledger);
  for (const std::string& app : store.apps()) {
    TELEMETRYD_ASSIGN(const store::QueueInfo queue, store.queue(app));
    view.apps.push_back({app, std::nullopt, queue.events, queue.bytes});
  }
  return view;
}

View complete(const Parts& parts,
              StoreView store,
              const std::vector<schedule::DestinationStatus>& destinations) {
  View view;
  for (AppQueue& app : store.apps) app.destination = config::route(parts.config.routes, app.name);
  view.observed = {.stopping = parts.stopping,
                   .policy_off = parts.policy->machine() == consent::MachinePolicy::kOff,
                   .store = parts.store != nullptr,
                   .refuse_when_full = parts.config.store.refuse_when_full,
                   .loss = parts.store_facts.loss,
                   .quarantined_stores = store.info.quarantined_stores,
                   .quarantined_newest = store.info.quarantined_newest.native(),
                   .troubles = store.info.troubles,
                   .gateway_problem = gateway_problem(parts),
                   .store_bytes = store.info.bytes,
                   .store_bytes_max = store.info.bytes_max,
                   .balanced = store.machine.imbalance() == 0,
                   .apps = store.apps,
                   .destinations = destinations};
  view.store = std::move(store);
  return view;
}

void look(Parts& parts, const admin::Reply& reply, std::function<void(View)> then) {
  if (!parts.store) return then(complete(parts, {}, {}));
  parts.scheduler->status([&parts, reply, then = std::move(then)](
                              const std::vector<schedule::DestinationStatus>& destinations) {
    ask_store(parts, reply, view_of, [&parts, destinations, then](StoreView store) {
      then(complete(parts, std::move(store), destinations));
    });
  });
}

Json memory_bytes() {
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  if (resident == 0) return nullptr;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

Json budget_json(const Parts& parts, const View& view) {
  std::uint64_t sent = 0;
  for (const auto& destination : view.observed.destinations) sent += destination.sent_bytes_today;
  const std::uint64_t sent_max = parts.config.forward.network_bytes_per_day_max;
  return {{"disk_bytes_today", nullptr},
          {"network_bytes_today", sent},
          {"network_bytes_per_day_max", sent_max > 0 ? Json(sent_max) : Json(nullptr)},
          {"memory_bytes", memory_bytes()}};
}

Json paths_json(const Parts& parts) {
  Json files = Json::array();
  for (const auto& file : parts.config_files) files.push_back(file.native());
  const auto main = parts.sources.file.empty() ? config::default_config_file() : parts.sources.file;
  return {{"config_files", std::move(files)},
          {"config_dir", main.parent_path().native()},
          {"state_dir", parts.config.daemon.state_dir.native()},
          {"ingest_socket", parts.config.ingest.socket.native()},
          {"admin_socket", parts.config.admin.socket.native()},
          {"grpc_socket", parts.config.gateway.grpc_socket.native()}};
}

Json apps_json(const Parts& parts, const View& view, std::uint32_t uid) {
  Json apps = Json::array();
  for (const AppQueue& app : view.observed.apps) {
    apps.push_back({{"name", app.name},
                    {"destination", app.destination ? Json(*app.destination) : Json(nullptr)},
                    {"queued_events", app.events},
                    {"queued_bytes", app.bytes},
                    {"mode", consent::mode_name(parts.policy->decide(uid, app.name).mode)}});
  }
  return apps;
}

Json store_json(const Parts& parts, const View& view) {
  if (!parts.store) return nullptr;
  const auto& time_to_full = view.store.info.time_to_full_s;
  return {{"bytes", view.store.info.bytes},
          {"bytes_max", view.store.info.bytes_max},
          {"time_to_full_s", time_to_full ? Json(*time_to_full) : Json(nullptr)},
          {"sqlite_version", view.store.info.sqlite_version},
          {"epoch", view.store.info.epoch},
          {"ledger_corrections", view.store.info.ledger_corrections}};
}

Json ingest_json(const Parts& parts) {
  if (!parts.ingest) return nullptr;
  const ingest::Stats stats = parts.ingest->stats();
  return {{"connections", stats.connections},
          {"connections_total", stats.connections_total},
          {"connections_refused", stats.connections_refused},
          {"protocol_errors", stats.protocol_errors},
          {"peer_uids_refused", stats.peer_uids_refused},
          {"rate_waits", stats.rate_waits},
          {"frames_cut_short", stats.frames_cut_short},
          {"kept_bytes", stats.kept_bytes},
          {"events_per_second", nullptr},
          {"frames", stats.frames_accepted},
          {"events", stats.events_accepted}};
}

Json status_json(const Parts& parts, const View& view, std::uint32_t uid) {
  const std::vector<std::string> why = reasons(view.observed);
  Json destinations = Json::array();
  for (const auto& destination : view.observed.destinations) {
    destinations.push_back(to_json(destination));
  }
  const char* state = parts.stopping ? "stopping" : why.empty() ? "ok" : "degraded";
  return {{"version", parts.version},
          {"state", state},
          {"reasons", why},
          {"uptime_s", (parts.clock.boot_ms() - parts.started_boot_ms) / 1000},
          {"generation", parts.generation},
          {"policy", consent::policy_name(parts.policy->machine())},
          {"ledger", to_json(view.store.machine)},
          {"apps", apps_json(parts, view, uid)},
          {"destinations", std::move(destinations)},
          {"store", store_json(parts, view)},
          {"ingest", ingest_json(parts)},
          {"gateway", gateway_json(parts)},
          {"budget", budget_json(parts, view)},
          {"paths", paths_json(parts)}};
}

void show_status(Parts& parts, const admin::Call& call, const admin::Reply& reply) {
  look(parts, reply, [&parts, reply, uid = call.peer.uid](const View& view) {
    reply.json(200, dump(status_json(parts, view, uid)));
  });
}

void show_ready(Parts& parts, const admin::Reply& reply) {
  look(parts, reply, [reply](const View& view) {
    const std::vector<std::string> why = not_ready(view.observed);
    if (why.empty()) return reply.text(200, "text/plain", "ready\n");
    reply.text(503, "text/plain", fmt::format("{}\n", fmt::join(why, "\n")));
  });
}

struct LedgerView {
  store::Ledger ledger;
  std::optional<store::LedgerCheck> check;
};

void show_ledger(Parts& parts, const admin::Call& call, const admin::Reply& reply) {
  if (const auto known = only_words(call, {"check"}); !known) return reply.error(known.error());
  const std::string check = word(call, "check");
  if (check != "" && check != "0" && check != "1") {
    return reply.error(Error(ErrorCode::kInvalidArgument, "check must be 0 or 1"));
  }
  const bool checking = check == "1";
  // It reads every row.
  if (checking && !call.peer.admin) {
    return reply.error(Error(ErrorCode::kPermissionDenied, "only an admin may check the ledger"));
  }
  ask_store(
      parts,
      reply,
      [checking](store::Store& store) -> Result<LedgerView> {
        LedgerView view;
        TELEMETRYD_ASSIGN(view.ledger, store.ledger());
        if (checking) {
          TELEMETRYD_ASSIGN(view.check, store.check_ledger());
        }
        return view;
      },
      [reply](const LedgerView& view) {
        Json apps = Json::object();
        for (const auto& [app, accounts] : view.ledger) apps[app] = to_json(accounts);
        Json answer = {{"machine", to_json(store::machine_total(view.ledger))},
                       {"apps", std::move(apps)}};
        if (view.check) {
          answer["check"] = {{"balanced", view.check->balanced},
                             {"problems", view.check->problems},
                             {"rows", view.check->rows}};
        }
        reply.json(200, dump(answer));
      });
}

}  // namespace

void add_status_routes(Parts& parts, Routes& routes) {
  using admin::Access;
  routes.push_back({"GET", "/healthz", Access::kEverybody, [](const auto&, auto reply) {
                      reply.text(200, "text/plain", "ok\n");
                    }});
  routes.push_back({"GET", "/readyz", Access::kEverybody, [&](const auto&, auto reply) {
                      show_ready(parts, reply);
                    }});
  routes.push_back({"GET", "/v1/status", Access::kEverybody, [&](const auto& call, auto reply) {
                      show_status(parts, call, reply);
                    }});
  routes.push_back({"GET", "/v1/ledger", Access::kEverybody, [&](const auto& call, auto reply) {
                      show_ledger(parts, call, reply);
                    }});
}

}  // namespace telemetryd::app
