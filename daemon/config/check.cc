#include "config/check.h"

#include <algorithm>
#include <initializer_list>
#include <set>
#include <sys/un.h>

#include <fmt/format.h>

#include "config/nearest.h"

namespace telemetryd::config {
namespace {

// What a frame has around its largest event: prefix, tag and length.
constexpr std::uint32_t kFrameOverhead = 64;
constexpr std::size_t kNameBytesMax = 64;
constexpr std::size_t kServerNameBytesMax = 128;

bool all_of(std::string_view text, std::string_view extra, bool upper) {
  return std::ranges::all_of(text, [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (upper && c >= 'A' && c <= 'Z') ||
           extra.find(c) != std::string_view::npos;
  });
}

// Text between scheme and path, without the port; empty when there is none.
std::string_view host_of(std::string_view url) {
  std::string_view rest = url.substr(url.find("://") + 3);
  rest = rest.substr(0, rest.find('/'));
  if (rest.starts_with('[')) return rest.substr(0, rest.find(']') + 1);
  return rest.substr(0, rest.find(':'));
}

bool is_loopback(std::string_view host) {
  if (host == "localhost" || host == "[::1]") return true;
  return host.starts_with("127.") && all_of(host.substr(4), ".", false) &&
         std::ranges::none_of(host, [](char c) { return c >= 'a' && c <= 'z'; });
}

class DestinationCheck {
 public:
  DestinationCheck(const Destination& destination, const Place& place)
      : destination_(destination), place_(place) {}

  std::vector<Problem> run() {
    name();
    if (destination_.kind.empty()) {
      say("kind", "missing; one of file, native, none");
    } else if (destination_.kind == "native") {
      native();
    } else {
      if (destination_.kind == "file") file();
      meaningless();
    }
    return std::move(problems_);
  }

 private:
  void say(std::string_view key, std::string message) {
    problems_.push_back(
        {place_.file, place_.line, fmt::format("destination.{}", key), std::move(message)});
  }

  void name() {
    if (destination_.name.empty()) {
      say("name", "missing");
    } else if (destination_.name.size() > kNameBytesMax ||
               !all_of(destination_.name, "_-", false)) {
      say("name", "must be 1 to 64 of a-z 0-9 _ -");
    }
  }

  void file() {
    if (destination_.url.empty()) {
      say("url", "missing; for kind file it is the absolute path of the file to write");
    } else if (!destination_.url.starts_with('/')) {
      say("url", "must be an absolute path for kind file, such as /var/log/telemetry.jsonl");
    }
  }

  void native() {
    url();
    server_name("org", destination_.org);
    server_name("app", destination_.app);
    if (destination_.token_file.empty()) say("token_file", "missing; kind native needs it");
    if (destination_.secret_file.empty()) say("secret_file", "missing; kind native needs it");
    if (destination_.client_cert_file.empty() != destination_.client_key_file.empty()) {
      say(destination_.client_cert_file.empty() ? "client_cert_file" : "client_key_file",
          "missing; client_cert_file and client_key_file go together");
    }
  }

  void url() {
    const std::string& url = destination_.url;
    const bool plain = url.starts_with("http://");
    if (url.empty()) return say("url", "missing; kind native needs https://HOST");
    if (!plain && !url.starts_with("https://")) {
      return say("url", "must begin with https:// (or http:// for this machine)");
    }
    if (std::ranges::any_of(url, [](char c) {
          const auto byte = static_cast<unsigned char>(c);
          return byte <= 0x20 || byte >= 0x7f || c == '?' || c == '#';
        })) {
      return say("url", "must have no spaces, no query and no fragment");
    }
    const std::string_view rest = std::string_view(url).substr(url.find("://") + 3);
    if (rest.substr(0, rest.find('/')).find('@') != std::string_view::npos) {
      return say("url", "must hold no user or password; use token_file and secret_file");
    }
    const std::string_view host = host_of(url);
    if (host.empty()) return say("url", "has no host");
    if (plain && !destination_.allow_plain_http && !is_loopback(host)) {
      say("url",
          "plain http only goes to this machine; use https://, or set allow_plain_http = true");
    }
  }

  void server_name(std::string_view key, const std::string& value) {
    if (value.empty()) return say(key, "missing; kind native needs it");
    if (value.size() > kServerNameBytesMax || !all_of(value, "_-.", true) || value == "." ||
        value == "..") {
      say(key, "must be 1 to 128 of A-Z a-z 0-9 _ - .");
    }
  }

  // A key that does nothing is a mistake that nobody would notice.
  void meaningless() {
    const auto refuse = [&](std::string_view key, bool present) {
      if (present) say(key, fmt::format("means nothing for kind {}", destination_.kind));
    };
    refuse("url", destination_.kind == "none" && !destination_.url.empty());
    refuse("org", !destination_.org.empty());
    refuse("app", !destination_.app.empty());
    refuse("token_file", !destination_.token_file.empty());
    refuse("secret_file", !destination_.secret_file.empty());
    refuse("ca_file", !destination_.ca_file.empty());
    refuse("client_cert_file", !destination_.client_cert_file.empty());
    refuse("client_key_file", !destination_.client_key_file.empty());
    refuse("allow_plain_http", destination_.allow_plain_http);
  }

  const Destination& destination_;
  const Place& place_;
  std::vector<Problem> problems_;
};

class RelationCheck {
 public:
  RelationCheck(const Config& config, const Places& places) : config_(config), places_(places) {}

  std::vector<Problem> run() {
    sizes();
    sockets();
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

  void sockets() {
    socket_length(config_.ingest.socket, "ingest.socket");
    socket_length(config_.admin.socket, "admin.socket");
    socket_length(config_.forward.socket, "forward.socket");
    if (config_.ingest.socket == config_.admin.socket) {
      say({"admin.socket", "ingest.socket"}, "ingest and admin cannot share one socket");
    }
    if (!config_.forward.socket.empty() && (config_.forward.socket == config_.ingest.socket ||
                                            config_.forward.socket == config_.admin.socket)) {
      say({"forward.socket"}, "is a socket of ours already; the forwarder needs its own");
    }
  }

  void routes() {
    std::vector<std::string> names;
    for (const Destination& destination : config_.destinations) names.push_back(destination.name);
    for (std::size_t i = 0; i < config_.routes.size(); ++i) route(config_.routes[i], i, names);
  }

  void route(const Route& route, std::size_t index, const std::vector<std::string>& names) {
    const std::string key = fmt::format("route.{}", index);
    const auto found = places_.find(key);
    const Place place = found == places_.end() ? Place{} : found->second;
    if (route.app.empty()) {
      problems_.push_back({place.file, place.line, "route.app", "missing"});
    } else if (route.app.size() > kNameBytesMax || !all_of(route.app, "_-*", false)) {
      problems_.push_back({place.file,
                           place.line,
                           "route.app",
                           "must be 1 to 64 of a-z 0-9 _ - and * for any text"});
    }
    if (route.destination.empty()) {
      problems_.push_back({place.file, place.line, "route.destination", "missing"});
    } else if (std::ranges::find(names, route.destination) == names.end()) {
      const std::string near = nearest(route.destination, names);
      problems_.push_back(
          {place.file,
           place.line,
           "route.destination",
           fmt::format("there is no destination '{}'{}",
                       route.destination.substr(0, kNameBytesMax),
                       near.empty() ? "" : fmt::format("; did you mean '{}'?", near))});
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

std::vector<Problem> check_destination(const Destination& destination, const Place& place) {
  return DestinationCheck(destination, place).run();
}

}  // namespace telemetryd::config
