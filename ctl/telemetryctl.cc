#include <cerrno>
#include <cstring>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ctl/environment.h"
#include "ctl/session.h"
#include "ctl/text.h"
#include "telemetry/telemetry.h"

namespace telemetryd::ctl {
namespace {

// CLI11 would read "[x]" among a command's own words as a list, so they never reach it.
std::vector<std::string> take_command_line(std::vector<std::string>& arguments) {
  const auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  if (dashes == arguments.end()) return {};
  std::vector<std::string> command(dashes + 1, arguments.end());
  arguments.erase(dashes, arguments.end());
  return command;
}

const char* next_step(const Error& error) {
  switch (error.code()) {
    case ErrorCode::kUnavailable:
      return "Is telemetryd running? Try: systemctl status telemetryd. Another daemon: --socket "
             "PATH of its admin.sock.";
    case ErrorCode::kPermissionDenied:
      return "That takes root, the daemon's user or the admin group. Try it with sudo.";
    default: return nullptr;
  }
}

int report(const Session& session, const Error& error) {
  const Style style = Style::for_stream(session.err);
  fmt::print(session.err, "{} {}\n", style.paint(Colour::kRed, "telemetryctl:"), error.message());
  if (const char* step = next_step(error)) fmt::print(session.err, "{}\n", step);
  switch (error.code()) {
    case ErrorCode::kUnavailable: return kUnreachable;
    case ErrorCode::kInvalidArgument: return kUsage;  // said of the command line alone
    default: return kFailed;
  }
}

// The parser's own words for a verb it does not know speak of the one that is missing.
std::string usage_problem(const CLI::App& root, const CLI::ParseError& error) {
  const auto unknown = root.remaining(true);
  if (dynamic_cast<const CLI::RequiredError*>(&error) == nullptr || unknown.empty()) {
    return error.what();
  }
  return fmt::format("'{}' is not known here", printable(unknown.front()));
}

// "telemetryctl event" when that is how far the words were understood.
std::string understood_so_far(const CLI::App& root) {
  std::string out = "telemetryctl";
  const CLI::App* app = &root;
  for (auto chosen = app->get_subcommands(); !chosen.empty(); chosen = app->get_subcommands()) {
    app = chosen.front();
    out += " " + app->get_name();
  }
  return out;
}

// An answer that did not arrive, such as on a full disk, is no answer.
int finish_output(const Session& session, int code) {
  errno = 0;
  const bool flushed = std::fflush(session.out) == 0;
  if (flushed && std::ferror(session.out) == 0) return code;
  const char* why = errno != 0 ? strerrordesc_np(errno) : "a write failed";
  fmt::print(session.err, "telemetryctl: standard output: {}\n", why);
  return code == kOk ? kFailed : code;
}

struct GlobalOptions {
  std::string socket;
  std::string ingest_socket;
  bool json = false;
  bool quiet = false;
};

void add_global(CLI::App& root, GlobalOptions& options) {
  root.fallthrough();
  root.require_subcommand(1);
  root.set_version_flag("--version", std::string("telemetryctl ") + telemetry_version());
  root.add_option("--socket", options.socket, "The daemon's admin.sock");
  root.add_option("--ingest-socket", options.ingest_socket, "The daemon's ingest.sock");
  root.add_flag("--json", options.json, "Print JSON for programs");
  root.add_flag("--quiet", options.quiet, "Print answers and errors only");
  root.footer(
      "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no daemon answers.\n"
      "More: man telemetryctl");
}

void add_nouns(CLI::App& root, Command& chosen) {
  add_status(root, chosen);
  auto* event = root.add_subcommand("event", "Send, import and look at events");
  event->require_subcommand(1);
  add_event_send(*event, chosen);
  add_event_import(*event, chosen);
  add_event_list(*event, chosen);
  add_queue(root, chosen);
  add_ledger(root, chosen);
  add_dead(root, chosen);
  add_destination(root, chosen);
  add_consent(root, chosen);
  add_config(root, chosen);
  add_run(root, chosen);
}

// Every level, so that `--json` may stand anywhere.
void let_globals_stand_anywhere(CLI::App& app) {
  for (auto* sub : app.get_subcommands([](CLI::App*) { return true; })) {
    sub->fallthrough();
    let_globals_stand_anywhere(*sub);
  }
}

int run_chosen(Session& session, const Command& chosen) {
  try {
    const auto result = chosen(session);
    if (!result) {
      std::fflush(session.out);
      return report(session, result.error());
    }
    return session.command_line.empty() ? finish_output(session, *result) : *result;
  } catch (const std::exception& error) {
    fmt::print(session.err, "telemetryctl: internal error: {}\n", error.what());
    return kFailed;
  }
}

}  // namespace

int run_telemetryctl(std::vector<std::string> arguments, std::FILE* out, std::FILE* err) {
  Session session;
  session.out = out;
  session.err = err;
  session.command_line = take_command_line(arguments);

  CLI::App root("telemetryctl: talks to telemetryd, the telemetry collector of this machine",
                "telemetryctl");
  GlobalOptions options;
  Command chosen;
  add_global(root, options);
  add_nouns(root, chosen);
  let_globals_stand_anywhere(root);
  std::reverse(arguments.begin(), arguments.end());
  try {
    root.parse(arguments);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
      std::ostringstream text;
      root.exit(error, text, text);
      session.print(text.str());
      return finish_output(session, kOk);
    }
    fmt::print(err,
               "telemetryctl: {}\nTry: {} --help\n",
               usage_problem(root, error),
               understood_so_far(root));
    return kUsage;
  }
  if (!session.command_line.empty() && !root.got_subcommand("run")) {
    fmt::print(err, "telemetryctl: only run takes words behind --\n");
    return kUsage;
  }
  session.socket_given = !options.socket.empty();
  session.socket =
      session.socket_given ? std::filesystem::path(options.socket) : default_admin_socket();
  session.ingest_socket = options.ingest_socket;
  session.json = options.json;
  session.quiet = options.quiet;
  return run_chosen(session, chosen);
}

}  // namespace telemetryd::ctl
