#include "gateway/grpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "gateway/grpc_call.h"
#include "gateway/health.h"
#include "gateway/session.h"
#include "gateway/startup.h"
#include "telemetry/v1/ingest.grpc.pb.h"

namespace telemetryd::gateway {
namespace {

using telemetry::v1::IngestService;

constexpr int kStreamsMax = Hub::kCallsPerConnectionMax;
constexpr int kHeaderBytesMax = 16 << 10;
constexpr int kPingIntervalMinMs = 10'000;
constexpr int kPingStrikesMax = 2;
constexpr int kHandshakeMs = 10'000;
constexpr int kConnectionIdleMs = 300'000;
constexpr int kKeepaliveMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr int kThreadsMax = 8;
// What may come before it is asked for, of a stream; a fast sender does not make it grow.
constexpr int kStreamWindowBytes = 64 << 10;

// Calls of one server at a time: what its connections may have open, and as many that are on their
// way out.
constexpr std::size_t kCallsMax = 8192;

constexpr std::string_view kPublish = "/telemetry.v1.IngestService/Publish";
constexpr std::string_view kCheck = "/grpc.health.v1.Health/Check";
constexpr std::string_view kWatch = "/grpc.health.v1.Health/Watch";

using Scope = std::shared_ptr<CallScope>;

bool token_brought(const CallScope& scope, const grpc::CallbackServerContext& context) {
  if (scope.token.empty()) return true;
  const auto [begin, end] = context.client_metadata().equal_range("authorization");
  if (begin == end || std::next(begin) != end) return false;
  return token_matches({begin->second.data(), begin->second.size()}, scope.token);
}

std::optional<Status> too_many(const CallScope& scope) {
  if (scope.calls.total() < kCallsMax) return std::nullopt;
  return exhausted("too many calls at a time");
}

Reactor* begin_publish(const Scope& scope,
                       grpc::CallbackServerContext& context,
                       Session::Kind kind) {
  if (const auto status = too_many(*scope)) return new_refused_call(scope, context, *status);
  if (!scope->hub.enabled()) {
    return new_refused_call(scope,
                            context,
                            {.code = StatusCode::kPermissionDenied,
                             .text = "this machine takes no events over gRPC: [gateway] enabled "
                                     "is false in telemetryd.toml",
                             .retry_after = {}});
  }
  if (!token_brought(*scope, context)) {
    return new_refused_call(scope,
                            context,
                            {.code = StatusCode::kUnauthenticated,
                             .text = "the bearer token is missing or wrong",
                             .retry_after = {}});
  }
  return new_call(
      scope,
      context,
      std::make_shared<Session>(scope->hub, scope->uid, peer_name(*scope, context), kind));
}

Reactor* begin_health(const Scope& scope,
                      grpc::CallbackServerContext& context,
                      HealthCall::Kind kind) {
  if (const auto status = too_many(*scope)) return new_refused_call(scope, context, *status);
  return new_call(scope,
                  context,
                  std::make_shared<HealthCall>(scope->hub,
                                               scope->uid,
                                               peer_name(*scope, context),
                                               kind,
                                               token_brought(*scope, context)));
}

// PublishStream is raw, and Publish is left to the generic service: there a message is read when
// the session says so and not before.
using RawService = IngestService::WithGenericMethod_Publish<
    IngestService::WithRawCallbackMethod_PublishStream<IngestService::Service>>;

class StreamService final : public RawService {
 public:
  explicit StreamService(Scope scope) : scope_(std::move(scope)) {}

  Reactor* PublishStream(grpc::CallbackServerContext* context) override {
    return begin_publish(scope_, *context, Session::Kind::kPublishStream);
  }

 private:
  const Scope scope_;
};

class OtherMethods final : public grpc::CallbackGenericService {
 public:
  explicit OtherMethods(Scope scope) : scope_(std::move(scope)) {}

  Reactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    const std::string& method = context->method();
    if (method == kPublish) return begin_publish(scope_, *context, Session::Kind::kPublish);
    if (method == kCheck) return begin_health(scope_, *context, HealthCall::Kind::kCheck);
    if (method == kWatch) return begin_health(scope_, *context, HealthCall::Kind::kWatch);
    return new_refused_call(
        scope_,
        *context,
        {.code = StatusCode::kUnimplemented, .text = "there is no such method", .retry_after = {}});
  }

 private:
  const Scope scope_;
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
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kStreamWindowBytes);
  // A small message may unpack to a huge one before anybody can look at its size.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  // Reflection is the one synchronous service; one thread waits for it.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
}

class Server final : public GrpcServer {
 public:
  Server(loop::Loop& loop, Hub& hub, Options options)
      : scope_(
            std::make_shared<CallScope>(loop, hub, options.uid, std::move(options.remote.token))),
        streams_(scope_),
        others_(scope_) {
    grpc::ServerBuilder builder;
    set_limits(builder, options.message_bytes_max);
    quota_.Resize(GrpcServer::kMemoryMax).SetMaxThreads(kThreadsMax);
    builder.SetResourceQuota(quota_);
    builder.RegisterService(&streams_);
    builder.RegisterCallbackGenericService(&others_);
    acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        credentials_of(options.remote.tls));
    server_ = builder.BuildAndStart();
  }

  bool started() const { return server_ != nullptr; }

  void take(UniqueFd connection) override {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
    parameters.fd = connection.release();
    acceptor_->HandleNewConnection(&parameters);
  }

  std::size_t calls() const override { return scope_->calls.total(); }

  void limit_memory(std::size_t bytes) override { quota_.Resize(bytes); }

  void shutdown(std::chrono::system_clock::time_point deadline) override {
    server_->Shutdown(deadline);
  }

 private:
  const Scope scope_;
  StreamService streams_;
  OtherMethods others_;
  grpc::ResourceQuota quota_{"telemetryd-gateway"};
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
