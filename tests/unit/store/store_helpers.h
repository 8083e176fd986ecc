// unit/store/store_helpers.h: frames, clients and an open store for tests of the store.

#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "store/store.h"
#include "support/balanced.h"
#include "support/fake_clock.h"
#include "support/temp_dir.h"

namespace telemetryd::test {

// An encoded Event is opaque to the store; any bytes behind tag and length will do.
inline std::string framed_event(std::string_view body) {
  std::string bytes(1, '\x0A');
  std::size_t length = body.size();
  while (length >= 0x80) {
    bytes += static_cast<char>((length & 0x7F) | 0x80);
    length >>= 7;
  }
  bytes += static_cast<char>(length);
  bytes += body;
  return bytes;
}

inline std::string batch_of(const std::vector<std::string>& bodies) {
  std::string bytes;
  for (const std::string& body : bodies) bytes += framed_event(body);
  return bytes;
}

inline std::shared_ptr<const store::ClientInfo> client(std::uint8_t number,
                                                       std::string app = "shop",
                                                       std::uint32_t uid = 1000) {
  auto info = std::make_shared<store::ClientInfo>();
  info->key.uid = uid;
  info->key.instance.fill(number);
  info->app = std::move(app);
  info->context = "context of " + info->app;
  return info;
}

inline store::Append frame(std::shared_ptr<const store::ClientInfo> from,
                           std::uint64_t number,
                           const std::vector<std::string>& bodies,
                           event::Class persistence_class = event::Class::kNormal) {
  store::Append append;
  append.client = std::move(from);
  append.number = number;
  append.persistence_class = persistence_class;
  append.summary.count = static_cast<std::uint32_t>(bodies.size());
  append.events = batch_of(bodies);
  return append;
}

inline store::Append refused_frame(std::shared_ptr<const store::ClientInfo> from,
                                   std::uint64_t number,
                                   bool retryable,
                                   std::uint32_t count = 1) {
  store::Append append;
  append.client = std::move(from);
  append.number = number;
  append.summary.count = count;
  append.refusal = store::Refusal{
      retryable ? frame::Code::kStopping : frame::Code::kInvalidEvent, retryable, 5, "no"};
  return append;
}

inline store::Options small_store(const std::filesystem::path& folder) {
  store::Options options;
  options.state_dir = folder;
  options.bytes_max = 16u << 20;
  options.wal_pregrow_bytes = 256u << 10;
  return options;
}

inline store::LeaseRequest lease_of(std::vector<std::string> apps,
                                    std::uint32_t events_max = 1000) {
  store::LeaseRequest request;
  request.apps = std::move(apps);
  request.events_max = events_max;
  return request;
}

// The bodies of the events in a batch.
inline std::vector<std::string> bodies_of(std::string_view batch) {
  std::vector<std::string> bodies;
  while (!batch.empty()) {
    std::size_t at = 1;
    std::size_t length = 0;
    for (unsigned shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(batch[at++]);
      length |= static_cast<std::size_t>(byte & 0x7Fu) << shift;
      if ((byte & 0x80u) == 0) break;
    }
    bodies.emplace_back(batch.substr(at, length));
    batch.remove_prefix(at + length);
  }
  return bodies;
}

inline std::vector<std::string> bodies_of(const store::Lease& lease) {
  std::vector<std::string> bodies;
  for (const store::LeasedRow& row : lease.rows) {
    for (std::string& body : bodies_of(row.events)) bodies.push_back(std::move(body));
  }
  return bodies;
}

// A store in a folder of its own that ends every test balanced.
class StoreTest : public testing::Test {
 protected:
  void SetUp() override { open(small_store(dir_.path())); }

  void TearDown() override {
    if (store_) expect_balanced();
  }

  void open(const store::Options& options) {
    auto opened = store::open_sqlite_store(options, clock_);
    ASSERT_TRUE(opened) << opened.error().message();
    store_ = std::move(*opened);
  }

  void reopen() {
    const auto closed = store_->close();
    ASSERT_TRUE(closed) << closed.error().message();
    store_.reset();
    open(small_store(dir_.path()));
  }

  // Without close(), as after a kill.
  void crash_and_reopen() {
    store_.reset();
    open(small_store(dir_.path()));
  }

  std::vector<store::Answer> commit(std::vector<store::Append> group) {
    auto answers = store_->commit(group);
    EXPECT_TRUE(answers) << answers.error().message();
    return answers ? std::move(*answers) : std::vector<store::Answer>();
  }

  store::Lease lease(const store::LeaseRequest& request) {
    auto lease = store_->lease(request);
    EXPECT_TRUE(lease) << lease.error().message();
    return lease ? std::move(*lease) : store::Lease();
  }

  void settle(store::LeaseId lease, std::vector<store::Rejected> rejected = {}) {
    const auto settled = store_->settle({lease, "upstream", std::move(rejected)});
    EXPECT_TRUE(settled) << settled.error().message();
  }

  std::int64_t account(std::string_view name, std::string_view why = "") {
    return store::machine_total(store_->ledger().value()).get(name, why);
  }

  void expect_balanced() { test::expect_balanced(*store_); }

  TempDir dir_;
  FakeClock clock_;
  std::unique_ptr<store::Store> store_;
};

}  // namespace telemetryd::test
