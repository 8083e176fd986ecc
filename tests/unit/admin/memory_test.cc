// No memory in the middle of an admin request, at every place where it can be missing: that request
// is told to come again or hung up on, and nothing else happens.

#include <thread>

#include <gtest/gtest.h>

#include "admin/admin_server.h"
#include "support/failing_new.h"
#include "support/temp_dir.h"
#include "support/unix_http.h"

namespace telemetryd::admin {
namespace {

using test::HttpAnswer;
using test::shared_allocations;
using test::UnixHttp;

constexpr long kPlacesMax = 1000;  // far more than a request has
const std::string kLong(100, 'x');

std::vector<Route> routes() {
  const auto answer = [](const Call& call, const Reply& reply) {
    reply.json(200, "{\"a\":\"" + call.query.at("a") + "\"}");
  };
  return {{.method = "GET", .path = "/v1/x", .access = Access::kEverybody, .handle = answer}};
}

class AdminMemory : public testing::TestWithParam<bool> {
 protected:
  std::string path() const { return (folder_ / "a.sock").native(); }

  // Serves while `client` runs on a thread of its own, whose memory never ends.
  void serve(std::function<void()> client) {
    auto server =
        AdminServer::start(loop_, std::move(*loop::listen_unix(path(), 0666, 64)), "", routes())
            .value();
    std::thread thread([&] {
      test::exempt_this_thread();
      client();
      shared_allocations().left = test::kAllSucceed;
      EXPECT_TRUE(loop_.post([&] { server.reset(); }));
      loop_.stop();
    });
    loop_.run();
    thread.join();
  }

  const test::TempDir folder_;
  loop::Loop loop_;
};

TEST_P(AdminMemory, MissingAtAnyPlaceCostsThatRequestAndNothingElse) {
  serve([&] {
    UnixHttp neighbour(path());
    ASSERT_EQ(neighbour.get("/v1/x?a=b").status, 200);
    int told = 0;
    int hung_up = 0;
    shared_allocations().fails_on = GetParam();
    for (long place = 0;; ++place) {
      ASSERT_LT(place, kPlacesMax);
      shared_allocations().failed = false;
      shared_allocations().left = place;
      UnixHttp http(path());
      const HttpAnswer answer = http.get("/v1/x?a=" + kLong);
      shared_allocations().left = test::kAllSucceed;
      if (answer.status == 503) {
        ++told;
        EXPECT_EQ(answer.headers.at("retry-after"), "1");
      } else if (answer.status == 0) {
        ++hung_up;
      } else {
        EXPECT_EQ(answer.status, 200) << place;
        EXPECT_EQ(answer.body, "{\"a\":\"" + kLong + "\"}\n");
      }
      ASSERT_EQ(neighbour.get("/v1/x?a=b").body, "{\"a\":\"b\"}\n") << place;
      if (!shared_allocations().failed) break;
    }
    EXPECT_GT(told, 5) << "the failures must have met the request";
    EXPECT_GT(hung_up, 0) << "whoever is not known yet is not answered";
  });
}

INSTANTIATE_TEST_SUITE_P(OnceAndFromThenOn, AdminMemory, testing::Bool());

}  // namespace
}  // namespace telemetryd::admin
