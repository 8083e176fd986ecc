#include <chrono>
#include <cstdio>
#include <map>
#include <memory>

#include <nlohmann/json.hpp>

#include "server/cli/cli.h"
#include "server/cli/handout.h"
#include "server/event_query.h"
#include "server/mutes.h"
#include "server/registry.h"

namespace telemetryd::server {
namespace {

struct AppOptions {
  std::string organization;
  std::string name;
  std::string tier;  // of the first token; empty: enterprise
  HandoutOptions handout;
  bool json = false;
  std::string path;        // ORG/APP
  std::string client_app;  // empty: all
  std::int64_t for_s = 0;
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

nlohmann::ordered_json to_json(const Mute& mute) {
  nlohmann::ordered_json shown;
  if (!mute.client_app.empty()) shown["client_app"] = mute.client_app;
  shown["until"] = time_text(mute.until);
  return shown;
}

// Runs `change` for the application that `path` names.
Result<int> change_mutes(
    const Cli& cli,
    const std::string& path,
    const std::function<Result<void>(Mutes&, std::int64_t application, UnixMs now)>& change) {
  const std::size_t slash = path.find('/');
  if (slash == std::string::npos) {
    return fail(ErrorCode::kInvalidArgument, "say which application as ORG/APP");
  }
  return change_storage(cli, StorageMode::kWrite, [&](Storage& storage) -> Result<void> {
    const SystemClock clock;
    Registry registry(storage.database, clock);
    TELEMETRYD_ASSIGN(const Application application,
                      registry.find_application(path.substr(0, slash), path.substr(slash + 1)));
    Mutes mutes(storage.database);
    return change(mutes, application.id, clock.unix_ms());
  });
}

Result<int> mute_app(const Cli& cli, const AppOptions& options) {
  const std::chrono::seconds duration(options.for_s);
  TELEMETRYD_TRY(
      change_mutes(cli, options.path, [&](Mutes& mutes, std::int64_t application, UnixMs now) {
        return mutes.mute(application, options.client_app, duration, now);
      }));
  std::puts("muted; daemons hear of it with the answer to their next upload");
  return 0;
}

Result<int> unmute_app(const Cli& cli, const AppOptions& options) {
  TELEMETRYD_TRY(
      change_mutes(cli, options.path, [&](Mutes& mutes, std::int64_t application, UnixMs now) {
        return mutes.unmute(application, options.client_app, now);
      }));
  std::puts(
      "unmuted; a daemon that was told goes on when its time is over, at most a day, or before "
      "when an upload of another app tells it");
  return 0;
}

Result<int> list_apps(const Cli& cli, const AppOptions& options) {
  return read_storage(cli, [&options](Storage& storage) -> Result<int> {
    const SystemClock clock;
    std::optional<std::string> organization;
    if (!options.organization.empty()) organization = options.organization;
    TELEMETRYD_ASSIGN(const auto all, Registry(storage.database, clock).applications(organization));
    const UnixMs now = clock.unix_ms();
    if (!options.json && all.empty()) {
      std::puts("no applications; `telemetry-server app create --org O --app A`");
    }
    for (const Application& one : all) {
      const std::string created = time_text(one.created);
      TELEMETRYD_ASSIGN(std::vector<Mute> mutes, Mutes(storage.database).of(one.id, now));
      std::erase_if(mutes, [](const Mute& mute) { return mute.ended; });
      if (options.json) {
        nlohmann::ordered_json line{
            {"org", one.organization}, {"app", one.name}, {"created", created}};
        for (const Mute& mute : mutes) line["muted"].push_back(to_json(mute));
        std::puts(line.dump().c_str());
      } else {
        std::printf(
            "%-40s created %s\n", (one.organization + "/" + one.name).c_str(), created.c_str());
        for (const Mute& mute : mutes) {
          std::printf("    muted until %s: %s\n",
                      time_text(mute.until).c_str(),
                      mute.client_app.empty() ? "all apps" : mute.client_app.c_str());
        }
      }
    }
    return 0;
  });
}

void add_mute_verbs(CLI::App& noun, Cli& cli, const std::shared_ptr<AppOptions>& options) {
  const auto add = [&](const std::string& name, const std::string& sentence) {
    CLI::App* verb = add_verb(noun, cli, name, sentence);
    verb->add_option("application", options->path, "ORG/APP")->required();
    verb->add_option("--client-app",
                     options->client_app,
                     "of this app only, by its name on the daemons' machines; otherwise of all");
    return verb;
  };
  CLI::App* mute = add("mute", "Ask daemons to keep events back for some time");
  const std::map<std::string, std::int64_t> units{{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
  mute->add_option("--for", options->for_s, "how long: 45s, 30m, 2h, 7d")
      ->required()
      ->transform(CLI::AsNumberWithUnit(units, CLI::AsNumberWithUnit::UNIT_REQUIRED, "TIME"));
  mute->callback(
      [&cli, options] { cli.action = [&cli, options] { return mute_app(cli, *options); }; });
  CLI::App* unmute = add("unmute", "Take it back");
  unmute->callback(
      [&cli, options] { cli.action = [&cli, options] { return unmute_app(cli, *options); }; });
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

  add_mute_verbs(*noun, cli, options);

  CLI::App* list = add_verb(*noun, cli, "list", "List applications and what is muted");
  list->add_option("--org", options->organization, "of this organization only");
  list->add_flag("--json", options->json, "one JSON object per line");
  list->callback(
      [&cli, options] { cli.action = [&cli, options] { return list_apps(cli, *options); }; });
}

}  // namespace telemetryd::server
