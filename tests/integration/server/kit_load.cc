// How many telemetry-kit events a second telemetry-server makes durable: senders that each wait for
// their answer, over loopback, with bodies made beforehand. Prints one line of JSON.
//
//   kit_load PORT TOKEN_FILE SECRET_FILE [CONNECTIONS [EVENTS_PER_BATCH [BATCHES]]]

#include <chrono>
#include <cstdio>
#include <thread>

#include "base/io.h"
#include "unit/server/kit_client.h"

namespace telemetryd {
namespace {

struct Plan {
  std::uint16_t port = 0;
  std::string path;
  std::string token;
  std::string secret;
  std::uint32_t connections = 4;
  std::uint32_t events = 100;
  std::uint32_t batches = 200;  // per connection
};

std::string first_line(const char* path) {
  std::string text = read_file(path, 1000).value();
  return text.substr(0, text.find('\n'));
}

std::uint32_t number(const char* text) {
  return static_cast<std::uint32_t>(std::stoul(text));
}

// IDs are random, as the SDK makes them: that is what the index has to bear.
std::string body_of(std::uint32_t count) {
  test::OrderedJson events = test::kit_events(0, count);
  for (auto& event : events) event["event_id"] = uuid_text(random_bytes16());
  return events.dump();
}

std::vector<test::KitUpload> prepare(const Plan& plan) {
  std::vector<test::KitUpload> uploads;
  for (std::uint32_t i = 0; i < plan.batches; ++i) {
    test::KitUpload made;
    made.path = "/events/batch";
    made.token = plan.token;
    made.secret = plan.secret;
    made.timestamp_s = SystemClock().unix_ms() / 1000;
    made.body = body_of(plan.events);
    made.batch_size = std::to_string(plan.events);
    uploads.push_back(std::move(made));
  }
  return uploads;
}

void send_all(const Plan& plan,
              const std::vector<std::string>& requests,
              std::atomic<std::uint64_t>& accepted) {
  test::Connection connection(plan.port);
  for (const std::string& request : requests) {
    const auto reply = connection.exchange(request);
    if (reply.status != 200) throw std::runtime_error(reply.body);
    accepted += reply.json().at("accepted").get<std::uint64_t>();
  }
}

void run(const Plan& plan) {
  std::vector<std::vector<std::string>> requests(plan.connections);
  std::size_t body_bytes = 0;
  for (auto& mine : requests) {
    for (const test::KitUpload& upload : prepare(plan)) {
      body_bytes = upload.body.size();
      mine.push_back(test::request_text(upload));
    }
  }
  std::atomic<std::uint64_t> accepted = 0;
  const auto start = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> senders;
    for (const auto& mine : requests) senders.emplace_back([&] { send_all(plan, mine, accepted); });
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("{\"events\":%llu,\"seconds\":%.3f,\"events_per_second\":%.0f,\"body_bytes\":%zu}\n",
              static_cast<unsigned long long>(accepted),
              took.count(),
              static_cast<double>(accepted) / took.count(),
              body_bytes);
}

}  // namespace
}  // namespace telemetryd

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "kit_load PORT TOKEN_FILE SECRET_FILE [CONNECTIONS [EVENTS [BATCHES]]]\n");
    return 2;
  }
  telemetryd::Plan plan;
  plan.port = static_cast<std::uint16_t>(telemetryd::number(argv[1]));
  plan.token = telemetryd::first_line(argv[2]);
  plan.secret = telemetryd::first_line(argv[3]);
  if (argc > 4) plan.connections = telemetryd::number(argv[4]);
  if (argc > 5) plan.events = telemetryd::number(argv[5]);
  if (argc > 6) plan.batches = telemetryd::number(argv[6]);
  telemetryd::run(plan);
  return 0;
}
