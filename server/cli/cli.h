// server/cli/cli.h: the command line of telemetry-server, one file per noun.
//
// Each noun registers its verbs; parsing picks one action, which runs afterwards. Output goes to
// standard output, what went wrong and what to do about it to standard error.
//
// Thread:  the main thread.
// Fails:   exit status 1 for what failed, 2 for how it was called.

#pragma once

#include <functional>
#include <string>

#include <CLI/CLI.hpp>

#include "base/result.h"
#include "server/storage.h"
#include "server/storage_lock.h"

namespace telemetryd::server {

struct Cli {
  std::string database_text;
  std::function<Result<int>()> action;  // the exit status
};

void add_serve(CLI::App& app, Cli& cli);
void add_migrate(CLI::App& app, Cli& cli);
void add_org(CLI::App& app, Cli& cli);
void add_app(CLI::App& app, Cli& cli);
void add_token(CLI::App& app, Cli& cli);
void add_event(CLI::App& app, Cli& cli);

// A verb with --database.
CLI::App* add_verb(CLI::App& noun, Cli& cli, const std::string& name, const std::string& sentence);

// The limit of a token that is made; `otherwise` says what it is when it is not given.
void add_tier_option(CLI::App& verb, std::string& tier, const std::string& otherwise);

// Runs `change` in one transaction that no checkpoint overlaps.
[[nodiscard]] Result<int> change_storage(const Cli& cli,
                                         StorageMode mode,
                                         const std::function<Result<void>(Storage&)>& change);
[[nodiscard]] Result<int> read_storage(const Cli& cli,
                                       const std::function<Result<int>(Storage&)>& read);

int run_cli(int argc, char** argv);

}  // namespace telemetryd::server
