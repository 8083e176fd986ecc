#include "forward/grpc_channel.h"

#include <algorithm>
#include <cstdlib>
#include <grpc/support/log.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <list>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/secret.h"
#include "forward/mutes.h"
#include "forward/version.h"

namespace telemetryd::forward {

class GrpcChannel {
 public:
  GrpcChannel(const std::shared_ptr<grpc::Channel>& channel, std::int64_t certificate_expires_s)
      : stub_(channel), certificate_expires_s_(certificate_expires_s) {}

  grpc::GenericStub& stub() { return stub_; }

  std::int64_t certificate_expires_s() const { return certificate_expires_s_; }

 private:
  grpc::GenericStub stub_;
  std::int64_t certificate_expires_s_;
};

namespace {

// Whatever it has to say is in the answer, and stderr is our log's. GRPC_VERBOSITY brings it back.
void silence_library() {
  if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function([](gpr_log_func_args*) {});
}

std::shared_ptr<grpc::ChannelCredentials> credentials_of(const GrpcPeer& peer, const Pem& pem) {
  if (!peer.tls) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = pem.authorities;
  options.pem_cert_chain = pem.certificate;
  options.pem_private_key.assign(pem.key.text());
  auto credentials = grpc::SslCredentials(options);
  wipe(options.pem_private_key);
  return credentials;
}

grpc::ChannelArguments arguments_of(const GrpcPeer& peer) {
  grpc::ChannelArguments arguments;
  arguments.SetUserAgentPrefix(std::string(kSender));
  arguments.SetMaxReceiveMessageSize(GrpcCalls::kAnswerBytesMax);
  // Requests are bounded where they are cut.
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, peer.direct ? 0 : 1);
  if (!peer.proxy.empty()) arguments.SetString(GRPC_ARG_HTTP_PROXY, peer.proxy);
  // A call that takes minutes notices a connection that was cut without a word. Servers take more
  // frequent pings for an attack.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 300'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  // Settings come from our configuration, never from the peer's DNS.
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  // A new channel is a new attempt; a shared connection would remember the failures of the last.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return arguments;
}

grpc::ByteBuffer buffer_of(std::string_view bytes) {
  const grpc::Slice slice(bytes.data(), bytes.size());
  return {&slice, 1};
}

std::string text_of(const grpc::ByteBuffer& buffer) {
  std::string text;
  std::vector<grpc::Slice> slices;
  if (!buffer.Valid() || !buffer.Dump(&slices).ok()) return text;
  text.reserve(buffer.Length());
  for (const grpc::Slice& slice : slices) {
    text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return text;
}

std::string joined(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata,
                   const char* name) {
  std::string list;
  const auto [begin, end] = metadata.equal_range(name);
  for (auto at = begin; at != end; ++at) {
    if (!list.empty()) list += ", ";
    list.append(at->second.data(), at->second.size());
  }
  return list;
}

struct Call {
  std::shared_ptr<GrpcChannel> channel;
  grpc::ClientContext context;
  std::unique_ptr<grpc::GenericClientAsyncResponseReader> reader;
  grpc::ByteBuffer response;
  grpc::Status status;
  std::function<void(const GrpcAnswer&)> done;

  GrpcAnswer answer() const {
    GrpcAnswer answer = read_answer(
        static_cast<GrpcCode>(status.error_code()), status.error_message(), status.error_details());
    const std::string bound = "vs. " + std::to_string(GrpcCalls::kAnswerBytesMax) + ")";
    if (answer.code == GrpcCode::kResourceExhausted && answer.message.ends_with(bound)) {
      answer.kind = GrpcAnswer::Kind::kTooLarge;
    }
    if (status.ok()) answer.body = text_of(response);
    answer.certificate_expires_s = channel->certificate_expires_s();
    answer.mutes = parse_mutes(joined(context.GetServerTrailingMetadata(), "telemetry-mute"));
    return answer;
  }
};

}  // namespace

struct GrpcCalls::Impl {
  explicit Impl(const std::function<void()>& wake) : thread([this, &wake] { collect(wake); }) {}

  ~Impl() {
    for (Call& call : calls) call.context.TryCancel();
    queue.Shutdown();
    thread.join();
    calls.clear();
  }

  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // The thread's whole work. `ended` is no longer than `calls`.
  void collect(const std::function<void()>& wake) {
    void* tag = nullptr;
    bool ok = false;
    while (queue.Next(&tag, &ok)) {
      {
        const std::lock_guard lock(mutex);
        ended.push_back(static_cast<Call*>(tag));
      }
      wake();
    }
  }

  std::vector<Call*> take() {
    const std::lock_guard lock(mutex);
    return std::exchange(ended, {});
  }

  std::list<Call> calls;  // the forwarder's
  std::mutex mutex;
  std::vector<Call*> ended;  // under mutex
  grpc::CompletionQueue queue;
  std::thread thread;
};

GrpcCalls::GrpcCalls(std::function<void()> wake) : wake_(std::move(wake)) {}

GrpcCalls::~GrpcCalls() = default;

Result<std::shared_ptr<GrpcChannel>> GrpcCalls::open(const GrpcPeer& peer) {
  if (!impl_) {
    silence_library();
    impl_ = std::make_unique<Impl>(wake_);
  }
  TELEMETRYD_ASSIGN(const auto pem, pem_files_.load(peer.tls ? peer.pem_files : PemPaths{}));
  return std::make_shared<GrpcChannel>(
      grpc::CreateCustomChannel(
          "dns:///" + peer.address, credentials_of(peer, *pem), arguments_of(peer)),
      pem->expires_s);
}

void GrpcCalls::start(std::shared_ptr<GrpcChannel> channel,
                      const GrpcCall& call,
                      std::function<void(const GrpcAnswer&)> done) {
  TELEMETRYD_CHECK(impl_ != nullptr);
  TELEMETRYD_CHECK(impl_->calls.size() < kCallsMax);
  Call& made = impl_->calls.emplace_back();
  made.channel = std::move(channel);
  made.done = std::move(done);
  made.context.set_deadline(std::chrono::system_clock::now() + call.total);
  if (!call.bearer.empty()) {
    std::string authorization = "Bearer ";
    authorization.reserve(authorization.size() + call.bearer.size());
    authorization.append(call.bearer);
    made.context.AddMetadata("authorization", authorization);
    wipe(authorization);
  }
  made.reader = made.channel->stub().PrepareUnaryCall(
      &made.context, call.method, buffer_of(call.message), &impl_->queue);
  made.reader->StartCall();
  made.reader->Finish(&made.response, &made.status, &made);
}

void GrpcCalls::serve() {
  if (!impl_) return;
  for (Call* ended : impl_->take()) {
    const auto at =
        std::ranges::find_if(impl_->calls, [&](const Call& call) { return &call == ended; });
    TELEMETRYD_CHECK(at != impl_->calls.end());
    // Out of the list first: `done` may start another.
    std::list<Call> call;
    call.splice(call.begin(), impl_->calls, at);
    ended->done(ended->answer());
  }
}

}  // namespace telemetryd::forward
