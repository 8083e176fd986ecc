#include "config/keys.h"

#include <array>
#include <limits>

#include <fmt/format.h>

#include "config/key_builders.h"
#include "config/toml_text.h"

namespace telemetryd::config {
namespace {

using C = Config;

constexpr std::int64_t kKiB = 1 << 10;
constexpr std::int64_t kMiB = 1 << 20;
constexpr std::int64_t kHourS = 3600;

std::string_view level_word(log::Level level) {
  switch (level) {
    case log::Level::kDebug: return "debug";
    case log::Level::kInfo: return "info";
    case log::Level::kWarn: return "warn";
    case log::Level::kError: return "error";
  }
  return "info";
}

Sending sending_of(const Value& v) {
  using enum Sending;
  return v.text == "urgent" ? kUrgent : v.text == "always" ? kAlways : kNever;
}

Value word_of(Sending sending) {
  using enum Sending;
  return {.text = sending == kUrgent ? "urgent" : sending == kAlways ? "always" : "never"};
}

void set_mode(Config& c, const Value& v) {
  using enum consent::MachinePolicy;
  c.policy.mode = v.text == "opt-in" ? kOptIn : v.text == "opt-out" ? kOptOut : kOff;
}

Value get_mode(const Config& c) {
  using enum consent::MachinePolicy;
  const auto mode = c.policy.mode;
  return {.text = mode == kOptIn ? "opt-in" : mode == kOptOut ? "opt-out" : "off"};
}

constexpr std::array kDaemon = {
    in_section<&C::daemon, &C::Daemon::state_dir>(
        path("state_dir",
             "/var/lib/telemetryd, or $XDG_STATE_HOME/telemetryd for a user",
             "Folder of the event store; created with mode 0700 when absent.")),
    in_section<&C::daemon, &C::Daemon::runtime_dir>(
        path("runtime_dir",
             "/run/telemetryd, or $XDG_RUNTIME_DIR/telemetryd for a user",
             "Folder of the sockets and of the policy file; created with mode 0755 when absent.")),
    word<Config>(
        "log_level",
        "\"info\"",
        "debug info warn error",
        "Least important log lines to write.",
        false,
        [](Config& c, const Value& v) { (void)log::parse_level(v.text, c.daemon.log_level); },
        [](const Config& c) { return Value{.text = std::string(level_word(c.daemon.log_level))}; }),
};

constexpr std::array kIngest = {
    in_section<&C::ingest, &C::Ingest::socket>(
        path("socket", "ingest.sock in runtime_dir", "Socket that apps send events to.")),
    in_section<&C::ingest, &C::Ingest::event_bytes_max>(
        integer("event_bytes_max", "65536", kKiB, kMiB, "Largest encoded event, in bytes.")),
    in_section<&C::ingest, &C::Ingest::frame_bytes_max>(integer(
        "frame_bytes_max", "1048576", 2 * kKiB, 8 * kMiB, "Largest frame payload, in bytes.")),
    in_section<&C::ingest, &C::Ingest::connections_max>(
        integer("connections_max", "1024", 1, 65536, "Connections open at a time.")),
    in_section<&C::ingest, &C::Ingest::connections_per_uid_max>(integer(
        "connections_per_uid_max", "256", 1, 65536, "Connections of one user open at a time.")),
    in_section<&C::ingest, &C::Ingest::events_per_second_per_uid_max>(
        integer("events_per_second_per_uid_max",
                "100000",
                0,
                100'000'000,
                "Events of one user accepted a second; faster senders are slowed down, nothing is "
                "lost; 0 for no limit.")),
    in_section<&C::ingest, &C::Ingest::events_per_second_per_app_max>(
        integer("events_per_second_per_app_max",
                "50000",
                0,
                100'000'000,
                "Of these, those of one app of the user, so that the others keep a part; 0 for no "
                "limit.")),
};

constexpr std::array kStore = {
    in_section<&C::store, &C::Store::bytes_max>(
        integer("bytes_max",
                "536870912",
                8 * kMiB,
                std::int64_t{1} << 50,
                "Most disk space in bytes for the database, its log and everything beside it.")),
    word<Config>(
        "when_full",
        "\"evict_oldest\"",
        "evict_oldest refuse",
        "What a full store does: remove events of whoever has more than the fair share, the oldest "
        "of the lowest class first, or refuse new ones so that apps try again later.",
        false,
        [](Config& c, const Value& v) { c.store.refuse_when_full = v.text == "refuse"; },
        [](const Config& c) {
          return Value{.text = c.store.refuse_when_full ? "refuse" : "evict_oldest"};
        }),
    in_section<&C::store, &C::Store::event_age_max_days>(
        integer("event_age_max_days",
                "30",
                0,
                36500,
                "Days after which an event that could not be delivered is removed, counted by the "
                "time that the machine was up, so that no leap of the clock removes anything; 0 "
                "for never.")),
    in_section<&C::store, &C::Store::free_disk_bytes_min>(
        integer("free_disk_bytes_min",
                "268435456",
                0,
                std::int64_t{1} << 50,
                "Room in bytes that the file system of state_dir keeps for others: with less, new "
                "events are refused so that apps try again later, and delivery goes on; 0 for "
                "none.")),
    in_section<&C::store, &C::Store::free_files_min>(
        integer("free_files_min",
                "64",
                0,
                1'000'000'000,
                "Files (inodes) that can still be made on the file system of state_dir; with "
                "fewer, new events are refused likewise; 0 for no such bound.")),
    in_section<&C::store, &C::Store::commit_delay_max>(
        integer("commit_delay_max_ms",
                "200",
                0,
                10'000,
                "Longest wait in milliseconds for more frames before a commit; flush, goodbye, "
                "urgent events and a full window end it at once.")),
    in_section<&C::store, &C::Store::trickle_delay_max>(
        integer("trickle_delay_max_ms",
                "30000",
                0,
                30'000,
                "The same while events trickle on for minutes and nobody waits for them: longer, "
                "because every commit writes at least a page; 0 to leave it at "
                "commit_delay_max_ms.")),
};

constexpr std::array kForward = {
    in_section<&C::forward, &C::Forward::sync_interval>(
        integer("sync_interval_s",
                "300",
                1,
                7 * 24 * kHourS,
                "Seconds between deliveries of what is queued, with jitter.")),
    in_section<&C::forward, &C::Forward::sync_on_shutdown>(
        boolean("sync_on_shutdown",
                "true",
                "Whether to try a last delivery, 5 seconds at most, before stopping.")),
    in_section<&C::forward, &C::Forward::batch_events_max>(
        integer("batch_events_max", "1000", 1, 10'000, "Events sent upstream together at most.")),
    in_section<&C::forward, &C::Forward::batch_bytes_max>(
        integer("batch_bytes_max",
                "1048576",
                kKiB,
                7 * kMiB,
                "Bytes sent upstream together at most, but at least one event.")),
    in_section<&C::forward, &C::Forward::retry_delay_min>(
        integer("retry_delay_min_ms",
                "1000",
                100,
                kHourS * 1000,
                "Upper end of the first random wait after a failed delivery, in milliseconds; it "
                "doubles with each failure.")),
    in_section<&C::forward, &C::Forward::retry_delay_max>(integer(
        "retry_delay_max_s", "300", 1, 24 * kHourS, "Where the doubling ends, in seconds.")),
    in_section<&C::forward, &C::Forward::request_timeout>(integer(
        "request_timeout_s", "30", 1, kHourS, "Seconds one request to an upstream may take.")),
    word<Config>(
        "metered",
        "\"urgent\"",
        "urgent always never",
        "What is sent while NetworkManager calls the network metered: urgent events, everything or "
        "nothing. The rest waits for another network. `telemetryctl queue flush` overrules urgent, "
        "not never. Destinations on this machine do not ask.",
        false,
        [](Config& c, const Value& v) { c.forward.metered = sending_of(v); },
        [](const Config& c) { return word_of(c.forward.metered); }),
    word<Config>(
        "roaming",
        "\"never\"",
        "never urgent always",
        "The same while ModemManager says that the modem which carries the network is roaming.",
        false,
        [](Config& c, const Value& v) { c.forward.roaming = sending_of(v); },
        [](const Config& c) { return word_of(c.forward.roaming); }),
    in_section<&C::forward, &C::Forward::battery_min_percent>(
        integer("battery_min_percent",
                "20",
                0,
                100,
                "Charge below which, by UPower and without mains power, only urgent events are "
                "sent; 0 for no such bound.")),
    in_section<&C::forward, &C::Forward::network_bytes_per_day_max>(
        integer("network_bytes_per_day_max",
                "0",
                0,
                1LL << 50,
                "Bytes of bodies that all destinations together may be sent in a day, which is 24 "
                "hours from the first; then nothing leaves until it is over, and the last batch "
                "may go beyond; 0 for no limit.")),
    in_section<&C::forward, &C::Forward::socket>(
        path("socket",
             "none: telemetryd starts the forwarder itself",
             "Socket on which the service manager starts telemetryd-forward.")),
    in_section<&C::forward, &C::Forward::program>(
        path("program",
             "telemetryd-forward beside telemetryd",
             "The forwarder that telemetryd starts when there is no socket.")),
};

constexpr std::array kGateway = {
    in_section<&C::gateway, &C::Gateway::enabled>(
        boolean("enabled",
                "true",
                "Whether events are taken over gRPC; telemetryd-gateway runs while somebody "
                "speaks to it.")),
    in_section<&C::gateway, &C::Gateway::grpc_socket>(
        path("grpc_socket", "grpc.sock in runtime_dir", "Socket that takes gRPC.")),
    in_section<&C::gateway, &C::Gateway::grpc_listen>(
        text("grpc_listen",
             "",
             "none",
             "HOST:PORT that takes gRPC over TCP as well, such as 127.0.0.1:4317 or [::1]:4317; "
             "then the gateway always runs. Such events belong to no user and only admins see "
             "them. Beyond this machine it needs TLS, and client_ca_file or token_file.")),
    in_section<&C::gateway, &C::Gateway::idle_exit>(
        integer("idle_exit_s",
                "60",
                1,
                24 * kHourS,
                "Seconds without an event after which the gateway exits; the next connection "
                "starts it again.")),
    word<Config>(
        "start_by",
        "\"telemetryd\"",
        "telemetryd service_manager",
        "Who starts the gateway: telemetryd as its child, or the service manager by socket "
        "activation, as `user`.",
        false,
        [](Config& c, const Value& v) { c.gateway.by_service_manager = v.text != "telemetryd"; },
        [](const Config& c) {
          return Value{.text = c.gateway.by_service_manager ? "service_manager" : "telemetryd"};
        }),
    in_section<&C::gateway, &C::Gateway::user>(
        text("user",
             "\"telemetryd-gateway\"",
             "",
             "User that the service manager runs the gateway as; what this user says about whose "
             "events it brings is believed. Nobody else may run anything as this user.")),
    in_section<&C::gateway, &C::Gateway::program>(path(
        "program", "telemetryd-gateway beside telemetryd", "The gateway that telemetryd starts.")),
    in_section<&C::gateway, &C::Gateway::tls_cert_file>(
        path("tls_cert_file",
             "none: TCP only on this machine",
             "Certificate of the TCP listener in PEM, with its chain.")),
    in_section<&C::gateway, &C::Gateway::tls_key_file>(
        path("tls_key_file", "none", "Key of the certificate in PEM.")),
    in_section<&C::gateway, &C::Gateway::client_ca_file>(
        path("client_ca_file",
             "none: clients need no certificate",
             "Authorities in PEM, one of which must have signed the certificate that a client "
             "over TCP shows.")),
    in_section<&C::gateway, &C::Gateway::token_file>(
        path("token_file",
             "none: clients need no token",
             "File with the bearer token that clients over TCP must send.")),
};

constexpr std::array kAdmin = {
    in_section<&C::admin, &C::Admin::socket>(
        path("socket", "admin.sock in runtime_dir", "Socket of the admin API and telemetryctl.")),
    in_section<&C::admin, &C::Admin::group>(
        text("group",
             "\"telemetry-admin\"",
             "",
             "Group whose members may do everything, as root may; need not exist.")),
};

constexpr std::array kPolicy = {
    word<Config>(
        "mode",
        "\"opt-in\"",
        "opt-in opt-out off",
        "opt-in: nothing is collected until somebody turns it on; opt-out: everything is unless "
        "somebody turns it off; off: nothing is, whatever people say.",
        true,
        set_mode,
        get_mode),
    in_section<&C::policy, &C::Policy::min_age>(
        integer("min_age_s",
                "0",
                0,
                365 * 24 * kHourS,
                "Seconds that an event waits here before it may leave, so that people can look at "
                "it first; in time that the machine is up. A queue flush does not shorten it.")),
};

constexpr std::array kIdentity = {
    in_section<&C::identity, &C::Identity::machine_id_file>(
        path("machine_id_file",
             "/var/lib/dbus/machine-id, then /etc/machine-id",
             "File that the salted machine ID is derived from, once per app.")),
};

constexpr Section kSections[] = {
    {"daemon", "The process and its folders.", kDaemon},
    {"ingest", "What apps may send.", kIngest},
    {"store", "The event store on disk.", kStore},
    {"forward", "When and how events leave the machine.", kForward},
    {"gateway", "Events over gRPC.", kGateway},
    {"admin", "The admin API.", kAdmin},
    {"policy", "What may be collected. A reload changes it.", kPolicy},
    {"identity", "The machine ID.", kIdentity},
};

using D = Destination;

constexpr std::array kDestination = {
    direct<D, &D::name>(text<D>("name", "", "required", "Its name: 1 to 64 of a-z 0-9 _ -.")),
    required(word<D>(
        "kind",
        "",
        "file grpc ingest native none",
        "file: lines of JSON in a file; grpc: another machine's telemetryd-gateway; ingest: a "
        "server that takes telemetry-kit uploads; native: a telemetry-server; none: delivered to "
        "nowhere, and gone.",
        true,
        [](D& d, const Value& v) { d.kind = v.text; },
        [](const D& d) { return Value{.text = d.kind}; })),
    direct<D, &D::url>(
        long_text<D>("url",
                     "",
                     "required for all but none",
                     "Address of the server, https://…, for kind grpc https://HOST:PORT; for kind "
                     "file the absolute path of the file.")),
    direct<D, &D::org>(
        text<D>("org", "", "required for native and ingest", "Organisation at the server.")),
    direct<D, &D::app>(text<D>("app", "", "required for native and ingest", "App at the server.")),
    direct<D, &D::token_file>(
        path<D>("token_file", "required for native", "File that holds the bearer token.")),
    direct<D, &D::secret_file>(path<D>(
        "secret_file", "required for native and ingest", "File that holds the signing secret.")),
    word<D>(
        "signature",
        "\"nonce\"",
        "nonce plain",
        "Kind ingest: what is signed; plain is for servers that know no nonce, and lets a captured "
        "request be repeated.",
        true,
        [](D& d, const Value& v) { d.plain_signature = v.text == "plain"; },
        [](const D& d) { return Value{.text = d.plain_signature ? "plain" : "nonce"}; }),
    direct<D, &D::staging_url>(
        long_text<D>("staging_url",
                     "",
                     "none",
                     "Kind ingest: address of the server to try things on; needed by staging.")),
    direct<D, &D::staging>(boolean<D>(
        "staging", "false", "Kind ingest: whether to send to staging_url instead of url.")),
    direct<D, &D::ca_file>(
        path<D>("ca_file", "the system's", "Certificates of the authorities to trust, in PEM.")),
    direct<D, &D::client_cert_file>(
        path<D>("client_cert_file", "none", "Client certificate in PEM.")),
    direct<D, &D::client_key_file>(
        path<D>("client_key_file", "none", "Key of the client certificate in PEM.")),
    direct<D, &D::proxy>(
        long_text<D>("proxy", "", "the environment's", "Proxy to go through, http://HOST:PORT.")),
    direct<D, &D::proxy_credentials_file>(
        path<D>("proxy_credentials_file", "none", "File that holds USER:PASSWORD for the proxy.")),
    direct<D, &D::allow_plain_http>(
        boolean<D>("allow_plain_http",
                   "false",
                   "Whether http:// is accepted for hosts other than this machine.")),
    word<D>(
        "machine_id_scheme",
        "\"salted\"",
        "salted telemetry-kit",
        "How the machine ID of the apps routed there is made: salted is ours, another one for each "
        "app; telemetry-kit is what its SDKs send, so that a server sees the same machine as "
        "before: one ID for all apps of the machine from a public salt, so whoever receives it can "
        "link them, and whoever knows machine-id can compute it.",
        true,
        [](D& d, const Value& v) { d.telemetry_kit_machine_id = v.text == "telemetry-kit"; },
        [](const D& d) {
          return Value{.text = d.telemetry_kit_machine_id ? "telemetry-kit" : "salted"};
        }),
};

constexpr std::array kRoute = {
    direct<Route, &Route::app>(
        text<Route>("app", "", "required", "Name of an app, or a pattern in which * is any text.")),
    direct<Route, &Route::destination>(
        text<Route>("destination", "", "required", "Name of a destination.")),
};

}  // namespace

std::string toml_quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\u{:04X}", static_cast<unsigned>(byte));
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::span<const Section> sections() {
  return kSections;
}

std::span<const Key<Destination>> destination_keys() {
  return kDestination;
}

std::span<const Key<Route>> route_keys() {
  return kRoute;
}

std::string toml_literal(Type type, const Value& value) {
  if (type == Type::kInteger) return std::to_string(value.integer);
  if (type == Type::kBoolean) return value.boolean ? "true" : "false";
  return toml_quoted(value.text);
}

}  // namespace telemetryd::config
