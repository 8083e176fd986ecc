#include "gateway/health.h"

#include <utility>

#include "event/event.h"
#include "event/wire.h"
#include "gateway/hub.h"

namespace telemetryd::gateway {
namespace {

// grpc/health/v1/health.proto: HealthCheckRequest.service, HealthCheckResponse.status.
constexpr std::uint32_t kService = event::tag_of(1, event::kBytes);
constexpr std::uint32_t kStatus = event::tag_of(1, event::kVarint);

std::optional<std::string> read_service(std::string_view message) {
  event::Cursor cursor(message);
  std::string_view service;
  while (!cursor.at_end()) {
    std::uint32_t tag = 0;
    if (!cursor.tag(tag)) return std::nullopt;
    if (!(tag == kService ? cursor.bytes(service) : cursor.skip(tag))) return std::nullopt;
  }
  if (!event::utf8_valid(service)) return std::nullopt;
  return std::string(service);
}

bool known(const std::string& service) {
  return service.empty() || service == "telemetry.v1.IngestService";
}

}  // namespace

Health::Health(loop::Loop& loop, const Clock& clock, std::function<bool()> look)
    : clock_(clock), look_(std::move(look)), timer_(loop, [this] { on_timer(); }) {}

bool Health::serving() {
  const BootMs now = clock_.boot_ms();
  if (!serving_ || now - looked_ >= kFresh.count()) {
    serving_ = look_();
    looked_ = now;
  }
  return *serving_;
}

void Health::watch(HealthCall& call) {
  watchers_.insert(&call);
  if (!timer_.active()) timer_.start_once(kWatchInterval);
  call.tell(serving());
}

void Health::unwatch(HealthCall& call) {
  watchers_.erase(&call);
  if (watchers_.empty()) timer_.stop();
}

void Health::on_timer() {
  timer_.start_once(kWatchInterval);
  const bool now = serving();
  const std::set<HealthCall*> watchers = watchers_;
  for (HealthCall* const each : watchers) each->tell(now);
}

void HealthCall::begin(std::shared_ptr<Caller> caller) {
  caller_ = std::move(caller);
  if (hub_.stopping()) {
    end(unavailable("the gateway is stopping"));
    return;
  }
  if (proves_) hub_.proven(peer_);
  hub_.add(*this);
  caller_->read_next();
}

std::function<void()> HealthCall::prepare(std::string_view message) {
  return [this, self = shared_from_this(), service = read_service(message)] { take(service); };
}

void HealthCall::take(const std::optional<std::string>& service) {
  if (!caller_) return;
  asked_ = true;
  if (!service) {
    end(invalid("the request is not a HealthCheckRequest: malformed protobuf"));
  } else if (kind_ == Kind::kWatch && known(*service)) {
    hub_.health().watch(*this);
  } else if (kind_ == Kind::kWatch) {
    state_ = Serving::kServiceUnknown;
    write_more();
  } else if (!known(*service)) {
    end({.code = StatusCode::kNotFound, .text = "unknown service", .retry_after = {}});
  } else {
    tell(hub_.health().serving());
  }
}

void HealthCall::half_closed() {
  if (!asked_) end(invalid("the call carries no request"));
}

void HealthCall::tell(bool serving) {
  state_ = serving ? Serving::kServing : Serving::kNotServing;
  write_more();
}

void HealthCall::write_more() {
  if (!caller_ || writing_ || state_ == written_) return;
  written_ = state_;
  const std::string response{static_cast<char>(kStatus), static_cast<char>(*state_)};
  if (kind_ == Kind::kCheck) {
    hub_.remove(*this);
    hub_.ending(caller_);
    std::exchange(caller_, nullptr)->answer(response);
    return;
  }
  writing_ = true;
  caller_->write(response);
}

void HealthCall::written() {
  writing_ = false;
  write_more();
}

void HealthCall::cancelled() {
  if (!caller_) return;
  hub_.given_up(uid_, peer_);
  end({.code = StatusCode::kCancelled, .text = "the call was cancelled", .retry_after = {}});
}

void HealthCall::end(const Status& status) {
  if (!caller_) return;
  hub_.remove(*this);
  hub_.health().unwatch(*this);
  hub_.ending(caller_);
  std::exchange(caller_, nullptr)->finish(status);
}

}  // namespace telemetryd::gateway
