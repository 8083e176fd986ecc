#include "gateway/grpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <utility>

#include "base/log.h"
#include "gateway/grpc_call.h"
#include "telemetry/v1/ingest.grpc.pb.h"

namespace telemetryd::gateway {
namespace {

using telemetry::v1::IngestService;

constexpr int kStreamsMax = 64;
constexpr int kHeaderBytesMax = 16 << 10;
constexpr int kPingIntervalMinMs = 10'000;
constexpr int kPingStrikesMax = 2;
constexpr int kHandshakeMs = 10'000;
constexpr int kConnectionIdleMs = 300'000;
constexpr int kKeepaliveMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr std::size_t kMemoryMax = 64u << 20;
constexpr int kThreadsMax = 8;

constexpr const char* kPublish = "/telemetry.v1.IngestService/Publish";

// PublishStream is raw, and Publish is left to the generic service: there a message is read when
// the session says so and not before.
using RawService = IngestService::WithGenericMethod_Publish<
    IngestService::WithRawCallbackMethod_PublishStream<IngestService::Service>>;

class StreamService final : public RawService {
 public:
  explicit StreamService(std::shared_ptr<CallScope> scope) : scope_(std::move(scope)) {}

  Reactor* PublishStream(grpc::CallbackServerContext* context) override {
    return new_publish_call(scope_, *context, Session::Kind::kPublishStream);
  }

 private:
  const std::shared_ptr<CallScope> scope_;
};

class OtherMethods final : public grpc::CallbackGenericService {
 public:
  explicit OtherMethods(std::shared_ptr<CallScope> scope) : scope_(std::move(scope)) {}

  Reactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    if (context->method() == kPublish) {
      return new_publish_call(scope_, *context, Session::Kind::kPublish);
    }
    return new_refused_call(
        scope_,
        {.code = StatusCode::kUnimplemented, .text = "there is no such method", .retry_after = {}});
  }

 private:
  const std::shared_ptr<CallScope> scope_;
};

std::shared_ptr<grpc::ServerCredentials> credentials_of(const Tls& tls) {
  if (tls.certificate.empty()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions options(
      tls.client_ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                            : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = tls.client_ca;
  options.pem_key_cert_pairs.push_back({tls.key, tls.certificate});
  return grpc::SslServerCredentials(options);
}

void set_limits(grpc::ServerBuilder& builder, std::uint32_t message_bytes_max) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(message_bytes_max));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsMax);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kHeaderBytesMax);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kPingIntervalMinMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, kPingStrikesMax);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kConnectionIdleMs);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
  // Reflection is the one synchronous service; one thread waits for it.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
  grpc::ResourceQuota quota("telemetryd-gateway");
  quota.Resize(kMemoryMax).SetMaxThreads(kThreadsMax);
  builder.SetResourceQuota(quota);
}

class Server final : public GrpcServer {
 public:
  Server(loop::Loop& loop, Hub& hub, Options options)
      : scope_(std::make_shared<CallScope>(loop, hub, options.uid, std::move(options.token))),
        streams_(scope_),
        others_(scope_) {
    grpc::ServerBuilder builder;
    set_limits(builder, options.message_bytes_max);
    builder.RegisterService(&streams_);
    builder.RegisterCallbackGenericService(&others_);
    acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        credentials_of(options.tls));
    server_ = builder.BuildAndStart();
  }

  bool started() const { return server_ != nullptr; }

  void take(UniqueFd connection) override {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
    parameters.fd = connection.release();
    acceptor_->HandleNewConnection(&parameters);
  }

  std::size_t calls() const override { return scope_->calls; }

  void shutdown(std::chrono::milliseconds deadline) override {
    server_->Shutdown(std::chrono::system_clock::now() + deadline);
  }

 private:
  const std::shared_ptr<CallScope> scope_;
  StreamService streams_;
  OtherMethods others_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace

Result<std::unique_ptr<GrpcServer>> GrpcServer::start(loop::Loop& loop, Hub& hub, Options options) {
  static const bool with_reflection = [] {
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
  static_cast<void>(with_reflection);
  auto server = std::make_unique<Server>(loop, hub, std::move(options));
  if (!server->started()) return fail(ErrorCode::kInternal, "the gRPC server does not start");
  return server;
}

}  // namespace telemetryd::gateway
