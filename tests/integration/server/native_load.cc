// How many events a second telemetry-server makes durable: senders that each wait for their answer,
// over loopback, with bodies made beforehand. Prints one line of JSON.
//
//   native_load PORT TOKEN_FILE SECRET_FILE [CONNECTIONS [EVENTS_PER_BATCH [BATCHES]]]

#include <chrono>
#include <cstdio>
#include <thread>

#include "base/io.h"
#include "unit/server/support.h"

namespace telemetryd {
namespace {

struct Plan {
  std::uint16_t port = 0;
  std::string token;
  std::string secret;
  std::uint32_t connections = 4;
  std::uint32_t events = 1000;
  std::uint32_t batches = 100;  // per connection
};

std::string first_line(const char* path) {
  std::string text = read_file(path, 1000).value();
  return text.substr(0, text.find('\n'));
}

std::uint32_t number(const char* text) {
  return static_cast<std::uint32_t>(std::stoul(text));
}

test::v1::NativeBatch realistic_batch(std::uint32_t first, std::uint32_t count) {
  test::v1::NativeBatch batch = test::make_batch(first, count);
  for (auto& event : *batch.mutable_groups(0)->mutable_events()) {
    for (const char* key : {"os", "arch", "shell", "flags"}) {
      auto* attribute = event.add_attributes();
      attribute->set_key(key);
      attribute->set_string_value("a value of some size");
    }
    event.set_session_id(std::string(16, 's'));
    event.set_duration_ms(12.5);
  }
  return batch;
}

std::vector<test::Upload> prepare(const Plan& plan, std::uint32_t sender) {
  std::vector<test::Upload> uploads;
  for (std::uint32_t i = 0; i < plan.batches; ++i) {
    const std::uint32_t first = (sender * plan.batches + i) * plan.events;
    test::Upload made;
    made.token = plan.token;
    made.secret = plan.secret;
    made.timestamp_s = SystemClock().unix_ms() / 1000;
    made.body = realistic_batch(first, plan.events).SerializeAsString();
    made.batch_size = plan.events;
    uploads.push_back(std::move(made));
  }
  return uploads;
}

void send_all(const Plan& plan,
              const std::vector<test::Upload>& uploads,
              std::atomic<std::uint64_t>& accepted) {
  test::Connection connection(plan.port);
  for (const test::Upload& upload : uploads) {
    const auto reply = connection.exchange(test::request_text(upload));
    if (reply.status != 200) throw std::runtime_error(reply.body);
    accepted += reply.json().at("accepted").get<std::uint64_t>();
  }
}

void run(const Plan& plan) {
  std::vector<std::vector<test::Upload>> uploads;
  for (std::uint32_t i = 0; i < plan.connections; ++i) uploads.push_back(prepare(plan, i));
  std::atomic<std::uint64_t> accepted = 0;
  const auto start = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> senders;
    for (const auto& mine : uploads) senders.emplace_back([&] { send_all(plan, mine, accepted); });
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("{\"events\":%llu,\"seconds\":%.3f,\"events_per_second\":%.0f,\"body_bytes\":%zu}\n",
              static_cast<unsigned long long>(accepted),
              took.count(),
              static_cast<double>(accepted) / took.count(),
              uploads[0][0].body.size());
}

}  // namespace
}  // namespace telemetryd

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr,
                 "native_load PORT TOKEN_FILE SECRET_FILE [CONNECTIONS [EVENTS [BATCHES]]]\n");
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
