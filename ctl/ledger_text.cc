#include "ctl/ledger_text.h"

#include <fmt/format.h>

#include "ctl/text.h"

namespace telemetryd::ctl {
namespace {

// An account with reasons: its total, then one line a reason.
void add_reasons(Table& table, const nlohmann::json& accounts, const char* name) {
  const auto& reasons = member_in(accounts, name);
  table.add({fmt::format("  {}", name), count_text(number_in(reasons, "total"))});
  if (!reasons.is_object()) return;
  for (const auto& [reason, count] : reasons.items()) {
    if (reason == "total" || !count.is_number()) continue;
    table.add(
        {fmt::format("    {}", printable(reason)), count_text(number_in(reasons, reason.c_str()))});
  }
}

}  // namespace

std::string accounts_text(const nlohmann::json& accounts) {
  Table table({"ACCOUNT", "EVENTS"});
  table.add({"accepted", count_text(number_in(accounts, "accepted"))});
  for (const char* name : {"queued", "delivered", "parked", "erased", "exported"}) {
    table.add({fmt::format("  {}", name), count_text(number_in(accounts, name))});
  }
  for (const char* name : {"expired", "evicted", "dropped", "lost"}) {
    add_reasons(table, accounts, name);
  }
  table.add({"never accepted", ""});
  add_reasons(table, accounts, "refused");
  table.add({"  duplicates", count_text(number_in(accounts, "duplicates"))});
  add_reasons(table, accounts, "lost_by_client");
  std::string out = table.text();
  if (has_value(accounts, "balanced")) {
    out +=
        member_in(accounts, "balanced") == true
            ? "accepted is the sum of the accounts below it.\n"
            : "accepted is not the sum of the accounts below it: run telemetryctl ledger check.\n";
  }
  return out;
}

}  // namespace telemetryd::ctl
