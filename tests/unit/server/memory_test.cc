// No memory for a body or for what is read from it: that upload is told to come again, and nothing
// else happens.

#include <gtest/gtest.h>

#include "support/failing_new.h"
#include "unit/server/http_fixture.h"
#include "unit/server/kit_client.h"

namespace telemetryd::server {
namespace {

using test::Connection;
using test::Reply;
using test::request_text;
using test::shared_allocations;

// Everything of the large uploads below that grows with them, and nothing of the small ones.
constexpr std::size_t kLargeBytes = 32u << 10;
constexpr std::uint32_t kEvents = 1000;
constexpr long kPlacesMax = 1000;

class ServerMemory : public test::ServerHttp {
 protected:
  ServerMemory() {
    test::exempt_this_thread();
    start_with({});
  }

  ~ServerMemory() override { shared_allocations().left = test::kAllSucceed; }

  test::Upload upload(std::uint32_t first, std::uint32_t count) const {
    test::Upload made;
    made.token = credentials_.token;
    made.secret = credentials_.secret;
    made.timestamp_s = clock_.unix_ms() / 1000;
    made.body = test::make_batch(first, count).SerializeAsString();
    made.batch_size = count;
    return made;
  }

  test::KitUpload kit_upload(std::uint32_t first, std::uint32_t count) const {
    test::KitUpload made;
    made.token = credentials_.token;
    made.secret = credentials_.secret;
    made.timestamp_s = clock_.unix_ms() / 1000;
    made.set_events(test::kit_events(first, count));
    return made;
  }

  // Until nothing fails any more; how often it was told to come again.
  template <typename Make>
  int send_until_it_passes(Make make) {
    Connection neighbour(server_->port());
    std::uint32_t small = 1'000'000;
    int told = 0;
    shared_allocations().bytes_min = kLargeBytes;
    for (long place = 0; place < kPlacesMax; ++place) {
      const std::string text = request_text(make());
      shared_allocations().failed = false;
      shared_allocations().left = place;
      const Reply reply = send_text(text);
      const Reply other = neighbour.exchange(request_text(upload(++small, 1)));
      shared_allocations().left = test::kAllSucceed;
      EXPECT_EQ(other.status, 200) << place;
      if (!shared_allocations().failed) {
        EXPECT_EQ(reply.status, 200) << reply.body;
        return told;
      }
      expect_error(reply, 503, "service_unavailable");
      EXPECT_EQ(reply.headers.at("Retry-After"), "1");
      ++told;
    }
    ADD_FAILURE() << "it never passed";
    return told;
  }
};

TEST_F(ServerMemory, MissingForANativeUploadCostsThatUploadAndNothingElse) {
  EXPECT_GE(send_until_it_passes([this] { return upload(1, kEvents); }), 2);
  EXPECT_GE(ledger().rows, kEvents);
  EXPECT_EQ(ledger().duplicates, 0);
  EXPECT_TRUE(ledger().balances());
}

TEST_F(ServerMemory, MissingForATelemetryKitUploadCostsThatUploadAndNothingElse) {
  EXPECT_GE(send_until_it_passes([this] { return kit_upload(1, kEvents); }), 2);
  EXPECT_GE(ledger().rows, kEvents);
  EXPECT_EQ(ledger().duplicates, 0);
  EXPECT_TRUE(ledger().balances());
}

}  // namespace
}  // namespace telemetryd::server
