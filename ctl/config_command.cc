#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "config/config.h"
#include "ctl/admin_client.h"
#include "ctl/session.h"
#include "ctl/text.h"

namespace telemetryd::ctl {
namespace {

// Works without a daemon: it reads the files that a daemon would read.
Result<int> check_config(Session& session, const std::string& file) {
  config::Sources sources;
  sources.file = file.empty() ? config::default_config_file() : std::filesystem::path(file);
  sources.file_required = !file.empty();
  const config::Loaded loaded = config::load(sources);
  for (const auto& problem : loaded.problems) {
    fmt::print(session.err, "{}\n", printable(config::to_string(problem)));
  }
  if (!loaded.config) {
    return fail(ErrorCode::kFailedPrecondition,
                plural(loaded.problems.size(), "problem") + " in the configuration");
  }
  if (loaded.files.empty()) {
    session.note("No configuration file was found; the defaults are in order.");
  }
  for (const auto& read : loaded.files) session.note(read.native() + ": in order");
  return kOk;
}

Result<int> show_config(Session& session) {
  AdminClient admin(session.socket);
  TELEMETRYD_ASSIGN(const nlohmann::json answer, admin.get("/v1/config"));
  if (session.json) {
    session.print(answer.dump(2) + "\n");
  } else {
    const auto& toml = member_in(answer, "toml");
    session.print(toml.is_string() ? toml.get<std::string>() : std::string());
  }
  return kOk;
}

Result<int> reload_config(Session& session) {
  AdminClient admin(session.socket);
  const auto reloaded = admin.post("/v1/reload", nlohmann::json::object());
  if (!reloaded && reloaded.error().code() == ErrorCode::kInvalidArgument) {
    // The files are wrong, not the command line.
    return fail(ErrorCode::kFailedPrecondition, reloaded.error().message());
  }
  TELEMETRYD_TRY(reloaded);
  const nlohmann::json& answer = *reloaded;
  if (session.json) {
    session.print(answer.dump(2) + "\n");
    return kOk;
  }
  session.note(fmt::format("Reloaded: generation {}.", number_in(answer, "generation")));
  for (const auto& key : member_in(answer, "restart_needed")) {
    if (key.is_string()) {
      session.note(fmt::format("  {} changes at the next start", key.get<std::string>()));
    }
  }
  return kOk;
}

}  // namespace

void add_config(CLI::App& root, Command& chosen) {
  auto* config = root.add_subcommand("config", "The daemon's settings");
  config->require_subcommand(1);
  auto* check = config->add_subcommand("check", "Read the files and list every problem");
  auto file = std::make_shared<std::string>();
  check->add_option("--config", *file, "This file and conf.d beside it, instead of the default");
  check->callback([&chosen, file] {
    chosen = [file](Session& session) { return check_config(session, *file); };
  });
  config->add_subcommand("show", "Print the settings in effect with the origin of each")
      ->callback([&chosen] { chosen = show_config; });
  config->add_subcommand("reload", "Let the daemon read destinations, routes and policy again")
      ->callback([&chosen] { chosen = reload_config; });
}

}  // namespace telemetryd::ctl
