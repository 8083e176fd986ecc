#include <algorithm>
#include <span>
#include <string_view>

#include <fmt/format.h>

#include "config/address.h"
#include "config/check.h"

namespace telemetryd::config {
namespace {

constexpr std::size_t kNameBytesMax = 64;
constexpr std::size_t kServerNameBytesMax = 128;

// The keys that each kind knows beside name and kind; any other does nothing there.
struct Kind {
  std::string_view name;
  std::string_view keys;  // between spaces
};

constexpr Kind kKinds[] = {
    {"file", " url machine_id_scheme "},
    {"grpc", " url token_file ca_file client_cert_file client_key_file proxy machine_id_scheme "},
    {"ingest",
     " url org app token_file secret_file signature staging_url staging ca_file client_cert_file "
     "client_key_file proxy proxy_credentials_file allow_plain_http machine_id_scheme "},
    {"native",
     " url org app token_file secret_file ca_file client_cert_file client_key_file proxy "
     "proxy_credentials_file allow_plain_http machine_id_scheme "},
    {"none", " "},
};

class DestinationCheck {
 public:
  DestinationCheck(const Destination& destination, const TablePlace& place)
      : destination_(destination), place_(place) {}

  std::vector<Problem> run() {
    name();
    const auto kind = std::ranges::find(kKinds, destination_.kind, &Kind::name);
    if (kind == std::end(kKinds)) {
      say("kind", "missing; one of file, grpc, ingest, native, none");
      return std::move(problems_);
    }
    if (kind->name == "file") file();
    if (kind->name == "grpc") grpc();
    if (kind->name == "ingest") ingest();
    if (kind->name == "native") native();
    proxy();
    meaningless(*kind);
    return std::move(problems_);
  }

 private:
  void say(std::string_view key, std::string message) {
    problems_.push_back(
        {place_.file, place_.line_of(key), fmt::format("destination.{}", key), std::move(message)});
  }

  void name() {
    if (destination_.name.empty()) {
      say("name", "missing");
    } else if (destination_.name.size() > kNameBytesMax ||
               !made_of(destination_.name, "_-", false)) {
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
    server_address("url", destination_.url);
    account();
    needed("token_file", destination_.token_file);
    needed("secret_file", destination_.secret_file);
    client_certificate();
  }

  void ingest() {
    server_address("url", destination_.url);
    account();
    needed("secret_file", destination_.secret_file);
    if (!destination_.staging_url.empty()) server_address("staging_url", destination_.staging_url);
    if (destination_.staging && destination_.staging_url.empty()) {
      say("staging_url", "missing; staging = true sends there instead of to url");
    }
    client_certificate();
  }

  void grpc() {
    const std::string& url = destination_.url;
    const bool plain = url.starts_with("http://");
    if (url.empty()) return say("url", "missing; kind grpc needs https://HOST:PORT");
    if (!plain && !url.starts_with("https://")) {
      return say("url", "must begin with https:// (or http:// for this machine)");
    }
    const HostPort server = host_port_of(std::string_view(url).substr(url.find("://") + 3));
    if (server.host.empty() || server.port == "0") {
      return say("url", "must be https://HOST:PORT for kind grpc, with nothing after the port");
    }
    if (plain && !is_loopback(server.host)) {
      return say("url", "plain http only goes to this machine; use https://");
    }
    if (plain) {
      without_tls("ca_file", destination_.ca_file);
      without_tls("client_cert_file", destination_.client_cert_file);
      without_tls("client_key_file", destination_.client_key_file);
    }
    client_certificate();
  }

  void proxy() {
    const std::string& proxy = destination_.proxy;
    if (proxy.empty()) {
      if (destination_.proxy_credentials_file.empty()) return;
      return say("proxy_credentials_file", "means nothing without proxy");
    }
    const std::size_t scheme = proxy.find("://");
    const std::string_view named = std::string_view(proxy).substr(0, scheme);
    const bool http_only = destination_.kind == "grpc";
    if (scheme == std::string::npos ||
        (named != "http" && (http_only || (named != "https" && named != "socks5h")))) {
      return say("proxy",
                 http_only ? "must be http://HOST:PORT for kind grpc"
                           : "must begin with http://, https:// or socks5h://");
    }
    const std::string_view rest = std::string_view(proxy).substr(scheme + 3);
    if (rest.find('@') != std::string_view::npos) {
      return say("proxy", "must hold no user or password; use proxy_credentials_file");
    }
    const HostPort server = host_port_of(rest);
    if (server.host.empty() || server.port.empty() || server.port == "0") {
      say("proxy", "must be SCHEME://HOST:PORT, with nothing after the port");
    }
  }

  void without_tls(std::string_view key, const std::filesystem::path& path) {
    if (!path.empty()) say(key, "means nothing with http://; use https://, or leave it out");
  }

  void client_certificate() {
    if (destination_.client_cert_file.empty() == destination_.client_key_file.empty()) return;
    say(destination_.client_cert_file.empty() ? "client_cert_file" : "client_key_file",
        "missing; client_cert_file and client_key_file go together");
  }

  void needed(std::string_view key, const std::filesystem::path& path) {
    if (path.empty()) say(key, fmt::format("missing; kind {} needs it", destination_.kind));
  }

  void server_address(std::string_view key, const std::string& url) {
    const bool plain = url.starts_with("http://");
    if (url.empty()) {
      return say(key, fmt::format("missing; kind {} needs https://HOST", destination_.kind));
    }
    if (!plain && !url.starts_with("https://")) {
      return say(key, "must begin with https:// (or http:// for this machine)");
    }
    if (std::ranges::any_of(url, [](char c) {
          const auto byte = static_cast<unsigned char>(c);
          return byte <= 0x20 || byte >= 0x7f || c == '?' || c == '#';
        })) {
      return say(key, "must have no spaces, no query and no fragment");
    }
    const std::string_view rest = std::string_view(url).substr(url.find("://") + 3);
    if (rest.substr(0, rest.find('/')).find('@') != std::string_view::npos) {
      return say(key, "must hold no user or password; use token_file and secret_file");
    }
    const std::string_view host = host_of(url);
    if (host.empty()) return say(key, "has no host");
    if (plain && !destination_.allow_plain_http && !is_loopback(host)) {
      say(key,
          "plain http only goes to this machine; use https://, or set allow_plain_http = true");
    }
  }

  void account() {
    server_name("org", destination_.org);
    server_name("app", destination_.app);
  }

  void server_name(std::string_view key, const std::string& value) {
    if (value.empty()) {
      return say(key, fmt::format("missing; kind {} needs it", destination_.kind));
    }
    if (value.size() > kServerNameBytesMax || !made_of(value, "_-.", true) || value == "." ||
        value == "..") {
      say(key, "must be 1 to 128 of A-Z a-z 0-9 _ - .");
    }
  }

  // A key that does nothing is a mistake that nobody would notice.
  void meaningless(const Kind& kind) {
    const auto refuse = [&](std::string_view key, bool present) {
      if (present && kind.keys.find(fmt::format(" {} ", key)) == std::string_view::npos) {
        say(key, fmt::format("means nothing for kind {}", kind.name));
      }
    };
    const Destination& d = destination_;
    refuse("url", !d.url.empty());
    refuse("org", !d.org.empty());
    refuse("app", !d.app.empty());
    refuse("token_file", !d.token_file.empty());
    refuse("secret_file", !d.secret_file.empty());
    refuse("signature", d.plain_signature);
    refuse("staging_url", !d.staging_url.empty());
    refuse("staging", d.staging);
    refuse("ca_file", !d.ca_file.empty());
    refuse("client_cert_file", !d.client_cert_file.empty());
    refuse("client_key_file", !d.client_key_file.empty());
    refuse("proxy", !d.proxy.empty());
    refuse("proxy_credentials_file", !d.proxy_credentials_file.empty());
    refuse("allow_plain_http", d.allow_plain_http);
    refuse("machine_id_scheme", d.telemetry_kit_machine_id);
  }

  const Destination& destination_;
  const TablePlace& place_;
  std::vector<Problem> problems_;
};

}  // namespace

std::vector<Problem> check_destination(const Destination& destination, const TablePlace& place) {
  return DestinationCheck(destination, place).run();
}

}  // namespace telemetryd::config
