#include "bench/raw_store/raw_store.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

#include "base/io.h"
#include "base/unique_fd.h"

namespace telemetryd::bench {
namespace {

using namespace store;

class RawStore final : public Store {
 public:
  RawStore(UniqueFd fd, std::uint64_t file_bytes) : fd_(std::move(fd)), file_bytes_(file_bytes) {}

  Result<std::vector<Answer>> commit(std::span<const Append> group) override {
    buffer_.clear();
    std::vector<Answer> answers;
    answers.reserve(group.size());
    for (const Append& frame : group) answers.push_back(take(frame));
    if (buffer_.size() > file_bytes_) {
      return fail(ErrorCode::kResourceExhausted, "the group is bigger than the file");
    }
    if (offset_ + buffer_.size() > file_bytes_) offset_ = 0;
    const ssize_t written =
        ::pwrite(fd_.get(), buffer_.data(), buffer_.size(), static_cast<off_t>(offset_));
    if (written != static_cast<ssize_t>(buffer_.size()) || ::fdatasync(fd_.get()) != 0) {
      return fail(ErrorCode::kUnknownOutcome, "the raw file failed");
    }
    offset_ += buffer_.size();
    return answers;
  }

  Result<std::optional<std::uint64_t>> high_water(const ClientKey& client) override {
    const auto found = high_waters_.find(client);
    if (found == high_waters_.end()) return std::optional<std::uint64_t>();
    return std::optional(found->second);
  }

  Result<void> forget(const ClientKey& client) override {
    high_waters_.erase(client);
    return {};
  }

  Result<void> report(const ClientInfo&, const std::map<std::string, std::uint64_t>&) override {
    return {};
  }

  Result<Lease> lease(const LeaseRequest&) override { return Lease(); }

  Result<void> settle(const Settlement&) override { return {}; }

  void release(LeaseId) override {}

  Result<Ledger> ledger() override { return Ledger(); }

  Result<LedgerCheck> check_ledger() override { return LedgerCheck{true, {}, 0}; }

  std::vector<std::string> apps() override { return {}; }

  Result<QueueInfo> queue(const std::string&) override { return QueueInfo(); }

  Result<std::vector<ListedEvent>> list(const EventQuery&) override {
    return std::vector<ListedEvent>();
  }

  Result<DeadPage> dead_letters(const DeadQuery&) override { return DeadPage(); }

  Result<DeadMoved> replay_dead(const DeadQuery&) override { return DeadMoved(); }

  Result<DeadMoved> drop_dead(const DeadQuery&) override { return DeadMoved(); }

  Result<std::map<std::string, std::string>> destination_states() override {
    return std::map<std::string, std::string>();
  }

  Result<void> save_destination_state(const std::string&, const std::string&) override {
    return {};
  }

  Result<std::vector<ConsentRecord>> consents() override { return std::vector<ConsentRecord>(); }

  Result<void> set_consent(const ConsentRecord&) override { return {}; }

  Result<std::uint64_t> erase(std::uint32_t, const std::string&) override { return 0; }

  Result<std::optional<std::string>> identity(const std::string& key) override {
    const auto found = identity_.find(key);
    if (found == identity_.end()) return std::optional<std::string>();
    return std::optional(found->second);
  }

  Result<void> set_identity(const std::string& key, const std::string& value) override {
    identity_[key] = value;
    return {};
  }

  Result<Info> info() override {
    return Info{file_bytes_, file_bytes_, "none", 1, "raw", std::nullopt};
  }

  Result<Rest> idle() override { return Rest(); }

  Result<void> close() override { return {}; }

  void observe_queue(QueueObserver, std::uint64_t, std::uint64_t) override {}

 private:
  Answer take(const Append& frame) {
    const auto [entry, added] =
        high_waters_.try_emplace(frame.client->key, frame.client->first_frame - 1);
    if (frame.number <= entry->second) return {Answer::Kind::kDuplicate, {}};
    if (frame.number > entry->second + 1) {
      return {Answer::Kind::kRefused, {frame::Code::kOutOfOrder, true, 0, {}}};
    }
    if (frame.refusal && frame.refusal->retryable) return {Answer::Kind::kRefused, *frame.refusal};
    entry->second = frame.number;
    if (frame.refusal) return {Answer::Kind::kRefused, *frame.refusal};
    buffer_ += frame.events;
    return {Answer::Kind::kStored, {}};
  }

  UniqueFd fd_;
  std::uint64_t file_bytes_;
  std::uint64_t offset_ = 0;
  std::string buffer_;
  std::map<ClientKey, std::uint64_t> high_waters_;
  std::map<std::string, std::string> identity_;
};

}  // namespace

Result<std::unique_ptr<store::Store>> open_raw_store(const std::filesystem::path& folder,
                                                     std::uint64_t file_bytes) {
  const std::filesystem::path path = folder / "raw";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) return fail(error_from_errno(errno, "opening " + path.native()));
  const std::string zeros(1u << 20, '\0');
  for (std::uint64_t at = 0; at < file_bytes; at += zeros.size()) {
    if (::pwrite(fd.get(), zeros.data(), zeros.size(), static_cast<off_t>(at)) < 0) {
      return fail(error_from_errno(errno, "writing " + path.native()));
    }
  }
  if (::fdatasync(fd.get()) != 0) return fail(error_from_errno(errno, "syncing " + path.native()));
  return std::unique_ptr<store::Store>(std::make_unique<RawStore>(std::move(fd), file_bytes));
}

}  // namespace telemetryd::bench
