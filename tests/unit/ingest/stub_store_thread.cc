#include "stub_store_thread.h"

#include <thread>

#include "base/check.h"

namespace telemetryd::test {
namespace {

StubStore* current_stub = nullptr;

}  // namespace

StubStore& StubStore::current() {
  TELEMETRYD_CHECK(current_stub != nullptr);
  return *current_stub;
}

void StubStore::settle(std::size_t count) {
  std::thread([&] {
    for (; count > 0 && !submitted.empty(); --count) {
      Submitted frame = std::move(submitted.front());
      submitted.pop_front();
      const auto refusal = refusals.find(frame.append.number);
      if (frame.append.refusal) {
        frame.sink->refuse(frame.append.number, *frame.append.refusal);
      } else if (refusal != refusals.end()) {
        frame.sink->refuse(frame.append.number, refusal->second);
      } else {
        frame.sink->acknowledge(frame.append.number);
      }
    }
  }).join();
}

void StubStore::abandon_one() {
  std::thread([&] {
    submitted.front().sink->abandon();
    submitted.pop_front();
  }).join();
}

Result<std::vector<store::Answer>> StubStore::commit(std::span<const store::Append>) {
  return fail(ErrorCode::kInternal, "the stub commits by settle()");
}

Result<std::optional<std::uint64_t>> StubStore::high_water(const store::ClientKey& client) {
  if (unreadable) return fail(ErrorCode::kUnavailable, "unreadable");
  const auto known = high_waters.find(client);
  if (known == high_waters.end()) return std::nullopt;
  return known->second;
}

Result<void> StubStore::forget(const store::ClientKey& client) {
  forgotten.push_back(client);
  return {};
}

Result<void> StubStore::report(const store::ClientInfo&,
                               const std::map<std::string, std::uint64_t>& losses) {
  reports.push_back(losses);
  return {};
}

}  // namespace telemetryd::test

namespace telemetryd::store {

class StoreThread::Impl {
 public:
  std::unique_ptr<Store> store;
  test::StubStore* stub = nullptr;
};

StoreThread::StoreThread(std::unique_ptr<Store> store, const StoreThreadOptions&, Hooks)
    : impl_(std::make_unique<Impl>()) {
  impl_->stub = dynamic_cast<test::StubStore*>(store.get());
  TELEMETRYD_CHECK(impl_->stub != nullptr);
  impl_->store = std::move(store);
  test::current_stub = impl_->stub;
}

StoreThread::~StoreThread() {
  test::current_stub = nullptr;
}

Result<void> StoreThread::submit(Append&& frame, std::shared_ptr<AckSink> sink, Commit when) {
  test::StubStore& stub = *impl_->stub;
  if (stub.stopping) return fail(ErrorCode::kCancelled, "stopping");
  if (stub.submitted.size() >= stub.frames_max) return fail(ErrorCode::kResourceExhausted, "full");
  stub.submitted_outside_bursts += stub.bursts == 0 ? 1 : 0;
  stub.submitted.push_back({std::move(frame), std::move(sink), when});
  return {};
}

StoreThread::Burst::Burst(StoreThread& thread) : thread_(thread) {
  ++thread_.impl_->stub->bursts;
}

StoreThread::Burst::~Burst() {
  --thread_.impl_->stub->bursts;
}

void StoreThread::commit_now() {
  ++impl_->stub->commits_now;
}

Result<void> StoreThread::post(std::function<void(Store&)> work) {
  if (impl_->stub->stopping) return fail(ErrorCode::kCancelled, "stopping");
  if (impl_->stub->posts_full) return fail(ErrorCode::kResourceExhausted, "full");
  work(*impl_->store);
  return {};
}

Result<void> StoreThread::stop() {
  return {};
}

}  // namespace telemetryd::store
