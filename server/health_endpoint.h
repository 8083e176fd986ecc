// server/health_endpoint.h: GET /health, which says that the process answers, and GET /ready, which
// says that it could store a batch.
//
// Thread:  any.

#pragma once

#include "server/endpoint.h"
#include "server/event_store.h"

namespace telemetryd::server {

class HealthEndpoint final : public Endpoint {
 public:
  bool owns(std::string_view path) const override { return path == "/health"; }

  std::string_view methods() const override { return "GET, HEAD"; }

  Admission begin(const RequestHead& head) override;
};

class ReadyEndpoint final : public Endpoint {
 public:
  explicit ReadyEndpoint(EventStore& events) : events_(events) {}

  bool owns(std::string_view path) const override { return path == "/ready"; }

  std::string_view methods() const override { return "GET, HEAD"; }

  Admission begin(const RequestHead& head) override;

 private:
  EventStore& events_;
};

}  // namespace telemetryd::server
