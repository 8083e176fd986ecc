#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ctl/admin_client.h"
#include "ctl/destination_file.h"
#include "ctl/destination_text.h"
#include "ctl/session.h"
#include "ctl/status_text.h"

namespace telemetryd::ctl {
namespace {

struct AddOptions {
  NewDestination added;
  std::string config_dir;
};

Result<int> list_destinations(Session& session) {
  AdminClient admin(session.socket);
  TELEMETRYD_ASSIGN(const nlohmann::json answer, admin.get("/v1/destinations"));
  if (session.json) {
    session.print(answer.dump(2) + "\n");
    return kOk;
  }
  Table table({"NAME", "KIND", "WAITING", "BYTES", "LAST SUCCESS", "STATE"});
  for (const auto& destination : member_in(answer, "destinations")) {
    table.add({text_in(destination, "name", "?"),
               text_in(destination, "kind", "?"),
               count_text(number_in(destination, "queued_events")),
               bytes_text(number_in(destination, "queued_bytes")),
               text_in(destination, "last_success", "never"),
               destination_state_text(destination)});
  }
  session.print(table.empty()
                    ? fmt::format("No destination is configured. To add one: {}\n", kAddDestination)
                    : table.text());
  return kOk;
}

Result<int> show_destination(Session& session, const std::string& name) {
  AdminClient admin(session.socket);
  TELEMETRYD_ASSIGN(const nlohmann::json answer, admin.get("/v1/destinations"));
  for (const auto& destination : member_in(answer, "destinations")) {
    if (text_in(destination, "name") != name) continue;
    session.print(session.json ? destination.dump(2) + "\n" : destination_text(destination));
    return kOk;
  }
  return fail(
      ErrorCode::kNotFound,
      fmt::format("no destination '{}'; telemetryctl destination list shows those there are",
                  name));
}

Result<int> test_destination(Session& session, const std::string& name) {
  constexpr std::chrono::seconds kProbeTime{90};
  AdminClient admin(session.socket);
  TELEMETRYD_ASSIGN(const nlohmann::json answer,
                    admin.post("/v1/destinations/test", {{"name", name}}, kProbeTime));
  const bool good = member_in(answer, "ok") == true;
  const std::string detail = text_in(answer, "detail", "no detail given");
  if (session.json) {
    session.print(answer.dump(2) + "\n");
    return good ? kOk : kFailed;
  }
  if (!good) return fail(ErrorCode::kFailedPrecondition, fmt::format("{}: {}", name, detail));
  session.note(fmt::format("{} answers: {}", name, detail));
  return kOk;
}

// The daemon's main file: in the folder that was named, or where the daemon says that it reads.
Result<std::filesystem::path> main_file(AdminClient& admin, const std::string& config_dir) {
  constexpr const char* kName = "telemetryd.toml";
  if (!config_dir.empty()) return std::filesystem::absolute(config_dir) / kName;
  const auto status = admin.get("/v1/status");
  if (!status) {
    return fail(
        status.error().with_context("asking the daemon where its configuration is (or give "
                                    "--config-dir)"));
  }
  const auto& paths = member_in(*status, "paths");
  const std::filesystem::path directory = text_in(paths, "config_dir");
  for (const auto& file : member_in(paths, "config_files")) {
    if (!file.is_string()) continue;
    const std::filesystem::path path = file.get<std::string>();
    if (path.parent_path() == directory) return path;
  }
  if (directory.empty()) return config::default_config_file();
  return directory / kName;
}

void make_absolute(std::filesystem::path& path) {
  if (!path.empty()) path = std::filesystem::absolute(path);
}

Result<int> add_destination_file(Session& session, AddOptions options) {
  AdminClient admin(session.socket);
  auto& destination = options.added.destination;
  make_absolute(destination.token_file);
  make_absolute(destination.secret_file);
  make_absolute(destination.ca_file);
  make_absolute(destination.client_cert_file);
  make_absolute(destination.client_key_file);
  make_absolute(destination.proxy_credentials_file);
  TELEMETRYD_ASSIGN(const auto file, main_file(admin, options.config_dir));
  TELEMETRYD_ASSIGN(const auto written, write_destination(file, options.added));
  session.note("Wrote " + written.native());
  if (options.added.routes.empty()) {
    session.note("No --route was given, so no app's events go there yet.");
  }

  const auto reloaded = admin.post("/v1/reload", nlohmann::json::object());
  if (reloaded) {
    session.note(
        fmt::format("The daemon reads it now (generation {}). To try it: telemetryctl "
                    "destination test {}",
                    number_in(*reloaded, "generation"),
                    destination.name));
    return kOk;
  }
  if (reloaded.error().code() == ErrorCode::kUnavailable && !options.config_dir.empty()) {
    session.note("No daemon is running; it reads the file when it starts.");
    return kOk;
  }
  if (reloaded.error().code() == ErrorCode::kInvalidArgument) {
    std::error_code ignored;
    std::filesystem::remove(written, ignored);
    return fail(
        ErrorCode::kFailedPrecondition,
        "the daemon refused it, and the file is removed again: " + reloaded.error().message());
  }
  return fail(reloaded.error().with_context("the file is written, but the daemon did not reload"));
}

// What only servers that speak telemetry-kit need.
void add_ingest_options(CLI::App& add, AddOptions& options) {
  auto& destination = options.added.destination;
  add.add_option_function<std::string>(
         "--signature",
         [&options](const std::string& form) {
           options.added.destination.plain_signature = form == "plain";
         },
         "Kind ingest: nonce (the default) or plain")
      ->check(CLI::IsMember({"nonce", "plain"}));
  add.add_option("--staging-url", destination.staging_url, "Kind ingest: server to try things on");
  add.add_flag("--staging", destination.staging, "Kind ingest: send to --staging-url");
  add.add_option_function<std::string>(
         "--machine-id-scheme",
         [&options](const std::string& scheme) {
           options.added.destination.telemetry_kit_machine_id = scheme == "telemetry-kit";
         },
         "salted (the default) or telemetry-kit")
      ->check(CLI::IsMember({"salted", "telemetry-kit"}));
}

void add_add(CLI::App& noun, Command& chosen) {
  auto* add = noun.add_subcommand("add", "Add one as a file below conf.d and reload");
  auto options = std::make_shared<AddOptions>();
  auto& destination = options->added.destination;
  add->add_option("NAME", destination.name, "What to call it: a-z 0-9 _ -")->required();
  add->add_option("--kind", destination.kind, "native, ingest, grpc, file or none")
      ->required()
      ->check(CLI::IsMember({"native", "ingest", "grpc", "file", "none"}));
  add->add_option("--url",
                  destination.url,
                  "Where to; kind grpc: https://HOST:PORT; kind file: the absolute path of the "
                  "file");
  add->add_option("--org", destination.org, "Organisation at the server");
  add->add_option("--app", destination.app, "Application at the server");
  add->add_option("--token-file", destination.token_file, "File with the bearer token");
  add->add_option("--secret-file", destination.secret_file, "File with the signing secret");
  add->add_option(
      "--ca-file", destination.ca_file, "Certificates to trust instead of the system's");
  add->add_option("--client-cert-file", destination.client_cert_file, "Certificate to show");
  add->add_option("--client-key-file", destination.client_key_file, "Its key");
  add->add_option("--proxy", destination.proxy, "Proxy on the way: http://HOST:PORT");
  add->add_option("--proxy-credentials-file",
                  destination.proxy_credentials_file,
                  "File with USER:PASSWORD for the proxy");
  add->add_flag("--allow-plain-http",
                destination.allow_plain_http,
                "Allow http to hosts other than this machine");
  add_ingest_options(*add, *options);
  add->add_option(
         "--route", options->added.routes, "Send the events of these apps there; * for all")
      ->allow_extra_args(false);
  add->add_option("--config-dir", options->config_dir, "Where telemetryd.toml is");
  add->callback([&chosen, options] {
    chosen = [options](Session& session) { return add_destination_file(session, *options); };
  });
}

}  // namespace

void add_destination(CLI::App& root, Command& chosen) {
  auto* noun = root.add_subcommand("destination", "Servers and files that events are sent to");
  noun->require_subcommand(1);
  noun->add_subcommand("list", "List them and their state")->callback([&chosen] {
    chosen = list_destinations;
  });
  auto* show = noun->add_subcommand("show", "Print everything that is known of one");
  auto shown = std::make_shared<std::string>();
  show->add_option("NAME", *shown, "Which")->required();
  show->callback([&chosen, shown] {
    chosen = [shown](Session& session) { return show_destination(session, *shown); };
  });
  add_add(*noun, chosen);
  auto* test = noun->add_subcommand("test", "Connect and authenticate without sending events");
  auto name = std::make_shared<std::string>();
  test->add_option("NAME", *name, "Which")->required();
  test->callback([&chosen, name] {
    chosen = [name](Session& session) { return test_destination(session, *name); };
  });
}

}  // namespace telemetryd::ctl
