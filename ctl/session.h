// ctl/session.h: what every command of telemetryctl is given, and how a command ends.
//
// A command is a function of the session: it writes to `out`, and returns an exit code or the error
// that main prints with the next step to try. Tests run commands in their own process by handing in
// other streams.
//
// Thread:  the main thread.

#pragma once

#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace CLI {
class App;
}

namespace telemetryd::ctl {

// Scripts are written against these numbers.
enum Exit : int { kOk = 0, kFailed = 1, kUsage = 2, kUnreachable = 3 };

struct Session {
  std::filesystem::path socket;         // of the admin API
  bool socket_given = false;            // by --socket
  std::filesystem::path ingest_socket;  // by --ingest-socket
  bool json = false;
  bool quiet = false;
  std::FILE* out = stdout;
  std::FILE* err = stderr;
  std::vector<std::string> command_line;  // what stood behind "--"

  // For notes that are not the answer: nothing when --quiet.
  void note(const std::string& line) const;
  void print(const std::string& text) const;
};

using Command = std::function<Result<int>(Session&)>;

// Each noun adds its verbs to the parser; the verb that was called stores what is to be done in
// `chosen`.
void add_status(CLI::App& root, Command& chosen);
void add_event_send(CLI::App& event, Command& chosen);
void add_event_import(CLI::App& event, Command& chosen);
void add_event_list(CLI::App& event, Command& chosen);
void add_queue(CLI::App& root, Command& chosen);
void add_ledger(CLI::App& root, Command& chosen);
void add_dead(CLI::App& root, Command& chosen);
void add_destination(CLI::App& root, Command& chosen);
void add_consent(CLI::App& root, Command& chosen);
void add_config(CLI::App& root, Command& chosen);
void add_run(CLI::App& root, Command& chosen);

// The whole program: `arguments` without the program's name. Returns the exit code.
int run_telemetryctl(std::vector<std::string> arguments, std::FILE* out, std::FILE* err);

}  // namespace telemetryd::ctl
