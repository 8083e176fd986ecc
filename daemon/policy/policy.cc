#include "policy/policy.h"

namespace telemetryd::policy {
namespace {

consent::Record to_record(store::Consent state) {
  switch (state) {
    case store::Consent::kUnset: return consent::Record::kUnset;
    case store::Consent::kEnabled: return consent::Record::kEnabled;
    case store::Consent::kLocal: return consent::Record::kLocal;
    case store::Consent::kDisabled: return consent::Record::kDisabled;
  }
  return consent::Record::kUnreadable;
}

}  // namespace

Policy::Policy(consent::MachinePolicy machine, const std::vector<store::ConsentRecord>& records)
    : machine_(machine) {
  for (const store::ConsentRecord& record : records) set(record);
}

consent::Decision Policy::decide(std::uint32_t uid, std::string_view app) const {
  const auto record_of = [&](std::string_view name) {
    const auto found = records_.find({uid, std::string(name)});
    return found == records_.end() ? consent::Record::kUnset : to_record(found->second.state);
  };
  consent::Inputs inputs;
  inputs.machine = machine_;
  inputs.all_record = record_of("");
  // Without an app the question is about all tools, which the record above answers.
  if (!app.empty()) inputs.app_record = record_of(app);
  return consent::decide(inputs);
}

void Policy::set_machine(consent::MachinePolicy machine) {
  machine_ = machine;
}

void Policy::set(const store::ConsentRecord& record) {
  const std::pair key{record.uid, record.app};
  if (record.state == store::Consent::kUnset) {
    records_.erase(key);
  } else {
    records_[key] = record;
  }
}

std::vector<store::ConsentRecord> Policy::records() const {
  std::vector<store::ConsentRecord> all;
  all.reserve(records_.size());
  for (const auto& [key, record] : records_) all.push_back(record);
  return all;
}

std::set<std::pair<std::uint32_t, std::string>> Policy::held() const {
  std::set<std::pair<std::uint32_t, std::string>> held;
  for (const auto& [key, record] : records_) {
    const consent::Mode mode = decide(key.first, key.second).mode;
    if (mode == consent::Mode::kLocal || mode == consent::Mode::kOff) held.insert(key);
  }
  return held;
}

}  // namespace telemetryd::policy
