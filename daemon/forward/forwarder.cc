#include "forward/forwarder.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/socket.h>
#include <utility>

#include "base/io.h"
#include "base/log.h"
#include "forward/version.h"

namespace telemetryd::forward {
namespace {

constexpr std::size_t kPrefixBytes = 4;
constexpr std::uint32_t kProtocol = 1;

std::size_t length_at(std::string_view bytes) {
  std::size_t length = 0;
  for (unsigned i = 0; i < kPrefixBytes; ++i) {
    length |= static_cast<std::size_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return length;
}

}  // namespace

Forwarder::Forwarder(UniqueFd link, const Clock& clock, Load load)
    : link_(std::move(link)), clock_(clock), load_(std::move(load)), world_(clock), grpc_([this] {
        http_.wake();
      }) {}

Forwarder::~Forwarder() = default;

Result<void> Forwarder::run() {
  if (::fcntl(link_.get(), F_SETFL, O_NONBLOCK) != 0) {
    return fail(error_from_errno(errno, "the link to telemetryd"));
  }
  reload();
  v1::FromForwarder hello;
  hello.mutable_hello()->set_protocol(kProtocol);
  hello.mutable_hello()->set_version(std::string(kVersion));
  answer(hello);
  for (;;) {
    tell_news();
    TELEMETRYD_TRY(write_link());
    const auto others = world_.descriptors();
    const Http::Ready ready = http_.wait(link_.get(), !output_.empty(), others, until_news());
    world_.serve();
    grpc_.serve();
    if (!ready.readable) continue;
    TELEMETRYD_ASSIGN(const bool more, read_link());
    if (!more) return {};
    TELEMETRYD_TRY(serve_input());
  }
}

// In this order: what a route change lets try again may have become dear.
void Forwarder::tell_news() {
  if (auto conditions = world_.news()) {
    v1::FromForwarder message;
    *message.mutable_conditions() = std::move(*conditions);
    answer(message);
  }
  if (world_.routes_changed()) {
    v1::FromForwarder message;
    message.mutable_route_change();
    answer(message);
  }
}

std::chrono::milliseconds Forwarder::until_news() const {
  const auto deadline = world_.deadline();
  if (!deadline) return Http::kForever;
  return std::chrono::milliseconds(std::max<BootMs>(0, *deadline - clock_.boot_ms()));
}

void Forwarder::reload() {
  config::Loaded loaded = load_();
  config_problem_.clear();
  if (!loaded.config) {
    config_problem_ = "the configuration cannot be used";
    if (!loaded.problems.empty()) {
      config_problem_ += ": " + config::to_string(loaded.problems.front());
    }
    log::error("config_rejected", {{"cause", config_problem_}});
    return;
  }
  const SinkContext context{http_, grpc_, clock_, loaded.config->forward.request_timeout};
  std::map<std::string, std::shared_ptr<Sink>> sinks;
  for (const config::Destination& destination : loaded.config->destinations) {
    if (auto sink = make_sink(destination, context)) sinks[destination.name] = std::move(sink);
  }
  world_.by_proxy(std::ranges::any_of(loaded.config->destinations, [](const auto& destination) {
    return !destination.proxy.empty();
  }));
  // Sinks with a request under way live on in its callback.
  sinks_ = std::move(sinks);
}

Result<bool> Forwarder::read_link() {
  for (;;) {
    const std::size_t old_size = input_.size();
    input_.resize(old_size + (64u << 10));
    const ssize_t got = ::recv(link_.get(), input_.data() + old_size, 64u << 10, 0);
    input_.resize(old_size + (got > 0 ? static_cast<std::size_t>(got) : 0));
    if (got == 0) return false;
    if (got > 0) {
      // Whole messages are served before more is read, so the buffer stays bounded.
      if (input_.size() < kPrefixBytes) continue;
      const std::size_t length = length_at(input_);
      if (length > kBodyBytesMax || input_.size() >= kPrefixBytes + length) return true;
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return true;
    if (errno == ECONNRESET) return false;
    return fail(error_from_errno(errno, "the link to telemetryd"));
  }
}

Result<void> Forwarder::write_link() {
  while (!output_.empty()) {
    const ssize_t sent =
        ::send(link_.get(), output_.data(), output_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return {};
    // A peer that is gone shows as end of file on the next read.
    if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
      output_.clear();
    else if (sent < 0)
      return fail(error_from_errno(errno, "the link to telemetryd"));
    else
      output_.erase(0, static_cast<std::size_t>(sent));
  }
  return {};
}

Result<void> Forwarder::serve_input() {
  std::size_t start = 0;
  while (input_.size() - start >= kPrefixBytes) {
    const std::string_view waiting = std::string_view(input_).substr(start);
    const std::size_t length = length_at(waiting);
    if (length > kBodyBytesMax) {
      return fail(ErrorCode::kInvalidArgument,
                  "telemetryd sent a message of " + std::to_string(length) + " bytes");
    }
    if (waiting.size() < kPrefixBytes + length) break;
    v1::ToForwarder message;
    if (!message.ParseFromArray(waiting.data() + kPrefixBytes, static_cast<int>(length))) {
      return fail(ErrorCode::kInvalidArgument, "telemetryd sent a malformed message");
    }
    start += kPrefixBytes + length;
    TELEMETRYD_TRY(serve(message));
  }
  input_.erase(0, start);
  return {};
}

Result<void> Forwarder::serve(const v1::ToForwarder& message) {
  switch (message.message_case()) {
    case v1::ToForwarder::kLease: serve_lease(message.lease()); break;
    case v1::ToForwarder::kProbe: serve_probe(message.probe()); break;
    case v1::ToForwarder::kReload: reload(); break;
    default: return fail(ErrorCode::kInvalidArgument, "telemetryd sent a message of no known kind");
  }
  if (output_.size() > kOutputBytesMax) {
    return fail(ErrorCode::kResourceExhausted, "telemetryd does not read its answers");
  }
  return {};
}

void Forwarder::serve_lease(const v1::Lease& lease) {
  const auto done = [this, id = lease.id()](v1::Outcome outcome) {
    outcome.set_lease_id(id);
    v1::FromForwarder message;
    *message.mutable_outcome() = std::move(outcome);
    answer(message);
  };
  std::string why;
  const auto sink = sink_of(lease.destination(), why);
  if (!sink) return done(hold(why));
  sink->begin(lease, done);
}

void Forwarder::serve_probe(const v1::Probe& probe) {
  const auto done = [this, id = probe.id()](const ProbeOutcome& outcome) {
    v1::FromForwarder message;
    v1::ProbeResult* result = message.mutable_probe_result();
    result->set_id(id);
    result->set_ok(outcome.ok);
    result->set_detail(printable(outcome.detail));
    answer(message);
  };
  std::string why;
  const auto sink = sink_of(probe.destination(), why);
  if (!sink) return done({false, why});
  sink->probe(done);
}

std::shared_ptr<Sink> Forwarder::sink_of(const std::string& destination, std::string& why) const {
  const auto found = sinks_.find(destination);
  if (config_problem_.empty() && found != sinks_.end()) return found->second;
  why = config_problem_.empty()
            ? "telemetryd-forward's configuration has no destination " + destination
            : config_problem_;
  return nullptr;
}

void Forwarder::answer(const v1::FromForwarder& message) {
  const std::size_t length = message.ByteSizeLong();
  for (unsigned shift = 0; shift < 32; shift += 8) {
    output_.push_back(static_cast<char>((length >> shift) & 0xff));
  }
  message.AppendToString(&output_);
}

}  // namespace telemetryd::forward
