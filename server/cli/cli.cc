#include "server/cli/cli.h"

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "server/version.h"

namespace telemetryd::server {
namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

int report(const Error& error) {
  std::fprintf(stderr, "telemetry-server: %s\n", error.message().c_str());
  return error.code() == ErrorCode::kInvalidArgument ? kUsage : kFailed;
}

// Not by the parser: it reads the variable for the verbs that were not called too, and all verbs
// share the text, so that the variable would win over the option.
Result<void> complete_database(Cli& cli) {
  if (!cli.database_text.empty()) return {};
  const char* variable = std::getenv("TELEMETRY_SERVER_DATABASE");
  if (variable != nullptr) cli.database_text = variable;
  if (!cli.database_text.empty()) return {};
  return fail(ErrorCode::kInvalidArgument,
              "--database is required: sqlite:PATH, or set TELEMETRY_SERVER_DATABASE to it");
}

// Credentials are shown once, so an answer that did not arrive must not look like one.
int finish_output(int code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  std::fprintf(stderr, "telemetry-server: standard output cannot be written\n");
  return code == 0 ? kFailed : code;
}

}  // namespace

CLI::App* add_verb(CLI::App& noun, Cli& cli, const std::string& name, const std::string& sentence) {
  CLI::App* verb = noun.add_subcommand(name, sentence);
  verb->add_option(
      "--database", cli.database_text, "sqlite:PATH; otherwise TELEMETRY_SERVER_DATABASE");
  return verb;
}

Result<int> change_storage(const Cli& cli,
                           StorageMode mode,
                           const std::function<Result<void>(Storage&)>& change) {
  TELEMETRYD_ASSIGN(const std::filesystem::path path, parse_database(cli.database_text));
  TELEMETRYD_ASSIGN(Storage storage, open_storage(path, mode));
  TELEMETRYD_ASSIGN(const StorageLock lock, StorageLock::take(path, StorageLock::Kind::kWrite));
  TELEMETRYD_ASSIGN(Transaction transaction, Transaction::begin(storage.database));
  TELEMETRYD_TRY(change(storage));
  TELEMETRYD_TRY(transaction.commit());
  return 0;
}

Result<int> read_storage(const Cli& cli, const std::function<Result<int>(Storage&)>& read) {
  TELEMETRYD_ASSIGN(const std::filesystem::path path, parse_database(cli.database_text));
  TELEMETRYD_ASSIGN(Storage storage, open_storage(path, StorageMode::kRead));
  return read(storage);
}

int run_cli(int argc, char** argv) {
  Cli cli;
  CLI::App app("The upstream of telemetryd that you host yourself.", "telemetry-server");
  app.set_version_flag("--version", "telemetry-server " + std::string(version()));
  app.require_subcommand(1);
  add_serve(app, cli);
  add_migrate(app, cli);
  add_org(app, cli);
  add_app(app, cli);
  add_token(app, cli);
  add_event(app, cli);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  const auto database = complete_database(cli);
  if (!database) return report(database.error());
  const auto status = cli.action();
  return finish_output(status ? *status : report(status.error()));
}

}  // namespace telemetryd::server
