#include "gateway/grpc_call.h"

#include <utility>

#include "base/log.h"

namespace telemetryd::gateway {
namespace {

// The bytes of a message as one piece; without a copy when gRPC has it in one.
std::expected<Request, Status> convert_buffer(grpc::ByteBuffer& buffer) {
  grpc::Slice slice;
  if (!buffer.DumpToSingleSlice(&slice).ok()) {
    return std::unexpected(invalid("the request could not be decompressed"));
  }
  return convert({reinterpret_cast<const char*>(slice.begin()), slice.size()});
}

grpc::ByteBuffer to_buffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return {&slice, 1};
}

class PublishCall final : public Reactor, public Caller {
 public:
  static Reactor* begin(const std::shared_ptr<CallScope>& scope,
                        grpc::CallbackServerContext& context,
                        Session::Kind kind) {
    const std::shared_ptr<PublishCall> call(new PublishCall(scope, context, kind));
    call->self_ = call;
    const auto posted =
        scope->loop.post([session = call->session_, call] { session->begin(call); });
    if (!posted) call->finish(unavailable("the gateway is busy or stopping"));
    return call.get();
  }

  ~PublishCall() override { --scope_->calls; }

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
    if (std::exchange(finished_, true)) return;
    context_.TryCancel();
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
    if (!ok) {
      tell([](Session& session) { session.half_closed(); });
      return;
    }
    auto request = std::make_shared<std::expected<Request, Status>>(convert_buffer(incoming_));
    incoming_.Clear();
    tell([request](Session& session) { session.message(std::move(*request)); });
  }

  void OnWriteDone(bool ok) override {
    if (ok) tell([](Session& session) { session.written(); });
  }

  void OnCancel() override {
    tell([](Session& session) { session.cancelled(); });
  }

  // The session must not outlive the call's side of it, so this one message always arrives.
  void OnDone() override {
    const std::shared_ptr<PublishCall> self = std::exchange(self_, nullptr);
    scope_->loop.post_when_room([session = session_] { session->cancelled(); });
  }

 private:
  PublishCall(const std::shared_ptr<CallScope>& scope,
              grpc::CallbackServerContext& context,
              Session::Kind kind)
      : scope_(scope),
        context_(context),
        session_(std::make_shared<Session>(scope->hub, scope->uid, kind)) {
    ++scope_->calls;
  }

  template <typename Work>
  void tell(Work work) {
    const auto posted = scope_->loop.post([session = session_, work] { work(*session); });
    if (!posted) finish(unavailable("the gateway is busy or stopping"));
  }

  const std::shared_ptr<CallScope> scope_;
  grpc::CallbackServerContext& context_;
  const std::shared_ptr<Session> session_;
  std::shared_ptr<PublishCall> self_;
  grpc::ByteBuffer incoming_;
  grpc::ByteBuffer outgoing_;
  Mutex mutex_;
  bool finished_ TELEMETRYD_GUARDED_BY(mutex_) = false;
};

class RefusedCall final : public Reactor {
 public:
  RefusedCall(const std::shared_ptr<CallScope>& scope, const Status& status) : scope_(scope) {
    ++scope_->calls;
    Finish(grpc_status(status));
  }

  ~RefusedCall() override { --scope_->calls; }

  void OnDone() override { delete this; }

 private:
  const std::shared_ptr<CallScope> scope_;
};

}  // namespace

grpc::Status grpc_status(const Status& status) {
  if (status.code == StatusCode::kOk) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code), status.text, status_details(status)};
}

Reactor* new_publish_call(const std::shared_ptr<CallScope>& scope,
                          grpc::CallbackServerContext& context,
                          Session::Kind kind) {
  return PublishCall::begin(scope, context, kind);
}

Reactor* new_refused_call(const std::shared_ptr<CallScope>& scope, const Status& status) {
  return new RefusedCall(scope, status);
}

}  // namespace telemetryd::gateway
