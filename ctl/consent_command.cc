#include <ctime>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "base/io.h"
#include "ctl/admin_client.h"
#include "ctl/consent_text.h"
#include "ctl/environment.h"
#include "ctl/session.h"
#include "ctl/text.h"
#include "frame/frame.h"

namespace telemetryd::ctl {
namespace {

struct ConsentOptions {
  std::string app;
  std::optional<std::uint32_t> uid;
  bool force = false;
};

Result<void> check_app(const std::string& app) {
  if (app.empty() || frame::app_name_valid(app.data(), app.size())) return {};
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("'{}' is no app's name: 1 to 64 of a-z 0-9 _ -", printable(app)));
}

// Adds what the daemon knows to what this side knows.
void add_daemon_side(const nlohmann::json& answer,
                     const std::string& app,
                     consent::Inputs& inputs) {
  const std::string policy = text_in(answer, "machine_policy");
  inputs.machine = consent::parse_policy(policy.data(), policy.size());
  for (const auto& record : member_in(answer, "records")) {
    const std::string of = text_in(record, "app");
    const auto state = record_of(text_in(record, "state"));
    // Off wins between the daemon's record and the user's own file.
    if (of.empty() && inputs.all_record != consent::Record::kDisabled &&
        inputs.all_record != consent::Record::kUnreadable) {
      inputs.all_record = state;
    }
    if (!app.empty() && of == app) inputs.app_record = state;
  }
}

Result<int> show_consent(Session& session, const ConsentOptions& options) {
  TELEMETRYD_TRY(check_app(options.app));
  consent::Inputs inputs = local_consent_inputs(options.app, session.socket);
  AdminClient admin(session.socket);
  const auto answer = admin.get(
      "/v1/consent" + (options.app.empty() ? std::string() : "?app=" + query_escape(options.app)));
  if (answer) {
    add_daemon_side(*answer, options.app, inputs);
  } else if (answer.error().code() != ErrorCode::kUnavailable) {
    return fail(answer.error());
  }
  const consent::Decision decision = consent::decide(inputs);
  const char* mode = consent::mode_name(decision.mode);
  if (session.json) {
    const nlohmann::json out = {{"app", options.app},
                                {"mode", mode},
                                {"rule", decision.rule},
                                {"machine_policy", consent::policy_name(inputs.machine)},
                                {"consent_file", word_of(inputs.consent_file)},
                                {"app_record", word_of(inputs.app_record)},
                                {"all_record", word_of(inputs.all_record)},
                                {"daemon", answer.has_value()}};
    session.print(out.dump(2) + "\n");
    return kOk;
  }
  session.print(decision_text(options.app, mode, decision.rule) + "\n");
  if (!answer) session.note("(No daemon answers, so its own records are not part of this.)");
  return kOk;
}

// The client library reads the file of its tool and the one for all tools, with or without a
// daemon.
Result<void> write_own_file(Session& session, const std::string& app, const char* state) {
  const auto path = consent_file_path(app);
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  if (error) return fail(error_from_errno(error.value(), "making " + path.parent_path().native()));
  const auto now = static_cast<std::int64_t>(std::time(nullptr));
  TELEMETRYD_TRY(replace_file(path, consent_file_text(state, now), 0600));
  session.note("Wrote " + path.native());
  return {};
}

void report_daemon_answer(Session& session,
                          const ConsentOptions& options,
                          const nlohmann::json& answer) {
  const auto& decision = member_in(answer, "decision");
  const std::string mode = text_in(decision, "mode");
  if (options.uid && *options.uid != geteuid()) {
    session.note(fmt::format("The daemon knows. For user {}, {} now {} by rule {}.",
                             *options.uid,
                             options.app.empty() ? "all tools are" : options.app + " is",
                             mode,
                             text_in(decision, "rule")));
  } else {
    session.note("The daemon knows. " +
                 decision_text(options.app, mode, text_in(decision, "rule")));
  }
  const auto erased = number_in(answer, "erased_events");
  if (erased > 0) session.note(plural(erased, "unsent event") + " erased.");
}

Result<int> decide(Session& session, const ConsentOptions& options, const char* state) {
  TELEMETRYD_TRY(check_app(options.app));
  const bool turns_on = std::string_view(state) != "disabled";
  const bool own = !options.uid || *options.uid == geteuid();
  if (turns_on && own && !options.force) {
    if (const auto objection = objection_to_enabling()) {
      return fail(ErrorCode::kFailedPrecondition,
                  fmt::format("{} is set, so this is not taken for a person's decision; unset it "
                              "or add --force",
                              *objection));
    }
  }
  if (own) TELEMETRYD_TRY(write_own_file(session, options.app, state));

  AdminClient admin(session.socket);
  nlohmann::json request = {{"app", options.app}, {"state", state}};
  if (options.uid) request["uid"] = *options.uid;
  const auto answer = admin.post("/v1/consent", request);
  if (answer) {
    if (session.json) {
      session.print(answer->dump(2) + "\n");
    } else {
      report_daemon_answer(session, options, *answer);
    }
    return kOk;
  }
  if (answer.error().code() == ErrorCode::kUnavailable && own) {
    session.note(
        fmt::format("No daemon answers on {}; {} reads the file when it starts. Run this "
                    "again when the daemon is up, so that it knows too.",
                    session.socket.native(),
                    options.app.empty() ? "each app" : options.app));
    return kOk;
  }
  if (answer.error().code() == ErrorCode::kUnavailable) {
    return fail(
        answer.error().with_context("a decision for another user is kept by the daemon alone"));
  }
  return fail(answer.error());
}

void add_verb(CLI::App& noun,
              Command& chosen,
              const std::string& verb,
              const std::string& help,
              const char* state) {
  auto* command = noun.add_subcommand(verb, help);
  auto options = std::make_shared<ConsentOptions>();
  command->add_option("--app", options->app, "Only this app; otherwise all tools");
  command->add_option("--user", options->uid, "Decide for this user ID (admins only)");
  if (std::string_view(state) != "disabled") {
    command->add_flag("--force", options->force, "Also where CI or DO_NOT_TRACK is set");
  }
  command->callback([&chosen, options, state] {
    chosen = [options, state](Session& session) { return decide(session, *options, state); };
  });
}

}  // namespace

void add_consent(CLI::App& root, Command& chosen) {
  auto* noun = root.add_subcommand("consent", "Whether your events may be collected");
  noun->require_subcommand(1);
  auto* status = noun->add_subcommand("status", "Say what is collected and which rule decides");
  auto options = std::make_shared<ConsentOptions>();
  status->add_option("--app", options->app, "Of this app; otherwise of all tools");
  status->callback([&chosen, options] {
    chosen = [options](Session& session) { return show_consent(session, *options); };
  });
  add_verb(*noun, chosen, "enable", "Allow collecting and sending", "enabled");
  add_verb(*noun, chosen, "local", "Allow collecting, but nothing leaves this machine", "local");
  add_verb(*noun, chosen, "disable", "Collect nothing and erase what was not sent", "disabled");
}

}  // namespace telemetryd::ctl
