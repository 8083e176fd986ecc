// No memory in the middle of a request, at every place where it can be missing: that request fails,
// and nothing else. A real store; operator new is this program's own.

#include <future>

#include "fixture.h"
#include "support/balanced.h"
#include "support/failing_new.h"

namespace telemetryd::ingest {
namespace {

using frame::Type;

using test::allocations;
using test::kAllSucceed;

constexpr long kPlacesMax = 1000;  // far more than a request has

std::string hello_of(const std::string& instance) {
  return hello_frame(wire_bytes(1, instance) + wire_bytes(2, wire_bytes(1, "my-tool")) +
                     wire_number(4, 1));
}

class IngestMemory : public testing::TestWithParam<bool> {
 protected:
  IngestMemory()
      : store_options_{.state_dir = dir_.path()},
        store_(std::make_unique<store::StoreThread>(
            store::open_sqlite_store(store_options_, clock_).value(),
            store::StoreThreadOptions{},
            store::StoreThread::Hooks{})),
        server_(std::make_unique<IngestServer>(
            loop_,
            std::move(*loop::listen_unix(path(), 0600, 64)),
            *store_,
            clock_,
            [](std::uint32_t, std::string_view) {
              return consent::Decision{consent::Mode::kOn, "app_record"};
            },
            Options{})) {}

  ~IngestMemory() override {
    server_.reset();
    EXPECT_TRUE(store_->stop());
    store_.reset();
    test::expect_balanced_in(store_options_, clock_);
  }

  std::string path() const { return (folder_ / "ingest.sock").native(); }

  // Only what the daemon does fails, never what the test does.
  void turn() {
    allocations().left = std::exchange(left_, kAllSucceed);
    loop_.poll();
    left_ = std::exchange(allocations().left, kAllSucceed);
  }

  // The next answer, or nothing when the connection was hung up on.
  std::optional<Answer> answer_of(Client& client) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    std::optional<Answer> answer;
    while (!(answer = client.next()) && !client.at_end()) {
      if (std::chrono::steady_clock::now() > deadline) {
        ADD_FAILURE() << "neither an answer nor an end";
        return std::nullopt;
      }
      turn();
      std::this_thread::yield();
    }
    return answer;
  }

  // HELLO, and frame `number` in two pieces; whether it was acknowledged.
  bool deliver(Client& client, const std::string& instance, std::uint64_t number) {
    client.send_some(hello_of(instance));
    const auto welcome = answer_of(client);
    if (!welcome || welcome->type != Type::kWelcome) return false;
    const std::string bytes = events_frame(number, 3, "e", frame::kFlagCommitNow);
    client.send_some(bytes.substr(0, 40));
    turn();
    client.send_some(bytes.substr(40));
    const auto ack = answer_of(client);
    return ack && ack->type == Type::kAck && ack->number() == number;
  }

  bool send_again(const std::string& instance, std::uint64_t number) {
    Client client(path());
    return deliver(client, instance, number);
  }

  std::int64_t events_stored() {
    std::promise<std::int64_t> accepted;
    EXPECT_TRUE(store_->post([&](store::Store& store) {
      accepted.set_value(store.ledger().value().at("my-tool").total(store::account::kAccepted));
    }));
    return accepted.get_future().get();
  }

  const test::TempDir dir_;
  const test::TempDir folder_;
  test::FakeClock clock_;
  loop::Loop loop_;
  store::Options store_options_;
  std::unique_ptr<store::StoreThread> store_;
  std::unique_ptr<IngestServer> server_;
  long left_ = kAllSucceed;
};

TEST_P(IngestMemory, MissingAtAnyPlaceCostsThatConnectionAndNothingElse) {
  const std::string neighbours = "neighbour-16-byt";
  Client neighbour(path());
  ASSERT_TRUE(deliver(neighbour, neighbours, 1));
  std::int64_t frames = 1;
  long hung_up = 0;
  allocations().fails_on = GetParam();
  for (long place = 0;; ++place) {
    ASSERT_LT(place, kPlacesMax);
    const auto number = static_cast<std::uint64_t>(place) + 1;
    Client client(path());
    allocations().failed = false;
    left_ = place;
    const bool acknowledged = deliver(client, kInstance, number);
    left_ = kAllSucceed;
    if (!acknowledged) {
      ++hung_up;
      ASSERT_TRUE(allocations().failed) << "hung up for another reason at " << place;
      ASSERT_TRUE(send_again(kInstance, number)) << place;
    }
    ++frames;
    neighbour.send_some(events_frame(number + 1, 3, "e", frame::kFlagCommitNow));
    const auto ack = answer_of(neighbour);
    ASSERT_TRUE(ack && ack->type == Type::kAck && ack->number() == number + 1) << place;
    ++frames;
    if (!allocations().failed) break;
  }
  RecordProperty("hung_up", static_cast<int>(hung_up));
  EXPECT_GT(hung_up, 20) << "the failures must have met the request";
  EXPECT_EQ(events_stored(), 3 * frames);
  EXPECT_EQ(server_->stats().kept_bytes, 0u);
}

INSTANTIATE_TEST_SUITE_P(OnceAndFromThenOn, IngestMemory, testing::Bool());

}  // namespace
}  // namespace telemetryd::ingest
