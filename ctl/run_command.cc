#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ctl/child_process.h"
#include "ctl/emitter.h"
#include "ctl/ingest_socket.h"
#include "ctl/session.h"

namespace telemetryd::ctl {
namespace {

// A command must not be slow to end because a daemon is slow to answer.
constexpr std::chrono::milliseconds kRecordTime{1500};
constexpr std::size_t kArgumentsBytesMax = 16 * 1024;

struct RunOptions {
  std::string app;
  std::string name;
  bool record_arguments = false;
  bool verbose = false;
};

std::string joined_arguments(const std::vector<std::string>& command) {
  std::string out;
  for (std::size_t i = 1; i < command.size(); ++i) {
    if (i > 1) out += ' ';
    out += command[i];
    if (out.size() > kArgumentsBytesMax) break;
  }
  return out.substr(0, kArgumentsBytesMax);
}

telemetry_attribute_t string_attribute(const char* key, const std::string& value) {
  telemetry_attribute_t attribute{};
  attribute.key = key;
  attribute.type = TELEMETRY_VALUE_STRING;
  attribute.value.string_value = value.c_str();
  attribute.string_size = value.size();
  return attribute;
}

Result<void> record(const Session& session,
                    const RunOptions& options,
                    const ChildEnd& end,
                    std::uint64_t started_unix_nano) {
  const std::string command = std::filesystem::path(session.command_line.front()).filename();
  const std::string arguments = joined_arguments(session.command_line);
  std::vector<telemetry_attribute_t> attributes = {string_attribute("command", command)};
  if (options.record_arguments && !arguments.empty()) {
    attributes.push_back(string_attribute("arguments", arguments));
  }
  telemetry_event_t event = TELEMETRY_EVENT_INIT;
  event.name = options.name.empty() ? command.c_str() : options.name.c_str();
  event.kind = TELEMETRY_KIND_COMMAND;
  event.has = TELEMETRY_HAS_SUCCESS | TELEMETRY_HAS_DURATION | TELEMETRY_HAS_EXIT_CODE;
  event.success = end.exit_code == 0 ? 1 : 0;
  event.duration_ms = std::chrono::duration<double, std::milli>(end.duration).count();
  event.exit_code = end.exit_code;
  event.time_unix_nano = started_unix_nano;
  event.attributes = attributes.data();
  event.attribute_count = attributes.size();
  const auto socket = resolved_ingest_socket(session);
  std::error_code ignored;
  if (!std::filesystem::exists(socket, ignored)) {
    return fail(ErrorCode::kUnavailable, "no daemon listens on " + socket.native());
  }
  TELEMETRYD_ASSIGN(Emitter emitter, Emitter::open(options.app, socket));
  return emitter.emit(event, kRecordTime);
}

Result<int> run(Session& session, const RunOptions& options) {
  if (session.command_line.empty()) {
    fmt::print(session.err,
               "telemetryctl: there is no command; write: telemetryctl run --app {} -- COMMAND\n",
               options.app);
    return kUsage;
  }
  const auto started = std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  const ChildEnd end = run_child(session.command_line);
  if (!end.start_error.empty()) {
    fmt::print(
        session.err, "telemetryctl: {}: {}\n", session.command_line.front(), end.start_error);
  }
  const auto recorded = record(session, options, end, static_cast<std::uint64_t>(started.count()));
  if (!recorded && options.verbose) {
    fmt::print(session.err, "telemetryctl: not recorded: {}\n", recorded.error().message());
  }
  return end.exit_code;
}

}  // namespace

void add_run(CLI::App& root, Command& chosen) {
  auto* command = root.add_subcommand(
      "run", "Run a command and record its duration and exit code: run --app NAME -- COMMAND...");
  auto options = std::make_shared<RunOptions>();
  command->add_option("--app", options->app, "The app that the event belongs to")->required();
  command->add_option("--name", options->name, "The event's name; otherwise the command's");
  command->add_flag("--record-arguments", options->record_arguments, "Record the arguments too");
  command->add_flag("--verbose", options->verbose, "Say why the event was not recorded");
  command->callback([&chosen, options] {
    chosen = [options](Session& session) { return run(session, *options); };
  });
}

}  // namespace telemetryd::ctl
