#include "app/daemon.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <unistd.h>

#include <fmt/format.h>

#include "app/descriptors.h"
#include "app/folders.h"
#include "app/gateway.h"
#include "app/handlers.h"
#include "app/reload.h"
#include "app/shutdown.h"
#include "base/log.h"
#include "config/stop_times.h"

namespace telemetryd::app {
namespace {

constexpr unsigned kSocketMode = 0666;
constexpr int kBacklog = 256;
constexpr std::uint64_t kWalPregrowMax = 16u << 20;

store::Options store_options(const config::Config& config) {
  store::Options options;
  options.state_dir = config.daemon.state_dir;
  options.bytes_max = config.store.bytes_max;
  options.when_full =
      config.store.refuse_when_full ? store::WhenFull::kRefuse : store::WhenFull::kEvictOldest;
  options.event_age_max = std::chrono::hours(24) * config.store.event_age_max_days;
  options.free_disk_bytes_min = config.store.free_disk_bytes_min;
  options.free_files_min = config.store.free_files_min;
  // A small store is not spent on its log.
  options.wal_pregrow_bytes = std::min(kWalPregrowMax, config.store.bytes_max / 8);
  return options;
}

store::StoreThreadOptions store_thread_options(const config::Config& config) {
  store::StoreThreadOptions options;
  options.commit_delay_max = config.store.commit_delay_max;
  options.trickle_delay_max = config.store.trickle_delay_max;
  // At least one frame of the largest size fits.
  options.queue_bytes_max =
      std::max<std::uint64_t>(options.queue_bytes_max, 2 * config.ingest.frame_bytes_max);
  return options;
}

std::uint32_t connections_max(const config::Config& config) {
  const std::uint64_t descriptors = raise_descriptor_limit();
  const std::uint32_t wanted = config.ingest.connections_max;
  const std::uint32_t fit = connections_that_fit(descriptors);
  if (fit >= wanted) return wanted;
  log::warn("connections_max_lowered",
            {{"configured", wanted}, {"used", fit}, {"descriptors", descriptors}});
  return fit;
}

ingest::Options ingest_options(const config::Config& config) {
  ingest::Options options;
  options.event_bytes_max = config.ingest.event_bytes_max;
  options.frame_bytes_max = config.ingest.frame_bytes_max;
  options.connections_max = connections_max(config);
  options.connections_per_uid_max = config.ingest.connections_per_uid_max;
  options.events_per_second_per_uid_max = config.ingest.events_per_second_per_uid_max;
  options.events_per_second_per_app_max = config.ingest.events_per_second_per_app_max;
  return options;
}

schedule::Permit permit_of(config::Sending sending) {
  switch (sending) {
    case config::Sending::kAlways: return schedule::Permit::kAll;
    case config::Sending::kUrgent: return schedule::Permit::kUrgent;
    case config::Sending::kNever: break;
  }
  return schedule::Permit::kNothing;
}

schedule::Options schedule_options(const Parts& parts) {
  const auto& forward = parts.config.forward;
  schedule::Options options;
  options.sync_interval = forward.sync_interval;
  options.batch_events_max = forward.batch_events_max;
  options.batch_bytes_max = forward.batch_bytes_max;
  options.retry_delay_min = forward.retry_delay_min;
  options.retry_delay_max = forward.retry_delay_max;
  options.policy = {
      permit_of(forward.metered), permit_of(forward.roaming), forward.battery_min_percent};
  options.network_bytes_per_day_max = forward.network_bytes_per_day_max;
  options.forward_socket = forward.socket;
  options.forward_command = {forward.program.native()};
  if (!parts.sources.file.empty()) {
    options.forward_command.insert(options.forward_command.end(),
                                   {"--config", parts.sources.file.native()});
  }
  return options;
}

// What the scheduler is told in batches, the tail is told of each.
void watch_queue(Parts& parts, store::Store& store, bool every_commit) {
  const auto& forward = parts.config.forward;
  store.observe_queue(
      [&news = parts.queue_news](const store::QueueChange& change) { news.tell(change); },
      every_commit ? 1 : forward.batch_events_max,
      every_commit ? 1 : forward.batch_bytes_max);
}

schedule::Scheduler::Hooks scheduler_hooks(Parts& parts) {
  return {
      .route = [&parts](const std::string& app) -> std::optional<std::string> {
        // The policy was turned off while running: nothing leaves any more.
        if (parts.policy->machine() == consent::MachinePolicy::kOff) return std::nullopt;
        return config::route(parts.config.routes, app);
      },
      .held = [&parts] { return parts.policy->held(); },
      .min_age = [&parts] { return parts.config.policy.min_age; },
      .machine_id =
          [&parts](const std::string& app, std::function<void(std::string)> done) {
            parts.machine_ids->ask({app, machine_id_scheme(parts.config, app)}, std::move(done));
          },
      .on_busy = [&parts](bool busy) { parts.watchdog->set_busy(busy); },
  };
}

void wire_queue_news(Parts& parts) {
  parts.queue_news.on_change([&parts](const store::QueueChange& change, std::uint64_t number) {
    parts.watchdog->work_seen();
    if (parts.scheduler) parts.scheduler->queue_changed(change, number);
    if (parts.tail) parts.tail->changed();
  });
}

// The programs that we start read the same configuration: what our command line says reaches them
// in the variables that stand below it. Before there are threads.
void tell_children(const config::Sources& sources) {
  const auto tell = [](const char* variable, const std::optional<std::filesystem::path>& folder) {
    if (folder) ::setenv(variable, folder->c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
  };
  tell("TELEMETRYD_STATE_DIR", sources.state_dir);
  tell("TELEMETRYD_RUNTIME_DIR", sources.runtime_dir);
}

void wire_watchdog(Parts& parts) {
  parts.watchdog->ask_with([&parts](const std::function<void()>& answered) {
    if (!parts.store) {
      answered();
      return true;
    }
    const auto posted = parts.store->post(
        [&parts, answered](store::Store&) { parts.loop.post_when_room(answered); });
    return posted.has_value();
  });
}

// The first frame after idleness arms the watchdog before its commit can hang; frames behind it
// cost nothing.
void watch_first_frame(Parts& parts) {
  const auto watch = [&parts] {
    if (parts.ingest) parts.ingest->on_work([&parts] { parts.watchdog->work_seen(); });
  };
  watch();
  parts.watchdog->on_disarm(watch);
}

}  // namespace

Parts::Parts() : queue_news(loop) {}

Daemon::Daemon(config::Sources sources, config::Loaded loaded, std::string version) {
  parts_.sources = std::move(sources);
  parts_.config = std::move(*loaded.config);
  parts_.config_files = std::move(loaded.files);
  parts_.version = std::move(version);
  parts_.started_boot_ms = parts_.clock.boot_ms();
}

std::expected<std::unique_ptr<Daemon>, Daemon::Failure> Daemon::open(config::Sources sources,
                                                                     config::Loaded loaded,
                                                                     const StoreFactory& open_store,
                                                                     std::string version) {
  std::unique_ptr<Daemon> daemon(
      new Daemon(std::move(sources), std::move(loaded), std::move(version)));
  Parts& parts = daemon->parts_;
  InheritedSockets sockets = InheritedSockets::from_environment();
  tell_children(parts.sources);
  parts.watchdog = std::make_unique<Watchdog>(parts.loop, parts.notifier);
  wire_watchdog(parts);
  if (parts.config.policy.mode == consent::MachinePolicy::kOff) {
    parts.policy = std::make_unique<policy::Policy>(parts.config.policy.mode,
                                                    std::vector<store::ConsentRecord>{});
  } else if (auto opened = daemon->open_store(open_store); !opened) {
    return std::unexpected(Failure{kExitStore, opened.error()});
  }
  const auto folder = make_folder(parts.config.daemon.runtime_dir, 0755);
  if (!folder) return std::unexpected(Failure{kExitFailed, folder.error()});
  if (parts.store) {
    if (auto opened = daemon->open_flow(sockets); !opened) {
      return std::unexpected(Failure{kExitFailed, opened.error()});
    }
  }
  if (auto opened = daemon->open_admin(sockets); !opened) {
    return std::unexpected(Failure{kExitFailed, opened.error()});
  }
  // Last, so that clients find us when they read it.
  const auto published = publish_policy(parts.config.daemon.runtime_dir, parts.config.policy.mode);
  if (!published) return std::unexpected(Failure{kExitFailed, published.error()});
  follow_policy(parts);
  daemon->watch_signals();
  return daemon;
}

Result<void> Daemon::open_store(const StoreFactory& open_store) {
  TELEMETRYD_TRY(make_folder(parts_.config.daemon.state_dir, 0700));
  TELEMETRYD_ASSIGN(std::unique_ptr<store::Store> store,
                    open_store(store_options(parts_.config), parts_.clock));
  TELEMETRYD_ASSIGN(const store::Info info, store->info());
  TELEMETRYD_ASSIGN(const std::vector<store::ConsentRecord> records, store->consents());
  parts_.store_facts = {info.sqlite_version, info.epoch, info.loss};
  if (info.loss) log::error("loss_found", {{"loss", *info.loss}});
  parts_.policy = std::make_unique<policy::Policy>(parts_.config.policy.mode, records);
  wire_queue_news(parts_);
  watch_queue(parts_, *store, false);
  parts_.store = std::make_unique<store::StoreThread>(
      std::move(store),
      store_thread_options(parts_.config),
      store::StoreThread::Hooks{
          .on_room =
              [this] {
                parts_.loop.post_when_room([this] {
                  if (parts_.ingest) parts_.ingest->resume_reading();
                });
              },
          .on_fatal =
              [this](const Error& error) {
                parts_.loop.post_when_room([this, error] { store_broke(error); });
              },
      });
  return {};
}

Result<void> Daemon::open_flow(InheritedSockets& sockets) {
  Parts& parts = parts_;
  TELEMETRYD_ASSIGN(UniqueFd socket, listen(sockets, "ingest", parts.config.ingest.socket));
  parts.machine_ids =
      std::make_unique<MachineIds>(parts.loop, *parts.store, parts.config.identity.machine_id_file);
  parts.ingest = std::make_unique<ingest::IngestServer>(
      parts.loop,
      std::move(socket),
      *parts.store,
      parts.clock,
      [&parts](std::uint32_t uid, std::string_view app) {
        parts.watchdog->work_seen();
        return parts.policy->decide(uid, app);
      },
      ingest_options(parts.config));
  parts.scheduler = std::make_unique<schedule::Scheduler>(parts.loop,
                                                          *parts.store,
                                                          parts.clock,
                                                          schedule_options(parts),
                                                          destination_specs(parts.config),
                                                          scheduler_hooks(parts));
  parts.tail = std::make_unique<EventTail>(
      parts.loop,
      *parts.store,
      parts.store_facts.epoch,
      EventTail::Hooks{
          .watch = [&parts](store::Store& store,
                            bool every_commit) { watch_queue(parts, store, every_commit); },
          .machine_id =
              [&parts](const std::string& app) {
                return parts.machine_ids->known({app, machine_id_scheme(parts.config, app)});
              },
      });
  watch_first_frame(parts);
  open_gateway(parts);
  return {};
}

Result<void> Daemon::open_admin(InheritedSockets& sockets) {
  TELEMETRYD_ASSIGN(UniqueFd socket, listen(sockets, "admin", parts_.config.admin.socket));
  Routes routes;
  add_status_routes(parts_, routes);
  add_event_routes(parts_, routes);
  add_dead_routes(parts_, routes);
  add_consent_routes(parts_, routes);
  add_control_routes(parts_, routes);
  TELEMETRYD_ASSIGN(
      parts_.admin,
      admin::AdminServer::start(
          parts_.loop, std::move(socket), parts_.config.admin.group, std::move(routes)));
  return {};
}

Result<UniqueFd> Daemon::listen(InheritedSockets& sockets,
                                const std::string& name,
                                const std::filesystem::path& path) {
  if (UniqueFd inherited = sockets.take(name)) return inherited;
  auto made = loop::listen_unix(path.native(), kSocketMode, kBacklog);
  if (made) parts_.bound_sockets.push_back(path);
  return made;
}

void Daemon::watch_signals() {
  const auto on = [this](int signum, std::function<void()> what) {
    signals_.push_back(std::make_unique<loop::Signal>(parts_.loop, signum, std::move(what)));
  };
  on(SIGTERM, [this] { stop(); });
  on(SIGINT, [this] { stop(); });
  hangups_ = std::make_unique<Hangups>(parts_.loop, kReloadsAtMostEvery, [this] {
    if (!parts_.stopping) (void)reload(parts_);
  });
  on(SIGHUP, [this] { hangups_->heard(); });
}

void Daemon::store_broke(const Error& error) {
  log::error("store_broken", {{"cause", error.message()}});
  // Nothing may be acknowledged any more, so there is nothing to drain.
  parts_.exit_code = kExitStore;
  parts_.loop.stop();
}

void Daemon::stop() {
  if (parts_.stopping) return parts_.loop.stop();  // asked twice: at once
  log::info("stopping");
  stop_deadline_ = std::make_unique<loop::Timer>(parts_.loop, [this] {
    log::warn("stopped_by_deadline");
    parts_.loop.stop();
  });
  stop_deadline_->start_once(config::kStopMax);
  stop_backwards(parts_, [this] { parts_.loop.stop(); });
}

int Daemon::run() {
  log::info("started",
            {{"version", parts_.version},
             {"policy", consent::policy_name(parts_.config.policy.mode)},
             {"state_dir", parts_.config.daemon.state_dir.native()},
             {"epoch", parts_.store_facts.epoch}});
  if (parts_.scheduler) parts_.scheduler->start();
  parts_.notifier.ready(fmt::format("Serving, configuration {}", parts_.generation));
  parts_.loop.run();

  // No callback of the loop runs from here on. The store thread's last functions still know the
  // parts, so those go after it.
  parts_.admin.reset();
  parts_.gateway.reset();
  // While the store's lock still keeps a successor out.
  for (const auto& socket : parts_.bound_sockets) ::unlink(socket.c_str());
  if (parts_.store) {
    if (const auto closed = parts_.store->stop(); !closed) {
      log::error("store_not_closed", {{"cause", closed.error().message()}});
      if (parts_.exit_code == kExitOk) parts_.exit_code = kExitStore;
    }
  }
  log::info("stopped", {{"exit_code", parts_.exit_code}});
  return parts_.exit_code;
}

}  // namespace telemetryd::app
