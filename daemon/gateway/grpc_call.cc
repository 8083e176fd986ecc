#include "gateway/grpc_call.h"

#include <utility>

#include "base/log.h"
#include "gateway/startup.h"

namespace telemetryd::gateway {
namespace {

grpc::ByteBuffer to_buffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return {&slice, 1};
}

// Counted as long as this lives. The loop is told of many, not of each: it has them to look after.
class Open {
 public:
  Open(std::shared_ptr<CallScope> scope, const grpc::CallbackServerContext& context)
      : scope_(std::move(scope)), peer_(peer_name(*scope_, context)) {
    constexpr std::size_t kTold = 256;
    const std::size_t calls = scope_->calls.begin(peer_);
    if (calls < Hub::kGivenUpMax || calls % kTold != 0) return;
    scope_->loop.post_when_room([&hub = scope_->hub, uid = scope_->uid, peer = peer_, calls] {
      hub.has_open(uid, peer, calls);
    });
  }

  ~Open() { scope_->calls.end(peer_); }

  Open(const Open&) = delete;
  Open& operator=(const Open&) = delete;

 private:
  const std::shared_ptr<CallScope> scope_;
  const std::string peer_;
};

class NetworkCall final : public Reactor, public Caller {
 public:
  static Reactor* begin(const std::shared_ptr<CallScope>& scope,
                        grpc::CallbackServerContext& context,
                        std::shared_ptr<Call> decider) {
    const std::shared_ptr<NetworkCall> call(new NetworkCall(scope, context, std::move(decider)));
    call->self_ = call;
    const auto posted = scope->loop.post([decider = call->call_, call] { decider->begin(call); });
    if (!posted) call->finish(unavailable("the gateway is busy or stopping"));
    return call.get();
  }

  // Caller.
  void read_next() override {
    const MutexLock lock(mutex_);
    if (!finished_) StartRead(&incoming_);
  }

  void write(std::string response) override {
    const MutexLock lock(mutex_);
    if (finished_) return;
    outgoing_ = to_buffer(response);
    StartWrite(&outgoing_);
  }

  void finish(const Status& status) override {
    const MutexLock lock(mutex_);
    if (std::exchange(finished_, true)) return;
    Finish(grpc_status(status));
  }

  void abort() override {
    const MutexLock lock(mutex_);
    if (done_) return;
    context_.TryCancel();
    if (std::exchange(finished_, true)) return;
    Finish(grpc::Status(grpc::StatusCode::CANCELLED, "an answer was not read in time"));
  }

  void answer(std::string response) override {
    const MutexLock lock(mutex_);
    if (std::exchange(finished_, true)) return;
    outgoing_ = to_buffer(response);
    StartWriteAndFinish(&outgoing_, grpc::WriteOptions(), grpc::Status::OK);
  }

  // Reactor.
  void OnReadDone(bool ok) override {
    grpc::Slice message;  // one piece, and without a copy when gRPC has it in one
    if (!ok || !incoming_.DumpToSingleSlice(&message).ok()) {
      tell([](Call& call) { call.half_closed(); });
      return;
    }
    incoming_.Clear();
    tell([take = call_->prepare({reinterpret_cast<const char*>(message.begin()), message.size()})](
             Call&) { take(); });
  }

  void OnWriteDone(bool ok) override {
    if (ok) tell([](Call& call) { call.written(); });
  }

  void OnCancel() override {
    tell([](Call& call) { call.cancelled(); });
  }

  // The loop must not keep a call that is no more, so this one message always arrives.
  void OnDone() override {
    const std::shared_ptr<NetworkCall> self = std::exchange(self_, nullptr);
    {
      const MutexLock lock(mutex_);
      done_ = true;
    }
    scope_->loop.post_when_room([call = call_] { call->end({}); });
  }

 private:
  NetworkCall(const std::shared_ptr<CallScope>& scope,
              grpc::CallbackServerContext& context,
              std::shared_ptr<Call> call)
      : scope_(scope), open_(scope, context), context_(context), call_(std::move(call)) {}

  template <typename Work>
  void tell(Work work) {
    const auto posted = scope_->loop.post([call = call_, work] { work(*call); });
    if (!posted) finish(unavailable("the gateway is busy or stopping"));
  }

  const std::shared_ptr<CallScope> scope_;
  const Open open_;
  grpc::CallbackServerContext& context_;
  const std::shared_ptr<Call> call_;
  std::shared_ptr<NetworkCall> self_;
  grpc::ByteBuffer incoming_;
  grpc::ByteBuffer outgoing_;
  Mutex mutex_;
  bool finished_ TELEMETRYD_GUARDED_BY(mutex_) = false;
  bool done_ TELEMETRYD_GUARDED_BY(mutex_) = false;  // gRPC's context may be gone
};

class RefusedCall final : public Reactor {
 public:
  RefusedCall(const std::shared_ptr<CallScope>& scope,
              const grpc::CallbackServerContext& context,
              const Status& status)
      : open_(scope, context) {
    Finish(grpc_status(status));
  }

  void OnDone() override { delete this; }

 private:
  const Open open_;
};

}  // namespace

grpc::Status grpc_status(const Status& status) {
  if (status.code == StatusCode::kOk) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code), status.text, status_details(status)};
}

Reactor* new_call(const std::shared_ptr<CallScope>& scope,
                  grpc::CallbackServerContext& context,
                  std::shared_ptr<Call> call) {
  return NetworkCall::begin(scope, context, std::move(call));
}

Reactor* new_refused_call(const std::shared_ptr<CallScope>& scope,
                          grpc::CallbackServerContext& context,
                          const Status& status) {
  return new RefusedCall(scope, context, status);
}

std::string peer_name(const CallScope& scope, const grpc::CallbackServerContext& context) {
  return scope.uid == kRemoteUid ? context.peer() : std::string();
}

std::size_t OpenCalls::begin(const std::string& peer) {
  const MutexLock lock(mutex_);
  ++total_;
  return ++by_peer_[peer];
}

void OpenCalls::end(const std::string& peer) {
  const MutexLock lock(mutex_);
  --total_;
  const auto found = by_peer_.find(peer);
  if (--found->second == 0) by_peer_.erase(found);
}

}  // namespace telemetryd::gateway
