#include <cstdio>
#include <memory>

#include <nlohmann/json.hpp>

#include "server/cli/cli.h"
#include "server/event_query.h"
#include "server/registry.h"

namespace telemetryd::server {
namespace {

struct OrgOptions {
  std::string name;
  bool json = false;
};

Result<int> create_organization(const Cli& cli, const std::string& name) {
  TELEMETRYD_TRY(change_storage(cli, StorageMode::kCreate, [&name](Storage& storage) {
    const SystemClock clock;
    return Registry(storage.database, clock).create_organization(name);
  }));
  std::printf(
      "organization %s created; next: telemetry-server app create --org %s --app NAME "
      "--print-config\n",
      name.c_str(),
      name.c_str());
  return 0;
}

Result<int> list_organizations(const Cli& cli, bool json) {
  return read_storage(cli, [json](Storage& storage) -> Result<int> {
    const SystemClock clock;
    TELEMETRYD_ASSIGN(const auto all, Registry(storage.database, clock).organizations());
    if (!json && all.empty()) std::puts("no organizations; `telemetry-server org create NAME`");
    for (const Organization& one : all) {
      const std::string created = time_text(one.created);
      if (json) {
        const nlohmann::ordered_json line{
            {"name", one.name}, {"applications", one.applications}, {"created", created}};
        std::puts(line.dump().c_str());
      } else {
        std::printf("%-24s %4lld apps  created %s\n",
                    one.name.c_str(),
                    static_cast<long long>(one.applications),
                    created.c_str());
      }
    }
    return 0;
  });
}

}  // namespace

void add_migrate(CLI::App& app, Cli& cli) {
  CLI::App* verb = add_verb(app, cli, "migrate", "Create the database, or bring it up to date");
  verb->callback([&cli] {
    cli.action = [&cli]() -> Result<int> {
      TELEMETRYD_ASSIGN(const std::filesystem::path path, parse_database(cli.database_text));
      TELEMETRYD_TRY(open_storage(path, StorageMode::kCreate));
      std::printf("%s is up to date\n", path.c_str());
      return 0;
    };
  });
}

void add_org(CLI::App& app, Cli& cli) {
  auto options = std::make_shared<OrgOptions>();
  CLI::App* noun = app.add_subcommand("org", "Organizations");
  noun->require_subcommand(1);

  CLI::App* create = add_verb(*noun, cli, "create", "Create an organization");
  create->add_option("name", options->name, "a-z 0-9 . _ -")->required();
  create->callback([&cli, options] {
    cli.action = [&cli, options] { return create_organization(cli, options->name); };
  });

  CLI::App* list = add_verb(*noun, cli, "list", "List organizations");
  list->add_flag("--json", options->json, "one JSON object per line");
  list->callback([&cli, options] {
    cli.action = [&cli, options] { return list_organizations(cli, options->json); };
  });
}

}  // namespace telemetryd::server
