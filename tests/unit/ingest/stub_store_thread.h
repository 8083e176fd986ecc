// ingest/stub_store_thread.h: a StoreThread whose commits happen when the test says so.
//
// It has the real class's name and is linked instead of it. Answers come from a thread of their
// own, as they do in the daemon; functions that are posted run at once.

#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "store/store_thread.h"

namespace telemetryd::test {

class StubStore final : public store::Store {
 public:
  struct Submitted {
    store::Append append;
    std::shared_ptr<store::AckSink> sink;
    store::StoreThread::Commit when{};
  };

  // The one that the StoreThread made last holds.
  static StubStore& current();

  // Answers the first `count` submitted frames in order, as one group.
  void settle(std::size_t count);

  void settle_all() { settle(submitted.size()); }

  // Says that the outcome of the first frame's commit is unknown.
  void abandon_one();

  std::deque<Submitted> submitted;
  std::size_t frames_max = 1u << 20;
  bool posts_full = false;
  bool stopping = false;
  int commits_now = 0;
  int bursts = 0;                    // under way
  int submitted_outside_bursts = 0;  // each would wake the store's thread for itself

  // By frame number: what the store answers instead of storing.
  std::map<std::uint64_t, store::Refusal> refusals;
  std::map<store::ClientKey, std::uint64_t> high_waters;
  bool unreadable = false;
  std::vector<store::ClientKey> forgotten;
  std::vector<std::map<std::string, std::uint64_t>> reports;

  Result<std::vector<store::Answer>> commit(std::span<const store::Append>) override;
  Result<std::optional<std::uint64_t>> high_water(const store::ClientKey& client) override;
  Result<void> forget(const store::ClientKey& client) override;
  Result<void> report(const store::ClientInfo&,
                      const std::map<std::string, std::uint64_t>& losses) override;

  // Ingest has no business with the rest.
  Result<store::Lease> lease(const store::LeaseRequest&) override { return {}; }

  Result<void> settle(const store::Settlement&) override { return {}; }

  void release(store::LeaseId) override {}

  Result<store::Ledger> ledger() override { return {}; }

  Result<store::LedgerCheck> check_ledger() override { return {}; }

  std::vector<std::string> apps() override { return {}; }

  Result<store::QueueInfo> queue(const std::string&) override { return {}; }

  Result<std::vector<store::ListedEvent>> list(const store::EventQuery&) override { return {}; }

  Result<store::DeadPage> dead_letters(const store::DeadQuery&) override {
    return store::DeadPage();
  }

  Result<store::DeadMoved> replay_dead(const store::DeadQuery&) override {
    return store::DeadMoved();
  }

  Result<store::DeadMoved> drop_dead(const store::DeadQuery&) override {
    return store::DeadMoved();
  }

  Result<std::map<std::string, std::string>> destination_states() override { return {}; }

  Result<void> save_destination_state(const std::string&, const std::string&) override {
    return {};
  }

  Result<std::vector<store::ConsentRecord>> consents() override { return {}; }

  Result<void> set_consent(const store::ConsentRecord&) override { return {}; }

  Result<std::uint64_t> erase(std::uint32_t, const std::string&) override { return 0; }

  Result<std::optional<std::string>> identity(const std::string&) override { return std::nullopt; }

  Result<void> set_identity(const std::string&, const std::string&) override { return {}; }

  Result<store::Info> info() override { return {}; }

  Result<Rest> idle() override { return Rest(); }

  Result<void> close() override { return {}; }

  void observe_queue(QueueObserver, std::uint64_t, std::uint64_t) override {}
};

}  // namespace telemetryd::test
