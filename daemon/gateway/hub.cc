#include "gateway/hub.h"

#include <utility>
#include <vector>

#include "base/log.h"

namespace telemetryd::gateway {

Hub::Hub(loop::Loop& loop,
         const Clock& clock,
         Options options,
         std::function<void()> on_stopping,
         std::function<void()> on_stopped)
    : loop_(loop),
      clock_(clock),
      options_(std::move(options)),
      on_stopping_(std::move(on_stopping)),
      on_stopped_(std::move(on_stopped)),
      upstreams_(loop, options_.ingest_socket, [this] { changed(); }),
      touched_(clock.boot_ms()),
      idle_timer_(loop, [this] { on_idle_timer(); }),
      drain_timer_(loop, [this] { finish_stop(); }) {
  if (options_.exits_when_idle) idle_timer_.start_once(options_.idle_exit);
}

Hub::~Hub() = default;

void Hub::touch() {
  touched_ = clock_.boot_ms();
}

// The timer is not moved with each message: when it fires it looks how long it was really quiet.
void Hub::on_idle_timer() {
  if (stopping_) return;
  if (upstreams_.requests_unanswered() > 0) touch();
  const std::chrono::milliseconds quiet{clock_.boot_ms() - touched_};
  if (quiet < options_.idle_exit) {
    idle_timer_.start_once(options_.idle_exit - quiet);
    return;
  }
  stop("idle");
}

void Hub::stop(const std::string& why) {
  if (stopping_) return;
  log::info("gateway_stopping", {{"reason", why}, {"calls", sessions_.size()}});
  stopping_ = true;
  idle_timer_.stop();
  on_stopping_();
  drain_timer_.start_once(kDrainDeadline);
  changed();
}

void Hub::changed() {
  if (stopping_) {
    if (upstreams_.requests_unanswered() == 0) finish_stop();
    return;
  }
  touch();
  for (Session* const session : std::exchange(waiting_, {})) session->resume();
}

void Hub::finish_stop() {
  if (std::exchange(stopped_, true)) return;
  drain_timer_.stop();
  const std::vector<Session*> sessions(sessions_.begin(), sessions_.end());
  for (Session* const session : sessions) {
    session->end(unavailable("the gateway is stopping; connect again"));
  }
  on_stopped_();
}

bool Hub::room_for(std::uint32_t uid) const {
  return !stopping_ && upstreams_.bytes_unanswered(uid) < kBytesPerUidMax;
}

void Hub::add(Session& session) {
  sessions_.insert(&session);
}

void Hub::remove(Session& session) {
  sessions_.erase(&session);
  waiting_.erase(&session);
}

std::unique_ptr<loop::Timer> Hub::timer(std::function<void()> on_fire) {
  return std::make_unique<loop::Timer>(loop_, std::move(on_fire));
}

}  // namespace telemetryd::gateway
