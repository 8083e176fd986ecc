#include "gateway/hub.h"

#include <utility>
#include <vector>

#include "base/log.h"

namespace telemetryd::gateway {

Hub::Hub(loop::Loop& loop, const Clock& clock, Options options, Hooks hooks)
    : loop_(loop),
      clock_(clock),
      options_(std::move(options)),
      hooks_(std::move(hooks)),
      upstreams_(loop, options_.ingest_socket, [this](Change change) { changed(change); }),
      health_(loop, clock, [this] { return options_.enabled && upstreams_.daemon_reachable(); }),
      touched_(clock.boot_ms()),
      idle_timer_(loop, [this] { on_idle_timer(); }),
      drain_timer_(loop, [this] { finish_stop(); }),
      room_timer_(loop, [this] { resume_waiting(); }),
      ending_timer_(loop, [this] { on_ending_timer(); }) {
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
  log::info("gateway_stopping", {{"reason", why}, {"calls", calls_.size()}});
  stopping_ = true;
  idle_timer_.stop();
  hooks_.on_stopping();
  drain_timer_.start_once(kDrainDeadline);
  changed(Change::kNothingAnswered);
}

void Hub::changed(Change change) {
  if (stopping_) {
    if (upstreams_.requests_unanswered() == 0) finish_stop();
    return;
  }
  if (change == Change::kAnswered) touch();
  resume_waiting();
}

void Hub::finish_stop() {
  if (std::exchange(stopped_, true)) return;
  drain_timer_.stop();
  const std::vector<Call*> calls(calls_.begin(), calls_.end());
  for (Call* const call : calls) {
    call->end(unavailable("the gateway is stopping; connect again"));
  }
  hooks_.on_stopped();
}

void Hub::proven(const std::string& peer) {
  if (!peer.empty()) hooks_.on_proven(peer);
}

void Hub::given_up(std::uint32_t uid, const std::string& peer) {
  const BootMs now = clock_.boot_ms();
  if (now - given_up_since_ >= kGivenUpWindow.count()) {
    given_up_since_ = now;
    given_up_.clear();
  }
  if (++given_up_[{uid, peer}] == kGivenUpMax) cut_off(uid, peer, kGivenUpMax);
}

void Hub::has_open(std::uint32_t uid, const std::string& peer, std::size_t calls) {
  const std::size_t allowed = kCallsPerConnectionMax * hooks_.connections(uid, peer);
  if (calls > allowed + kGivenUpMax) cut_off(uid, peer, calls - allowed);
}

void Hub::cut_off(std::uint32_t uid, const std::string& peer, std::size_t calls) {
  log::warn("sender_cut_off", {{"uid", uid}, {"peer", peer}, {"calls_given_up", calls}});
  hooks_.on_flood(uid, peer);
}

void Hub::ending(const std::shared_ptr<Caller>& caller) {
  while (!endings_.empty() && endings_.front().caller.expired()) endings_.pop_front();
  endings_.push_back({.caller = caller, .since = clock_.boot_ms()});
  if (!ending_timer_.active()) ending_timer_.start_once(options_.write_deadline);
}

void Hub::on_ending_timer() {
  const BootMs now = clock_.boot_ms();
  for (; !endings_.empty(); endings_.pop_front()) {
    const auto caller = endings_.front().caller.lock();
    if (!caller) continue;
    const std::chrono::milliseconds waited(now - endings_.front().since);
    if (waited < options_.write_deadline) {
      ending_timer_.start_once(options_.write_deadline - waited);
      return;
    }
    caller->abort();
  }
}

void Hub::wait_for_room(Call& call) {
  waiting_.insert(&call);
  if (!room_timer_.active()) room_timer_.start_once(kLookForRoom);
}

void Hub::resume_waiting() {
  if (stopping_) return;
  for (Call* const call : std::exchange(waiting_, {})) call->resume();
}

void Hub::add(Call& call) {
  calls_.insert(&call);
}

void Hub::remove(Call& call) {
  calls_.erase(&call);
  waiting_.erase(&call);
}

std::unique_ptr<loop::Timer> Hub::timer(std::function<void()> on_fire) {
  return std::make_unique<loop::Timer>(loop_, std::move(on_fire));
}

}  // namespace telemetryd::gateway
