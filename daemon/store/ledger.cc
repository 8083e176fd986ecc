#include "store/ledger.h"

namespace telemetryd::store {

std::int64_t Accounts::get(std::string_view account_name, std::string_view reason_name) const {
  const auto found = values_.find({std::string(account_name), std::string(reason_name)});
  return found == values_.end() ? 0 : found->second;
}

std::int64_t Accounts::total(std::string_view account_name) const {
  std::int64_t sum = 0;
  auto it = values_.lower_bound({std::string(account_name), std::string()});
  for (; it != values_.end() && it->first.first == account_name; ++it) sum += it->second;
  return sum;
}

void Accounts::add(std::string_view account_name,
                   std::string_view reason_name,
                   std::int64_t amount) {
  values_[{std::string(account_name), std::string(reason_name)}] += amount;
}

std::int64_t Accounts::imbalance() const {
  std::int64_t rest = total(account::kAccepted);
  for (const std::string_view place : account::kPlaces) rest -= total(place);
  return rest;
}

Accounts machine_total(const Ledger& ledger) {
  Accounts sum;
  for (const auto& [app, accounts] : ledger) {
    for (const auto& [key, value] : accounts.all()) sum.add(key.first, key.second, value);
  }
  return sum;
}

}  // namespace telemetryd::store
