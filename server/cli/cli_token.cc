#include <cstdio>
#include <memory>

#include <nlohmann/json.hpp>

#include "server/cli/cli.h"
#include "server/cli/handout.h"
#include "server/event_query.h"
#include "server/registry.h"

namespace telemetryd::server {
namespace {

constexpr int kOverlapHoursMax = 24 * 365;

struct TokenOptions {
  std::string organization;
  std::string name;
  std::int64_t id = 0;
  int overlap_hours = 24;
  std::string tier;  // empty: enterprise for a first one, that of the old one for another
  HandoutOptions handout;
  bool json = false;
};

struct Choice {
  Application application;
  Tier tier = Tier::kEnterprise;
};

using Change = std::function<Result<Choice>(Registry&)>;

// A new token for the application that `choose` names, after what else it changes.
Result<int> hand_out(const Cli& cli, const HandoutOptions& options, const Change& choose) {
  std::optional<Handout> handout;
  TELEMETRYD_ASSIGN(const int status,
                    change_storage(cli, StorageMode::kWrite, [&](Storage& storage) -> Result<void> {
                      const SystemClock clock;
                      Registry registry(storage.database, clock);
                      TELEMETRYD_ASSIGN(const Choice choice, choose(registry));
                      const auto& [application, tier] = choice;
                      TELEMETRYD_ASSIGN(NewToken token,
                                        registry.create_token(application, storage.sealer, tier));
                      TELEMETRYD_ASSIGN(Handout prepared,
                                        Handout::prepare(options, application, std::move(token)));
                      handout.emplace(std::move(prepared));
                      return {};
                    }));
  handout->show();
  return status;
}

Result<Choice> choose_application(Registry& registry, const TokenOptions& options) {
  TELEMETRYD_ASSIGN(Application application,
                    registry.find_application(options.organization, options.name));
  return Choice{std::move(application), parse_tier(options.tier).value_or(Tier::kEnterprise)};
}

Result<Choice> rotate(Registry& registry, const TokenOptions& options) {
  TELEMETRYD_ASSIGN(const Token old, registry.find_token(options.id));
  if (old.revoked) {
    return fail(ErrorCode::kFailedPrecondition,
                "token " + std::to_string(old.id) + " is revoked; make a new one with " +
                    "`telemetry-server token create`");
  }
  const UnixMs overlap_ms = std::int64_t{options.overlap_hours} * 3'600'000;
  TELEMETRYD_TRY(registry.expire_token(old.id, SystemClock().unix_ms() + overlap_ms));
  TELEMETRYD_ASSIGN(Application application,
                    registry.find_application(old.organization, old.application));
  return Choice{std::move(application), parse_tier(options.tier).value_or(old.tier)};
}

std::string state_of(const Token& token) {
  if (token.revoked) return "revoked " + time_text(*token.revoked);
  if (!token.expires) return "active";
  const bool past = *token.expires <= SystemClock().unix_ms();
  return (past ? "expired " : "active until ") + time_text(*token.expires);
}

nlohmann::ordered_json to_json(const Token& token) {
  nlohmann::ordered_json line{{"id", token.id},
                              {"org", token.organization},
                              {"app", token.application},
                              {"tier", tier_name(token.tier)},
                              {"state", state_of(token)},
                              {"created", time_text(token.created)}};
  if (token.expires) line["expires"] = time_text(*token.expires);
  if (token.revoked) line["revoked"] = time_text(*token.revoked);
  if (token.last_used) line["last_used"] = time_text(*token.last_used);
  return line;
}

Result<int> list_tokens(const Cli& cli, bool json) {
  return read_storage(cli, [json](Storage& storage) -> Result<int> {
    const SystemClock clock;
    TELEMETRYD_ASSIGN(const auto all, Registry(storage.database, clock).tokens());
    if (!json && all.empty()) std::puts("no tokens; `telemetry-server app create` makes one");
    for (const Token& token : all) {
      if (json) {
        std::puts(to_json(token).dump().c_str());
        continue;
      }
      std::printf("%4lld  %-32s %-10s %-40s last used %s\n",
                  static_cast<long long>(token.id),
                  (token.organization + "/" + token.application).c_str(),
                  std::string(tier_name(token.tier)).c_str(),
                  state_of(token).c_str(),
                  token.last_used ? time_text(*token.last_used).c_str() : "never");
    }
    return 0;
  });
}

Result<int> revoke(const Cli& cli, std::int64_t id) {
  TELEMETRYD_TRY(change_storage(cli, StorageMode::kWrite, [id](Storage& storage) {
    const SystemClock clock;
    return Registry(storage.database, clock).revoke_token(id);
  }));
  std::printf("token %lld is revoked; a running server refuses it from now on\n",
              static_cast<long long>(id));
  return 0;
}

void add_handout_options(CLI::App& verb, HandoutOptions& options) {
  verb.add_option("--url", options.url, "where daemons reach this server")->capture_default_str();
  verb.add_flag("--print-config", options.print_config, "print the configuration for telemetryd");
  verb.add_option("--out-dir", options.out_dir, "write token and secret to files in this folder");
}

void add_making_verbs(CLI::App& noun, Cli& cli, const std::shared_ptr<TokenOptions>& options) {
  CLI::App* create = add_verb(noun, cli, "create", "Make one more token for an application");
  create->add_option("--org", options->organization, "organization")->required();
  create->add_option("--app", options->name, "application")->required();
  add_tier_option(*create, options->tier, "otherwise enterprise");
  add_handout_options(*create, options->handout);
  create->callback([&cli, options] {
    cli.action = [&cli, options] {
      return hand_out(cli, options->handout, [&](Registry& registry) {
        return choose_application(registry, *options);
      });
    };
  });

  CLI::App* rotate_verb = add_verb(noun, cli, "rotate", "Replace a token, both valid for a while");
  rotate_verb->add_option("id", options->id, "the token to replace, see token list")->required();
  rotate_verb->add_option("--overlap-hours", options->overlap_hours, "how long the old one lives")
      ->check(CLI::Range(0, kOverlapHoursMax))
      ->capture_default_str();
  add_tier_option(*rotate_verb, options->tier, "otherwise that of the old one");
  add_handout_options(*rotate_verb, options->handout);
  rotate_verb->callback([&cli, options] {
    cli.action = [&cli, options] {
      return hand_out(
          cli, options->handout, [&](Registry& registry) { return rotate(registry, *options); });
    };
  });
}

}  // namespace

void add_tier_option(CLI::App& verb, std::string& tier, const std::string& otherwise) {
  verb.add_option("--tier", tier, "requests a minute: 10, 100, 1000, any number; " + otherwise)
      ->check(CLI::IsMember({"free", "pro", "business", "enterprise"}));
}

void add_token(CLI::App& app, Cli& cli) {
  auto options = std::make_shared<TokenOptions>();
  CLI::App* noun = app.add_subcommand("token", "Tokens of applications");
  noun->require_subcommand(1);
  add_making_verbs(*noun, cli, options);

  CLI::App* list = add_verb(*noun, cli, "list", "List tokens");
  list->add_flag("--json", options->json, "one JSON object per line");
  list->callback([&cli, options] {
    cli.action = [&cli, options] { return list_tokens(cli, options->json); };
  });

  CLI::App* revoke_verb = add_verb(*noun, cli, "revoke", "Refuse a token from now on");
  revoke_verb->add_option("id", options->id, "see token list")->required();
  revoke_verb->callback(
      [&cli, options] { cli.action = [&cli, options] { return revoke(cli, options->id); }; });
}

}  // namespace telemetryd::server
