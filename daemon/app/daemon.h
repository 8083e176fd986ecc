// app/daemon.h: everything of telemetryd, put together in the order of the data.
//
// Knows everybody and decides nothing: apps' frames go from ingest through the store thread to the
// scheduler; policy says what may be collected; the admin API looks on. What the parts say to each
// other is wired in daemon.cc, one function per link.
//
// Owns:    all parts.
// Thread:  main, which runs the loop.
// Fails:   open() with the exit code for the process.

#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "admin/admin_server.h"
#include "app/event_tail.h"
#include "app/gateway_starter.h"
#include "app/hangups.h"
#include "app/inherited_sockets.h"
#include "app/machine_ids.h"
#include "app/notifier.h"
#include "app/queue_news.h"
#include "app/watchdog.h"
#include "base/clock.h"
#include "base/result.h"
#include "config/config.h"
#include "ingest/ingest_server.h"
#include "loop/loop.h"
#include "policy/policy.h"
#include "schedule/scheduler.h"
#include "store/store.h"
#include "store/store_thread.h"

namespace telemetryd::app {

using StoreFactory =
    std::function<Result<std::unique_ptr<store::Store>>(const store::Options&, const Clock&)>;

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 64;
inline constexpr int kExitStore = 74;
inline constexpr int kExitConfig = 78;

// What is known about the store since it was opened.
struct StoreFacts {
  std::string sqlite_version;
  std::uint64_t epoch = 0;
  std::optional<std::string> loss;
};

// The parts, each using only those above it. With policy "off" there is no store, and with it none
// of the parts from the store to the tail.
struct Parts {
  Parts();

  config::Sources sources;
  config::Config config;
  std::vector<std::filesystem::path> config_files;
  std::uint64_t generation = 1;
  std::string version;
  bool stopping = false;
  int exit_code = kExitOk;

  SystemClock clock;
  BootMs started_boot_ms = 0;
  loop::Loop loop;
  Notifier notifier;
  std::unique_ptr<Watchdog> watchdog;
  std::unique_ptr<policy::Policy> policy;

  StoreFacts store_facts;
  QueueNews queue_news;
  std::unique_ptr<store::StoreThread> store;
  std::unique_ptr<MachineIds> machine_ids;
  std::unique_ptr<ingest::IngestServer> ingest;
  std::unique_ptr<schedule::Scheduler> scheduler;
  std::unique_ptr<EventTail> tail;
  std::unique_ptr<GatewayStarter> gateway;
  std::string gateway_user_problem;  // the service manager's gateway is not believed; empty: it is
  std::unique_ptr<admin::AdminServer> admin;

  std::vector<std::filesystem::path> bound_sockets;  // by us, so removed by us
};

class Daemon {
 public:
  struct Failure {
    int exit_code;
    Error error;
  };

  [[nodiscard]] static std::expected<std::unique_ptr<Daemon>, Failure> open(
      config::Sources sources,
      config::Loaded loaded,
      const StoreFactory& open_store,
      std::string version);

  // Serves until a signal or a broken store; the exit code.
  int run();

 private:
  Daemon(config::Sources sources, config::Loaded loaded, std::string version);

  Result<void> open_store(const StoreFactory& open_store);
  Result<void> open_flow(InheritedSockets& sockets);
  Result<void> open_admin(InheritedSockets& sockets);
  Result<UniqueFd> listen(InheritedSockets& sockets,
                          const std::string& name,
                          const std::filesystem::path& path);
  void watch_signals();
  void store_broke(const Error& error);
  void stop();

  Parts parts_;
  std::unique_ptr<Hangups> hangups_;
  std::vector<std::unique_ptr<loop::Signal>> signals_;
  std::unique_ptr<loop::Timer> stop_deadline_;
};

}  // namespace telemetryd::app
