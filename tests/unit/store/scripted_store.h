// unit/store/scripted_store.h: a Store whose commits end as the test says.

#pragma once

#include <deque>
#include <functional>
#include <future>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "store/store.h"

namespace telemetryd::test {

class ScriptedStore final : public store::Store {
 public:
  // What the next commits return; when empty, every frame is stored.
  std::deque<Error> failures;
  // Number of frames per commit.
  std::vector<std::size_t> groups;
  int closes = 0;
  int idles = 0;

  Result<std::vector<store::Answer>> commit(std::span<const store::Append> group) override {
    groups.push_back(group.size());
    if (!failures.empty()) {
      const Error error = failures.front();
      failures.pop_front();
      return fail(error);
    }
    return std::vector<store::Answer>(group.size());
  }

  Result<std::optional<std::uint64_t>> high_water(const store::ClientKey&) override {
    return std::optional<std::uint64_t>();
  }

  Result<void> forget(const store::ClientKey&) override { return {}; }

  Result<void> report(const store::ClientInfo&,
                      const std::map<std::string, std::uint64_t>&) override {
    return {};
  }

  Result<store::Lease> lease(const store::LeaseRequest&) override { return store::Lease(); }

  Result<void> settle(const store::Settlement&) override { return {}; }

  void release(store::LeaseId) override {}

  Result<store::Ledger> ledger() override { return store::Ledger(); }

  Result<store::LedgerCheck> check_ledger() override { return store::LedgerCheck{true, {}, 0}; }

  std::vector<std::string> apps() override { return {}; }

  Result<store::QueueInfo> queue(const std::string&) override { return store::QueueInfo(); }

  Result<std::vector<store::ListedEvent>> list(const store::EventQuery&) override {
    return std::vector<store::ListedEvent>();
  }

  Result<store::DeadPage> dead_letters(const store::DeadQuery&) override {
    return store::DeadPage();
  }

  Result<store::DeadMoved> replay_dead(const store::DeadQuery&) override {
    return store::DeadMoved();
  }

  Result<store::DeadMoved> drop_dead(const store::DeadQuery&) override {
    return store::DeadMoved();
  }

  Result<std::map<std::string, std::string>> destination_states() override {
    return std::map<std::string, std::string>();
  }

  Result<void> save_destination_state(const std::string&, const std::string&) override {
    return {};
  }

  Result<std::vector<store::ConsentRecord>> consents() override {
    return std::vector<store::ConsentRecord>();
  }

  Result<void> set_consent(const store::ConsentRecord&) override { return {}; }

  Result<std::uint64_t> erase(std::uint32_t, const std::string&) override { return 0; }

  Result<std::optional<std::string>> identity(const std::string&) override {
    return std::optional<std::string>();
  }

  Result<void> set_identity(const std::string&, const std::string&) override { return {}; }

  Result<store::Info> info() override { return store::Info(); }

  // What the next idle() returns; nothing once it is used.
  Rest rest;

  std::function<void()> on_idle = [] {};

  Result<Rest> idle() override {
    ++idles;
    on_idle();
    return std::exchange(rest, Rest());
  }

  Result<void> close() override {
    ++closes;
    return {};
  }

  void observe_queue(QueueObserver, std::uint64_t, std::uint64_t) override {}
};

}  // namespace telemetryd::test
