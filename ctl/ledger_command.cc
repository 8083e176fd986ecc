#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ctl/admin_client.h"
#include "ctl/ledger_text.h"
#include "ctl/session.h"
#include "ctl/text.h"

namespace telemetryd::ctl {
namespace {

Result<int> show_ledger(Session& session, const std::string& app) {
  AdminClient admin(session.socket);
  TELEMETRYD_ASSIGN(const nlohmann::json ledger, admin.get("/v1/ledger"));
  const auto& apps = member_in(ledger, "apps");
  if (!app.empty() && !has_value(apps, app.c_str())) {
    return fail(ErrorCode::kNotFound, fmt::format("no app '{}' has sent events here", app));
  }
  const auto& accounts = app.empty() ? member_in(ledger, "machine") : member_in(apps, app.c_str());
  if (session.json) {
    session.print((app.empty() ? ledger : accounts).dump(2) + "\n");
    return kOk;
  }
  session.print(accounts_text(accounts));
  return kOk;
}

Result<int> check_ledger(Session& session) {
  AdminClient admin(session.socket);
  TELEMETRYD_ASSIGN(const nlohmann::json answer, admin.get("/v1/ledger?check=1"));
  const auto& check = member_in(answer, "check");
  const bool balanced = member_in(check, "balanced") == true;
  if (session.json) {
    session.print(answer.dump(2) + "\n");
    return balanced ? kOk : kFailed;
  }
  if (balanced) {
    session.note(fmt::format("The ledger balances: {} accepted, {} in the store.",
                             plural(number_in(member_in(answer, "machine"), "accepted"), "event"),
                             plural(number_in(check, "rows"), "row")));
    return kOk;
  }
  std::string message = "the ledger does not balance";
  for (const auto& problem : member_in(check, "problems")) {
    message +=
        "\n  " + printable(problem.is_string() ? problem.get<std::string>() : problem.dump());
  }
  return fail(ErrorCode::kDataLoss, message);
}

}  // namespace

void add_ledger(CLI::App& root, Command& chosen) {
  auto* ledger = root.add_subcommand("ledger", "Where every accepted event went");
  ledger->require_subcommand(1);
  auto* show = ledger->add_subcommand("show", "Print the accounts of the machine or one app");
  auto app = std::make_shared<std::string>();
  show->add_option("--app", *app, "Only this app");
  show->callback(
      [&chosen, app] { chosen = [app](Session& session) { return show_ledger(session, *app); }; });
  ledger->add_subcommand("check", "Count the stored rows and compare; exit 1 when they differ")
      ->callback([&chosen] { chosen = check_ledger; });
}

}  // namespace telemetryd::ctl
