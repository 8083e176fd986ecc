#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ctl/consent_text.h"
#include "ctl/environment.h"
#include "ctl/import_plan.h"
#include "ctl/import_sender.h"
#include "ctl/ingest_socket.h"
#include "ctl/line_reader.h"
#include "ctl/session.h"
#include "ctl/text.h"
#include "frame/frame.h"

namespace telemetryd::ctl {
namespace {

struct ImportOptions {
  std::string app;
  std::string file;
  bool skip_invalid = false;
  std::uint64_t spool_bytes_max = std::uint64_t{4} << 30;
  std::uint64_t events_per_second = 0;
  int deadline_seconds = 300;
};

void report_problems(const Session& session, const ImportOptions& options, const ImportPlan& plan) {
  const std::string name = options.file == "-" ? "standard input" : options.file;
  for (const auto& problem : plan.problems) {
    fmt::print(session.err, "{}:{}: {}\n", name, problem.line, printable(problem.reason));
  }
  if (plan.invalid > plan.problems.size()) {
    fmt::print(session.err, "{}: and {} more\n", name, plan.invalid - plan.problems.size());
  }
}

// The user's own no counts here as in the client library; what the daemon knows it says itself. But
// with policy off it takes no connection, and its word is what it has published.
Result<void> check_consent(const ImportOptions& options, const Session& session) {
  consent::Inputs inputs = local_consent_inputs(options.app, session.socket);
  const bool elsewhere = !session.ingest_socket.empty() || variable("TELEMETRYD_SOCKET");
  if (elsewhere || inputs.machine != consent::MachinePolicy::kOff) {
    inputs.machine = consent::MachinePolicy::kUnknown;
  }
  const consent::Decision decision = consent::decide(inputs);
  if (decision.mode != consent::Mode::kOff) return {};
  return fail(ErrorCode::kFailedPrecondition, decision_text(options.app, "off", decision.rule));
}

void print_summary(const Session& session, const ImportPlan& plan, const SendCounts& counts) {
  if (session.json) {
    nlohmann::json out = {{"lines", plan.lines},
                          {"invalid", plan.invalid},
                          {"events", plan.events},
                          {"sent", counts.sent},
                          {"acknowledged", counts.acknowledged},
                          {"duplicates", counts.duplicates},
                          {"refused", counts.refused},
                          {"instance", to_hex(plan.instance)}};
    if (counts.refused > 0) out["refusal"] = counts.refusal;
    session.print(out.dump() + "\n");
    return;
  }
  session.note(fmt::format("{} read, {} sent, {} acknowledged, {} known already.",
                           plural(plan.lines, "line"),
                           plural(counts.sent, "event"),
                           count_text(counts.acknowledged),
                           count_text(counts.duplicates)));
  if (plan.invalid > 0) session.note(plural(plan.invalid, "line") + " skipped as not valid.");
  if (counts.refused > 0) {
    fmt::print(
        session.err, "{} refused for good: {}\n", plural(counts.refused, "event"), counts.refusal);
  }
}

Result<int> import_events(Session& session, const ImportOptions& options) {
  if (!frame::app_name_valid(options.app.data(), options.app.size())) {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("'{}' is no app's name: 1 to 64 of a-z 0-9 _ -", printable(options.app)));
  }
  TELEMETRYD_TRY(check_consent(options, session));
  TELEMETRYD_ASSIGN(const UniqueFd file, open_rereadable(options.file, options.spool_bytes_max));
  const auto now = std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  const ImportSource source{file.get(), options.app, static_cast<std::uint64_t>(now.count())};
  TELEMETRYD_ASSIGN(const ImportPlan plan, plan_import(source));
  report_problems(session, options, plan);
  if (plan.invalid > 0 && !options.skip_invalid) {
    return fail(
        ErrorCode::kFailedPrecondition,
        fmt::format("{} not valid; nothing was sent. Correct the file, or add "
                    "--skip-invalid to leave them out",
                    plan.invalid == 1 ? "1 line is" : count_text(plan.invalid) + " lines are"));
  }

  Progress progress(session.err, "importing", plan.events, !session.quiet && !session.json);
  SendSettings settings;
  settings.socket = resolved_ingest_socket(session);
  settings.app = options.app;
  settings.idle_max = std::chrono::seconds(options.deadline_seconds);
  settings.events_per_second = options.events_per_second;
  ImportSender sender(
      settings, plan.instance, [&](std::uint64_t settled) { progress.at(settled); });
  TELEMETRYD_TRY(sender.connect());
  auto sent = for_each_block(source, plan, [&](const Block& block) { return sender.send(block); });
  if (sent) sent = sender.finish();
  progress.clear();
  const SendCounts counts = sender.counts();
  print_summary(session, plan, counts);
  if (!sent) return fail(sent.error());
  return counts.refused > 0 ? kFailed : kOk;
}

}  // namespace

void add_event_import(CLI::App& event, Command& chosen) {
  auto* import = event.add_subcommand(
      "import", "Import events, one JSON object a line; importing again changes nothing");
  auto options = std::make_shared<ImportOptions>();
  import->add_option("--app", options->app, "The app that they belong to")->required();
  import->add_option("FILE", options->file, "The file, or - for standard input")->required();
  import->add_flag("--skip-invalid", options->skip_invalid, "Import the rest when lines are wrong");
  import->add_option("--rate", options->events_per_second, "Events a second (default 0: no limit)")
      ->check(CLI::NonNegativeNumber);
  import
      ->add_option("--deadline",
                   options->deadline_seconds,
                   "Seconds without progress before giving up (default 300)")
      ->check(CLI::Range(1, 86400));
  import->add_option("--spool-bytes-max",
                     options->spool_bytes_max,
                     "Largest temporary copy of standard input (default 4 GiB)");
  import->callback([&chosen, options] {
    chosen = [options](Session& session) { return import_events(session, *options); };
  });
}

}  // namespace telemetryd::ctl
