// config/config.h: every setting, read once into a type that cannot be wrong.
//
// One table in keys.cc (section, key, type, unit, default, bounds, one sentence) drives parsing,
// --print-config, the shipped telemetryd.toml and docs/config.md. Precedence: flag, environment
// (TELEMETRYD_STATE_DIR, TELEMETRYD_RUNTIME_DIR), conf.d (later files win per key), file, default.
// An unknown key, a wrong type or an impossible relation is an error that names file, line, key and
// the nearest valid key; all problems are reported at once. telemetryd, telemetryd-forward and
// telemetryctl read configuration through here.
//
// Thread:  immutable after load.
// Limits:  1 MiB per file, 256 files in conf.d, 256 destinations, 1024 routes.

#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "consent/consent.h"

namespace telemetryd::config {

// What may leave over a network that costs money.
enum class Sending { kAlways, kUrgent, kNever };

struct Destination {
  std::string name;
  std::string kind;  // "file", "grpc", "ingest", "native", "none"
  std::string url;   // kind file: the absolute path of the JSONL file
  std::string org;
  std::string app;
  std::filesystem::path token_file;
  std::filesystem::path secret_file;
  std::filesystem::path ca_file;
  std::filesystem::path client_cert_file;
  std::filesystem::path client_key_file;
  std::string proxy;  // "http://host:port", https:// or socks5h://; empty: the environment's
  std::filesystem::path proxy_credentials_file;
  bool allow_plain_http = false;          // plain http to hosts other than loopback
  bool plain_signature = false;           // kind ingest: `signature = "plain"`; default "nonce"
  std::string staging_url;                // kind ingest
  bool staging = false;                   // kind ingest: send to staging_url instead of url
  bool telemetry_kit_machine_id = false;  // `machine_id_scheme = "telemetry-kit"`; default "salted"
};

struct Route {
  std::string app;  // a name, or a pattern with * ; the first route that matches decides
  std::string destination;
};

struct Config {
  struct Daemon {
    std::filesystem::path state_dir;
    std::filesystem::path runtime_dir;
    log::Level log_level = log::Level::kInfo;
  } daemon;

  struct Ingest {
    std::filesystem::path socket;  // default: runtime_dir/ingest.sock
    std::uint32_t event_bytes_max = 65536;
    std::uint32_t frame_bytes_max = 1u << 20;
    std::uint32_t connections_max = 1024;
    std::uint32_t connections_per_uid_max = 256;
    std::uint32_t events_per_second_per_uid_max = 100000;  // 0: none
    std::uint32_t events_per_second_per_app_max = 50000;   // 0: none
  } ingest;

  struct Store {
    std::uint64_t bytes_max = 512ull << 20;
    bool refuse_when_full = false;
    std::uint32_t event_age_max_days = 30;             // 0: none
    std::uint64_t free_disk_bytes_min = 256ull << 20;  // 0: none
    std::uint32_t free_files_min = 64;                 // 0: none
    std::chrono::milliseconds commit_delay_max{200};
    std::chrono::milliseconds trickle_delay_max{30'000};  // 0: none beyond commit_delay_max
  } store;

  struct Forward {
    std::chrono::seconds sync_interval{300};
    bool sync_on_shutdown = true;
    std::uint32_t batch_events_max = 1000;
    std::uint64_t batch_bytes_max = 1u << 20;
    std::chrono::milliseconds retry_delay_min{1000};
    std::chrono::seconds retry_delay_max{300};
    std::chrono::seconds request_timeout{30};
    Sending metered = Sending::kUrgent;
    Sending roaming = Sending::kNever;
    std::uint32_t battery_min_percent = 20;
    std::uint64_t network_bytes_per_day_max = 0;  // 0: none
    std::filesystem::path socket;                 // empty: start telemetryd-forward as a child
    std::filesystem::path program;                // telemetryd-forward; default: beside telemetryd
  } forward;

  struct Gateway {
    bool enabled = true;
    std::filesystem::path grpc_socket;  // default: runtime_dir/grpc.sock
    std::string grpc_listen;            // "HOST:PORT" over TCP; empty: off
    std::chrono::seconds idle_exit{60};
    bool by_service_manager = false;  // `start_by = "service_manager"`; default "telemetryd"
    std::string user = "telemetryd-gateway";  // whose peer_uid counts, by_service_manager only
    std::filesystem::path program;            // telemetryd-gateway; default: beside telemetryd
    // Of the TCP listener: without certificate only loopback, and beyond loopback a client
    // certificate or a token is asked for.
    std::filesystem::path tls_cert_file;
    std::filesystem::path tls_key_file;
    std::filesystem::path client_ca_file;
    std::filesystem::path token_file;
  } gateway;

  struct Admin {
    std::filesystem::path socket;  // default: runtime_dir/admin.sock
    std::string group = "telemetry-admin";
  } admin;

  struct Policy {
    consent::MachinePolicy mode = consent::MachinePolicy::kOptIn;
    std::chrono::seconds min_age{0};
  } policy;

  struct Identity {
    std::filesystem::path machine_id_file;  // empty: /var/lib/dbus/machine-id, then /etc/machine-id
  } identity;

  std::vector<Destination> destinations;
  std::vector<Route> routes;

  // Where a key got its value: "/etc/telemetryd/telemetryd.toml:12", "--state-dir",
  // "TELEMETRYD_STATE_DIR". Keys are "store.bytes_max" and "destination.NAME"; absent means
  // default.
  std::map<std::string, std::string> origins;
};

struct Problem {
  std::filesystem::path file;  // empty: flag or environment
  std::uint32_t line = 0;      // 0: the file as a whole
  std::string key;             // "store.bytes_max"
  std::string message;         // what is wrong and what would be right
};

// "FILE:LINE: KEY: message".
std::string to_string(const Problem& problem);

struct Sources {
  std::filesystem::path file;                      // empty: the default place, which may be absent
  bool file_required = false;                      // --config was given
  std::optional<std::filesystem::path> state_dir;  // --state-dir
  std::optional<std::filesystem::path> runtime_dir;  // --runtime-dir
};

struct Loaded {
  std::optional<Config> config;  // nothing when there are problems
  std::vector<Problem> problems;
  std::vector<std::filesystem::path> files;  // that were read, in order
};

// Reads file and conf.d beside it. Does not touch the folders it names.
[[nodiscard]] Loaded load(const Sources& sources);

// The effective configuration as TOML with each value's origin as a comment. Secrets are file names
// only.
std::string print(const Config& config);

// The shipped telemetryd.toml: every key commented out at its default with its sentence;
// docs/config.md; and docs/man/telemetryd.toml.5.scd.
std::string default_toml();
std::string reference_markdown();
std::string reference_man();

// Keys whose values differ and that count only after a restart, as "ingest.socket".
std::vector<std::string> restart_needed(const Config& running, const Config& wanted);

// The destination of an app under `routes`; nothing when none matches.
std::optional<std::string> route(const std::vector<Route>& routes, std::string_view app);

// System places for root and service users, XDG places otherwise; shared with telemetryctl.
std::filesystem::path default_config_file();
std::filesystem::path default_state_dir();
std::filesystem::path default_runtime_dir();
// Beside the running program.
std::filesystem::path default_forward_program();
std::filesystem::path default_gateway_program();

}  // namespace telemetryd::config
