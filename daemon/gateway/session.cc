#include "gateway/session.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/log.h"
#include "gateway/hub.h"

namespace telemetryd::gateway {

Session::Session(Hub& hub, std::uint32_t uid, std::string peer, Kind kind)
    : hub_(hub), room_(hub.room()), uid_(uid), peer_(std::move(peer)), kind_(kind) {}

void Session::begin(std::shared_ptr<Caller> caller) {
  caller_ = std::move(caller);
  if (hub_.stopping()) {
    end(unavailable("the gateway is stopping"));
    return;
  }
  hub_.proven(peer_);
  hub_.add(*this);
  read_more();
}

void Session::end(const Status& status) {
  if (!caller_) return;
  hub_.remove(*this);
  write_deadline_.reset();
  hub_.ending(caller_);
  std::exchange(caller_, nullptr)->finish(status);
}

void Session::cancelled() {
  if (!caller_) return;
  hub_.given_up(uid_, peer_);
  end({.code = StatusCode::kCancelled, .text = "the call was cancelled", .retry_after = {}});
}

// Most of the memory of a call is its message. When there is none for it, what was taken for it is
// free again, and the few bytes of a refusal come out of that.
std::function<void()> Session::prepare(std::string_view message) {
  try {
    return taking(take_in(message));
  } catch (const std::bad_alloc&) {
    return taking(std::unexpected(exhausted("no memory for this request; send it again")));
  }
}

std::function<void()> Session::taking(std::expected<Request, Status> taken) {
  auto request = std::make_shared<std::expected<Request, Status>>(std::move(taken));
  return [this, self = shared_from_this(), request] { take(std::move(*request)); };
}

// Turned away here, on the thread that has it: what waits for the loop is counted as well.
std::expected<Request, Status> Session::take_in(std::string_view message) const {
  auto held = room_->take(uid_, message.size());
  if (!held) {
    return std::unexpected(exhausted("too much of this user is unanswered; send it again"));
  }
  auto request = convert(message);
  if (request) request->held = *std::move(held);
  return request;
}

void Session::take(std::expected<Request, Status> request) {
  if (!caller_) return;
  reading_ = false;
  hub_.touch();
  if (!request) {
    end(request.error());
  } else if (kind_ == Kind::kPublish) {
    take_publish(*std::move(request));
  } else {
    take_stream(*std::move(request));
  }
}

void Session::take_publish(Request request) {
  if (const auto problem = check_publish(request)) {
    end(*problem);
    return;
  }
  set_commit_now(request.frame);
  instance_ = request.instance;
  context_ = *std::move(request.context);
  submit(std::move(request));
}

void Session::take_stream(Request request) {
  const bool first = !instance_;
  if (first) {
    if (const auto problem = check_first_of_stream(request)) {
      end(*problem);
      return;
    }
    instance_ = request.instance;
    context_ = *std::move(request.context);
  } else if (request.instance && request.instance != instance_) {
    end(invalid("the instance changed within the stream"));
    return;
  } else if (request.context && *request.context != context_) {
    end(invalid("the context changed within the stream"));
    return;
  } else if (request.number == 0) {
    end(invalid("number is 0; the numbers of an instance start at 1"));
    return;
  }
  // A sender that has nothing else on its way may well wait for this answer. What comes while it is
  // out is gathered until it is there; see Upstream::read().
  if (unanswered_ == 0) set_commit_now(request.frame);
  submit(std::move(request));
  read_more();
}

void Session::submit(Request request) {
  ++unanswered_;
  hub_.upstreams().submit(uid_,
                          instance_,
                          context_,
                          {.number = request.number,
                           .oldest_number = request.oldest_number,
                           .frame = std::move(request.frame),
                           .held = std::move(request.held),
                           .waiter = std::static_pointer_cast<Session>(shared_from_this())});
}

void Session::read_more() {
  if (!caller_ || reading_ || half_closed_) return;
  if (kind_ == Kind::kPublish ? unanswered_ > 0 : unanswered_ >= kWindow || !refusals_.empty()) {
    return;
  }
  if (hub_.stopping() || !room_->wanted(uid_)) {
    hub_.wait_for_room(*this);
    return;
  }
  reading_ = true;
  caller_->read_next();
}

void Session::resume() {
  read_more();
}

void Session::half_closed() {
  if (!caller_) return;
  reading_ = false;
  half_closed_ = true;
  if (kind_ == Kind::kPublish) {
    end(invalid("the call carries no request"));
    return;
  }
  // The sender waits for the rest now, so the commit should not.
  if (instance_ && unanswered_ > 0) hub_.upstreams().flush(uid_, *instance_);
  finish_when_done();
}

void Session::settled(std::uint64_t number, std::uint64_t acknowledged) {
  --unanswered_;
  if (!caller_) return;
  if (kind_ == Kind::kPublish) {
    hub_.remove(*this);
    hub_.ending(caller_);
    std::exchange(caller_, nullptr)->answer(publish_response(instance_ ? number : 0));
    return;
  }
  acknowledged_ = std::max(acknowledged_, acknowledged);
  write_more();
  read_more();
}

void Session::refused(const Refusal& refusal, std::uint64_t acknowledged) {
  --unanswered_;
  if (!caller_) return;
  if (kind_ == Kind::kPublish) {
    end(status_of(refusal));
    return;
  }
  acknowledged_ = std::max(acknowledged_, acknowledged);
  refusals_.push_back(refusal);
  write_more();
}

void Session::lost(const Status& status) {
  --unanswered_;
  end(status);
}

void Session::write_more() {
  if (!caller_ || writing_) return;
  if (acknowledged_ == written_ && refusals_.empty()) {
    finish_when_done();
    return;
  }
  const Refusal* refusal = refusals_.empty() ? nullptr : &refusals_.front();
  std::string response = publish_response(acknowledged_, refusal);
  written_ = acknowledged_;
  if (refusal != nullptr) refusals_.pop_front();
  writing_ = true;
  if (!write_deadline_) {
    write_deadline_ = hub_.timer([this] { on_write_deadline(); });
  }
  write_deadline_->start_once(hub_.write_deadline());
  caller_->write(std::move(response));
}

void Session::on_write_deadline() {
  log::debug("answer_not_read", {{"uid", uid_}});
  hub_.remove(*this);
  write_deadline_.reset();
  std::exchange(caller_, nullptr)->abort();
}

void Session::written() {
  if (!caller_) return;
  writing_ = false;
  write_deadline_->stop();
  write_more();
  read_more();
}

void Session::finish_when_done() {
  if (!half_closed_ || unanswered_ > 0 || writing_) return;
  end({});
}

}  // namespace telemetryd::gateway
