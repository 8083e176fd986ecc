#include "config/check.h"

#include <algorithm>
#include <initializer_list>
#include <sys/un.h>

#include <fmt/format.h>

#include "config/address.h"
#include "config/nearest.h"
#include "config/shown.h"

namespace telemetryd::config {
namespace {

// What a frame has around its largest event: prefix, tag and length.
constexpr std::uint32_t kFrameOverhead = 64;
constexpr std::size_t kNameBytesMax = 64;

class RelationCheck {
 public:
  RelationCheck(const Config& config, const Places& places) : config_(config), places_(places) {}

  std::vector<Problem> run() {
    sizes();
    ages();
    sockets();
    gateway();
    routes();
    return std::move(problems_);
  }

 private:
  // The problem stands where the first of `keys` is that somebody wrote; a default is never wrong
  // by itself.
  void say(std::initializer_list<std::string_view> keys, std::string message) {
    for (const std::string_view key : keys) {
      if (const auto place = places_.find(std::string(key)); place != places_.end()) {
        problems_.push_back(
            {place->second.file, place->second.line, std::string(key), std::move(message)});
        return;
      }
    }
    problems_.push_back({{}, 0, std::string(*keys.begin()), std::move(message)});
  }

  void sizes() {
    const auto& c = config_;
    if (c.ingest.frame_bytes_max < c.ingest.event_bytes_max + kFrameOverhead) {
      say({"ingest.frame_bytes_max", "ingest.event_bytes_max"},
          fmt::format("frame_bytes_max ({}) must be at least event_bytes_max ({}) + {}",
                      c.ingest.frame_bytes_max,
                      c.ingest.event_bytes_max,
                      kFrameOverhead));
    }
    if (c.ingest.frame_bytes_max > c.store.bytes_max / 4) {
      say({"ingest.frame_bytes_max", "store.bytes_max"},
          fmt::format("frame_bytes_max ({}) must be at most a quarter of store.bytes_max ({})",
                      c.ingest.frame_bytes_max,
                      c.store.bytes_max));
    }
    if (c.forward.batch_bytes_max > c.store.bytes_max) {
      say({"forward.batch_bytes_max", "store.bytes_max"},
          fmt::format("batch_bytes_max ({}) must be at most store.bytes_max ({})",
                      c.forward.batch_bytes_max,
                      c.store.bytes_max));
    }
    if (c.forward.retry_delay_min > c.forward.retry_delay_max) {
      say({"forward.retry_delay_min_ms", "forward.retry_delay_max_s"},
          fmt::format("retry_delay_min_ms ({}) must be at most retry_delay_max_s ({} s)",
                      c.forward.retry_delay_min.count(),
                      c.forward.retry_delay_max.count()));
    }
  }

  void socket_length(const std::filesystem::path& path, std::string_view key) {
    if (path.native().size() < sizeof(sockaddr_un::sun_path)) return;
    say({key, "daemon.runtime_dir"},
        fmt::format("'{}' is too long for a socket: at most {} bytes",
                    path.native(),
                    sizeof(sockaddr_un::sun_path) - 1));
  }

  void ages() {
    const std::chrono::seconds kept = std::chrono::days(config_.store.event_age_max_days);
    if (kept.count() > 0 && config_.policy.min_age >= kept) {
      say({"policy.min_age_s", "store.event_age_max_days"},
          fmt::format("min_age_s ({}) must be less than store.event_age_max_days ({} d), or every "
                      "event expires before it may leave",
                      config_.policy.min_age.count(),
                      config_.store.event_age_max_days));
    }
  }

  void sockets() {
    socket_length(config_.ingest.socket, "ingest.socket");
    socket_length(config_.admin.socket, "admin.socket");
    socket_length(config_.forward.socket, "forward.socket");
    socket_length(config_.gateway.grpc_socket, "gateway.grpc_socket");
    if (config_.ingest.socket == config_.admin.socket) {
      say({"admin.socket", "ingest.socket"}, "ingest and admin cannot share one socket");
    }
    if (!config_.forward.socket.empty() && (config_.forward.socket == config_.ingest.socket ||
                                            config_.forward.socket == config_.admin.socket)) {
      say({"forward.socket"}, "is a socket of ours already; the forwarder needs its own");
    }
    const auto& grpc = config_.gateway.grpc_socket;
    if (grpc == config_.ingest.socket || grpc == config_.admin.socket ||
        grpc == config_.forward.socket) {
      say({"gateway.grpc_socket", "ingest.socket", "admin.socket", "forward.socket"},
          "is a socket of ours already; the gateway needs its own");
    }
  }

  // The gateway's TCP listener: who may read what is sent, and who may send.
  void gateway() {
    const auto& g = config_.gateway;
    if (g.tls_cert_file.empty() != g.tls_key_file.empty()) {
      const bool certificate_missing = g.tls_cert_file.empty();
      say({certificate_missing ? "gateway.tls_key_file" : "gateway.tls_cert_file"},
          fmt::format("{} is missing; tls_cert_file and tls_key_file go together",
                      certificate_missing ? "tls_cert_file" : "tls_key_file"));
    }
    if (!g.client_ca_file.empty() && g.tls_cert_file.empty()) {
      say({"gateway.client_ca_file"},
          "means nothing without tls_cert_file: only TLS asks for a client's certificate");
    }
    if (g.by_service_manager && g.user.empty()) {
      say({"gateway.user", "gateway.start_by"},
          "user is missing; it says whose word about other users' events counts");
    }
    if (!g.grpc_listen.empty()) gateway_address();
  }

  void gateway_address() {
    const auto& g = config_.gateway;
    const HostPort address = host_port_of(g.grpc_listen);
    if (address.host.empty()) {
      return say({"gateway.grpc_listen"},
                 "must be HOST:PORT with a port up to 65535, such as 127.0.0.1:4317 or [::1]:4317");
    }
    if (is_loopback(address.host)) return;
    if (g.tls_cert_file.empty()) {
      say({"gateway.grpc_listen"},
          "beyond this machine events travel with TLS only; set tls_cert_file and tls_key_file, or "
          "listen on 127.0.0.1");
    }
    if (g.client_ca_file.empty() && g.token_file.empty()) {
      say({"gateway.grpc_listen"},
          "beyond this machine not everybody may send; set client_ca_file or token_file");
    }
  }

  void routes() {
    std::vector<std::string> names;
    for (const Destination& destination : config_.destinations) names.push_back(destination.name);
    for (std::size_t i = 0; i < config_.routes.size(); ++i) route(config_.routes[i], i, names);
  }

  void route(const Route& route, std::size_t index, const std::vector<std::string>& names) {
    const auto complain = [&](std::string_view key, std::string message) {
      const std::string table = fmt::format("route.{}", index);
      auto found = places_.find(fmt::format("{}.{}", table, key));
      if (found == places_.end()) found = places_.find(table);
      const Place place = found == places_.end() ? Place{} : found->second;
      problems_.push_back(
          {place.file, place.line, fmt::format("route.{}", key), std::move(message)});
    };
    if (route.app.empty()) {
      complain("app", "missing");
    } else if (route.app.size() > kNameBytesMax || !made_of(route.app, "_-*", false)) {
      complain("app", "must be 1 to 64 of a-z 0-9 _ - and * for any text");
    }
    if (route.destination.empty()) {
      complain("destination", "missing");
    } else if (std::ranges::find(names, route.destination) == names.end()) {
      const std::string near = nearest(route.destination, names);
      complain("destination",
               fmt::format("there is no destination '{}'{}",
                           cut(route.destination, kNameBytesMax),
                           near.empty() ? "" : fmt::format("; did you mean '{}'?", near)));
    }
  }

  const Config& config_;
  const Places& places_;
  std::vector<Problem> problems_;
};

}  // namespace

std::vector<Problem> check_relations(const Config& config, const Places& places) {
  return RelationCheck(config, places).run();
}

}  // namespace telemetryd::config
