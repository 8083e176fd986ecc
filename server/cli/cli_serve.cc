#include <algorithm>
#include <csignal>
#include <cstdio>
#include <memory>
#include <sys/resource.h>

#include "base/io.h"
#include "base/log.h"
#include "server/cli/cli.h"
#include "server/server.h"

namespace telemetryd::server {
namespace {

constexpr std::size_t kPemBytesMax = 1u << 20;
constexpr std::chrono::seconds kDrainTimeMax{15};

struct ServeOptions {
  std::string listen = "127.0.0.1:8080";
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  std::string port_file;
  std::string log_level = "info";
  unsigned max_connections = 1024;
  bool insecure_http = false;
  KitLeniency kit;
};

Result<std::string> read_pem(const char* option, const std::string& path) {
  auto text = read_file(path, kPemBytesMax);
  if (!text) return fail(text.error().with_context(option));
  return text;
}

Result<std::optional<TlsFiles>> read_tls(const ServeOptions& options) {
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    return fail(ErrorCode::kInvalidArgument, "--tls-cert and --tls-key come together");
  }
  if (options.tls_cert.empty()) {
    if (options.tls_client_ca.empty()) return std::nullopt;
    return fail(ErrorCode::kInvalidArgument, "--tls-client-ca needs --tls-cert and --tls-key");
  }
  TlsFiles files;
  TELEMETRYD_ASSIGN(files.certificate, read_pem("--tls-cert", options.tls_cert));
  TELEMETRYD_ASSIGN(std::string key, read_pem("--tls-key", options.tls_key));
  files.key = Secret(std::move(key));
  if (!options.tls_client_ca.empty()) {
    TELEMETRYD_ASSIGN(files.client_ca, read_pem("--tls-client-ca", options.tls_client_ca));
  }
  return std::optional<TlsFiles>(std::move(files));
}

Result<ServerOptions> server_options(const Cli& cli, const ServeOptions& options) {
  ServerOptions made;
  TELEMETRYD_ASSIGN(made.database, parse_database(cli.database_text));
  TELEMETRYD_ASSIGN(made.listen, parse_listen(options.listen));
  TELEMETRYD_ASSIGN(made.tls, read_tls(options));
  if (!made.tls && !made.listen.loopback && !options.insecure_http) {
    return fail(ErrorCode::kInvalidArgument,
                "plain HTTP on " + options.listen +
                    " would show tokens and events to the network; give --tls-cert and --tls-key, "
                    "or --insecure-http when something in front does TLS");
  }
  made.http.connections_max = options.max_connections;
  made.kit = options.kit;
  return made;
}

// Each connection is a descriptor, and the usual soft limit is where the default of connections is.
void raise_descriptor_limit(unsigned connections) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t needed = connections + rlim_t{64};
  if (limit.rlim_cur >= needed) return;
  limit.rlim_cur = limit.rlim_max == RLIM_INFINITY ? needed : std::min(needed, limit.rlim_max);
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    log::warn("descriptor_limit_kept", {{"connections_max", connections}});
  }
}

sigset_t block_stop_signals() {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  // Before any thread starts, so that all inherit it and only sigwait() sees the signals.
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return stop;
}

Result<int> serve(const Cli& cli, const ServeOptions& options) {
  log::Level level = log::Level::kInfo;
  if (!log::parse_level(options.log_level, level)) {
    return fail(ErrorCode::kInvalidArgument, "--log-level is debug, info, warn or error");
  }
  log::open("telemetry-server", level);
  TELEMETRYD_ASSIGN(ServerOptions made, server_options(cli, options));
  const std::string scheme = made.tls ? "https://" : "http://";
  const ListenAddress listen = made.listen;
  const std::string database = made.database.native();
  raise_descriptor_limit(options.max_connections);
  const sigset_t stop = block_stop_signals();
  const SystemClock clock;
  TELEMETRYD_ASSIGN(const std::unique_ptr<Server> server, Server::start(std::move(made), clock));
  const std::string url = scheme + authority(listen, server->port());
  if (!options.port_file.empty()) {
    TELEMETRYD_TRY(replace_file(options.port_file, std::to_string(server->port()) + "\n", 0644));
  }
  std::printf("listening on %s\n", url.c_str());
  std::fflush(stdout);
  log::info("server_started", {{"url", url}, {"database", database}});
  int received = 0;
  sigwait(&stop, &received);
  log::info("server_stopping", {{"signal", received}});
  if (!server->stop(kDrainTimeMax)) log::warn("requests_cut_off");
  log::info("server_stopped");
  return 0;
}

}  // namespace

void add_serve(CLI::App& app, Cli& cli) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App* verb = add_verb(app, cli, "serve", "Take events from daemons and SDKs until stopped");
  verb->add_option(
          "--listen", options->listen, "HOST:PORT, a numeric address or localhost; port 0: any")
      ->capture_default_str();
  verb->add_option("--tls-cert", options->tls_cert, "certificate chain, PEM");
  verb->add_option("--tls-key", options->tls_key, "its key, PEM");
  verb->add_option(
      "--tls-client-ca", options->tls_client_ca, "only clients with a certificate of it");
  verb->add_option("--port-file", options->port_file, "write the bound port here");
  verb->add_option("--max-connections", options->max_connections, "at the same time")
      ->check(CLI::Range(2, 65536))
      ->capture_default_str();
  verb->add_flag("--insecure-http", options->insecure_http, "plain HTTP beyond this machine");
  verb->add_flag("--accept-plain-signatures",
                 options->kit.plain_signatures,
                 "telemetry-kit uploads that sign no nonce");
  verb->add_flag("--accept-missing-token",
                 options->kit.missing_token,
                 "telemetry-kit uploads without a bearer token, by their path");
  verb->add_option("--log-level", options->log_level, "debug, info, warn or error")
      ->capture_default_str();
  verb->callback(
      [&cli, options] { cli.action = [&cli, options] { return serve(cli, *options); }; });
}

}  // namespace telemetryd::server
