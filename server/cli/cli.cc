#include "server/cli/cli.h"

#include <cstdio>
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

}  // namespace

CLI::App* add_verb(CLI::App& noun, Cli& cli, const std::string& name, const std::string& sentence) {
  CLI::App* verb = noun.add_subcommand(name, sentence);
  verb->add_option("--database", cli.database_text, "sqlite:PATH")
      ->envname("TELEMETRY_SERVER_DATABASE")
      ->required();
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
  const auto status = cli.action();
  return status ? *status : report(status.error());
}

}  // namespace telemetryd::server
