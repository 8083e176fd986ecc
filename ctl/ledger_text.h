// ctl/ledger_text.h: accounts as a sum that a person can check.
//
// Thread:  any; no state.

#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace telemetryd::ctl {

// `accounts` is one ACCOUNTS object of docs/admin-api.md.
std::string accounts_text(const nlohmann::json& accounts);

}  // namespace telemetryd::ctl
