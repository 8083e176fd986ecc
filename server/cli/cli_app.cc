#include <cstdio>
#include <memory>

#include <nlohmann/json.hpp>

#include "server/cli/cli.h"
#include "server/cli/handout.h"
#include "server/event_query.h"
#include "server/registry.h"

namespace telemetryd::server {
namespace {

struct AppOptions {
  std::string organization;
  std::string name;
  std::string tier;  // of the first token; empty: enterprise
  HandoutOptions handout;
  bool json = false;
};

Result<int> create_app(const Cli& cli, const AppOptions& options) {
  std::optional<Handout> handout;
  TELEMETRYD_ASSIGN(
      const int status,
      change_storage(cli, StorageMode::kWrite, [&](Storage& storage) -> Result<void> {
        const SystemClock clock;
        Registry registry(storage.database, clock);
        TELEMETRYD_ASSIGN(const Application application,
                          registry.create_application(options.organization, options.name));
        const Tier tier = parse_tier(options.tier).value_or(Tier::kEnterprise);
        TELEMETRYD_ASSIGN(NewToken token, registry.create_token(application, storage.sealer, tier));
        TELEMETRYD_ASSIGN(Handout prepared,
                          Handout::prepare(options.handout, application, std::move(token)));
        handout.emplace(std::move(prepared));
        return {};
      }));
  handout->show();
  return status;
}

Result<int> list_apps(const Cli& cli, const AppOptions& options) {
  return read_storage(cli, [&options](Storage& storage) -> Result<int> {
    const SystemClock clock;
    std::optional<std::string> organization;
    if (!options.organization.empty()) organization = options.organization;
    TELEMETRYD_ASSIGN(const auto all, Registry(storage.database, clock).applications(organization));
    if (!options.json && all.empty()) {
      std::puts("no applications; `telemetry-server app create --org O --app A`");
    }
    for (const Application& one : all) {
      const std::string created = time_text(one.created);
      if (options.json) {
        const nlohmann::ordered_json line{
            {"org", one.organization}, {"app", one.name}, {"created", created}};
        std::puts(line.dump().c_str());
      } else {
        std::printf(
            "%-40s created %s\n", (one.organization + "/" + one.name).c_str(), created.c_str());
      }
    }
    return 0;
  });
}

}  // namespace

void add_app(CLI::App& app, Cli& cli) {
  auto options = std::make_shared<AppOptions>();
  CLI::App* noun = app.add_subcommand("app", "Applications of an organization");
  noun->require_subcommand(1);

  CLI::App* create = add_verb(*noun, cli, "create", "Create an application and its first token");
  create->add_option("--org", options->organization, "organization")->required();
  create->add_option("--app", options->name, "application")->required();
  add_tier_option(*create, options->tier, "otherwise enterprise");
  create->add_option("--url", options->handout.url, "where daemons reach this server")
      ->capture_default_str();
  create->add_flag(
      "--print-config", options->handout.print_config, "print the configuration for telemetryd");
  create->add_option(
      "--out-dir", options->handout.out_dir, "write token and secret to files in this folder");
  create->callback(
      [&cli, options] { cli.action = [&cli, options] { return create_app(cli, *options); }; });

  CLI::App* list = add_verb(*noun, cli, "list", "List applications");
  list->add_option("--org", options->organization, "of this organization only");
  list->add_flag("--json", options->json, "one JSON object per line");
  list->callback(
      [&cli, options] { cli.action = [&cli, options] { return list_apps(cli, *options); }; });
}

}  // namespace telemetryd::server
