// integration/server/load.h: senders that each wait for their answer, over loopback, with bodies
// made beforehand. What the uploads are is the program's that includes this.
//
// Prints one line of JSON.

#pragma once

#include <chrono>
#include <cstdio>
#include <thread>

#include "base/io.h"
#include "unit/server/support.h"

namespace telemetryd::test {

struct LoadPlan {
  std::uint16_t port = 0;
  std::string token;
  std::string secret;
  std::uint32_t connections = 4;
  std::uint32_t events = 0;   // per batch
  std::uint32_t batches = 0;  // per connection
};

inline void send_all(std::uint16_t port,
                     const std::vector<std::string>& requests,
                     std::atomic<std::uint64_t>& accepted) {
  Connection connection(port);
  for (const std::string& request : requests) {
    const auto reply = connection.exchange(request);
    if (reply.status != 200) throw std::runtime_error(reply.body);
    accepted += reply.json().at("accepted").get<std::uint64_t>();
  }
}

// `make(plan, number)`: the upload with this number of all.
template <typename Make>
void run_load(const LoadPlan& plan, Make make) {
  std::vector<std::vector<std::string>> requests(plan.connections);
  std::size_t body_bytes = 0;
  std::uint32_t number = 0;
  for (auto& mine : requests) {
    for (std::uint32_t i = 0; i < plan.batches; ++i) {
      const auto upload = make(plan, number++);
      body_bytes = upload.body.size();
      mine.push_back(request_text(upload));
    }
  }
  std::atomic<std::uint64_t> accepted = 0;
  const auto start = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> senders;
    for (const auto& mine : requests) {
      senders.emplace_back([&] { send_all(plan.port, mine, accepted); });
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("{\"events\":%llu,\"seconds\":%.3f,\"events_per_second\":%.0f,\"body_bytes\":%zu}\n",
              static_cast<unsigned long long>(accepted),
              took.count(),
              static_cast<double>(accepted) / took.count(),
              body_bytes);
}

// PORT TOKEN_FILE SECRET_FILE [CONNECTIONS [EVENTS [BATCHES]]] over the program's own numbers.
template <typename Make>
int load_main(int argc, char** argv, LoadPlan plan, Make make) {
  if (argc < 4) {
    std::fprintf(
        stderr, "%s PORT TOKEN_FILE SECRET_FILE [CONNECTIONS [EVENTS [BATCHES]]]\n", argv[0]);
    return 2;
  }
  const auto first_line = [](const char* path) {
    const std::string text = read_file(path, 1000).value();
    return text.substr(0, text.find('\n'));
  };
  const auto number = [](const char* text) { return static_cast<std::uint32_t>(std::stoul(text)); };
  plan.port = static_cast<std::uint16_t>(number(argv[1]));
  plan.token = first_line(argv[2]);
  plan.secret = first_line(argv[3]);
  if (argc > 4) plan.connections = number(argv[4]);
  if (argc > 5) plan.events = number(argv[5]);
  if (argc > 6) plan.batches = number(argv[6]);
  run_load(plan, make);
  return 0;
}

}  // namespace telemetryd::test
