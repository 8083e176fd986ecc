#include "server/health_endpoint.h"

#include <nlohmann/json.hpp>

#include "server/version.h"

namespace telemetryd::server {
namespace {

class ReadyExchange final : public Exchange {
 public:
  explicit ReadyExchange(EventStore& events) : events_(events) {}

  std::optional<Answer> receive(std::string) override { return std::nullopt; }

  void submit(std::function<void(Answer)> reply) override {
    events_.probe([reply = std::move(reply)](bool writable) {
      if (writable) return reply({.status = 200, .body = R"({"status":"ready"})"});
      reply(error_answer(503, "service_unavailable", "the storage cannot be written", 5));
    });
  }

 private:
  EventStore& events_;
};

}  // namespace

Admission HealthEndpoint::begin(const RequestHead&) {
  const nlohmann::ordered_json body{{"status", "healthy"}, {"version", version()}};
  return Answer{.status = 200, .body = body.dump()};
}

Admission ReadyEndpoint::begin(const RequestHead&) {
  return std::make_unique<ReadyExchange>(events_);
}

}  // namespace telemetryd::server
