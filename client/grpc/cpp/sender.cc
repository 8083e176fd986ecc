#include "sender.h"

#include <algorithm>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "objection.h"
#include "retry_info.pb.h"

namespace example {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using std::chrono::system_clock;

constexpr std::chrono::seconds kCallTimeout{30};
constexpr milliseconds kDelayMin{100};
constexpr milliseconds kDelayMax{10000};
constexpr char kRetryInfo[] = "type.googleapis.com/google.rpc.RetryInfo";

std::random_device& randomness() {
  static std::random_device device;
  return device;
}

std::string random_bytes(std::size_t count) {
  std::string bytes;
  while (bytes.size() < count) bytes.push_back(static_cast<char>(randomness()() & 0xff));
  return bytes;
}

// 16 bytes: 48 bits of milliseconds, then version, variant and randomness (RFC 9562).
std::string uuid7(system_clock::time_point now) {
  const auto ms = static_cast<std::uint64_t>(
      std::chrono::duration_cast<milliseconds>(now.time_since_epoch()).count());
  std::string id = random_bytes(16);
  for (unsigned i = 0; i < 6; ++i) id[i] = static_cast<char>(ms >> (40 - 8 * i) & 0xff);
  id[6] = static_cast<char>((id[6] & 0x0f) | 0x70);
  id[8] = static_cast<char>((id[8] & 0x3f) | 0x80);
  return id;
}

// The delay that a refusal names; nothing when it names none.
std::optional<milliseconds> retry_info(const grpc::Status& status) {
  ::telemetry::example::Status details;
  if (!details.ParseFromString(status.error_details())) return std::nullopt;
  for (const auto& detail : details.details()) {
    ::telemetry::example::RetryInfo info;
    if (detail.type_url() != kRetryInfo || !info.ParseFromString(detail.value())) continue;
    return std::chrono::seconds(info.retry_delay().seconds()) +
           milliseconds(info.retry_delay().nanos() / 1'000'000);
  }
  return std::nullopt;
}

bool retryable(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::ABORTED:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
    case grpc::StatusCode::CANCELLED:
    case grpc::StatusCode::UNKNOWN:
    case grpc::StatusCode::INTERNAL: return true;
    default: return false;
  }
}

}  // namespace

v1::Event new_event(const std::string& name) {
  const auto now = system_clock::now();
  v1::Event event;
  event.set_id(uuid7(now));
  event.set_name(name);
  event.set_time_unix_nano(static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now.time_since_epoch()).count()));
  return event;
}

Sender::Sender(const std::string& socket, const std::string& app, std::chrono::seconds patience)
    : instance_(random_bytes(16)), patience_(patience) {
  if (const auto rule = objection(app, socket)) {
    off_ = true;
    problem_ = *rule;
  }
  grpc::ChannelArguments arguments;
  // A channel that lost its gateway connects again at most this late.
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  stub_ = v1::IngestService::NewStub(
      grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments));
  context_.set_app(app);
  context_.set_language("c++");
  context_.set_sdk("grpc-example/1");
}

bool Sender::add(std::vector<v1::Event> events) {
  if (off_) return true;
  if (kept_.size() >= kRequestsKeptMax) return false;
  v1::PublishRequest& request = kept_.emplace_back();
  for (v1::Event& event : events) *request.add_events() = std::move(event);
  request.set_instance(instance_);
  request.set_number(++number_);
  *request.mutable_context() = context_;
  return true;
}

Sender::End Sender::flush() {
  if (off_) return End::kCollectionOff;
  progress();
  while (!kept_.empty()) {
    const v1::PublishRequest& request = oldest_first(kept_.front());
    grpc::ClientContext context;
    context.set_deadline(system_clock::now() + kCallTimeout);
    v1::PublishResponse answer;
    const grpc::Status status = stub_->Publish(&context, request, &answer);
    if (status.ok()) {
      settle(answer.acknowledged());
    } else if (status.error_code() == grpc::StatusCode::INVALID_ARGUMENT) {
      refused_.push_back({request.number(), "INVALID_ARGUMENT: " + status.error_message()});
      settle(request.number());
    } else {
      if (const Next next = wait_after(status); next != Next::kGoOn) return end_of(next);
      ++resent_;
    }
  }
  return End::kAcknowledged;
}

Sender::End Sender::flush_stream() {
  if (off_) return End::kCollectionOff;
  progress();
  while (!kept_.empty()) {
    Next next = Next::kGoOn;
    const grpc::Status status = stream_once(next);
    if (next == Next::kGoOn && !status.ok()) next = wait_after(status);
    if (next != Next::kGoOn) return end_of(next);
  }
  return End::kAcknowledged;
}

grpc::Status Sender::stream_once(Next& next) {
  grpc::ClientContext context;
  const std::unique_ptr<Stream> stream = stub_->PublishStream(&context);
  std::size_t sent = 0;  // of kept_, from its beginning
  v1::PublishResponse answer;
  bool ended = false;
  while (!kept_.empty() && next == Next::kGoOn) {
    ended = !fill(*stream, sent) || !stream->Read(&answer);
    if (ended) break;
    next = take(answer, sent);
  }
  resent_ += sent;
  if (!kept_.empty()) {
    // Who cancels a stream that has ended never hears why it did.
    if (!ended) context.TryCancel();
    while (stream->Read(&answer)) {
    }
    return stream->Finish();
  }
  stream->WritesDone();
  while (stream->Read(&answer)) {
  }
  // Everything is acknowledged: how the stream ends does not matter any more.
  stream->Finish();
  return grpc::Status::OK;
}

bool Sender::fill(Stream& stream, std::size_t& sent) {
  for (; sent < std::min(kept_.size(), kUnansweredMax); ++sent) {
    if (!stream.Write(oldest_first(kept_[sent]))) return false;
  }
  return true;
}

Sender::Next Sender::take(const v1::PublishResponse& answer, std::size_t& sent) {
  sent -= std::min(sent, settle(answer.acknowledged()));
  if (!answer.has_refused()) return Next::kGoOn;
  const v1::Refusal& refusal = answer.refused();
  if (refusal.code() == "COLLECTION_OFF") {
    problem_ = refusal.message();
    return Next::kCollectionOff;
  }
  if (!refusal.retryable()) {
    refused_.push_back({refusal.number(), refusal.code() + ": " + refusal.message()});
    return Next::kGoOn;
  }
  // Everything from that number on has to come again, which is all that is kept.
  resent_ += sent;
  sent = 0;
  return wait(std::max(kDelayMin, milliseconds(refusal.retry_after_ms())), refusal.message());
}

const v1::PublishRequest& Sender::oldest_first(v1::PublishRequest& request) {
  request.set_oldest_number(kept_.front().number());
  return request;
}

std::size_t Sender::settle(std::uint64_t acknowledged) {
  std::size_t settled = 0;
  for (; !kept_.empty() && kept_.front().number() <= acknowledged; ++settled) kept_.pop_front();
  if (settled > 0) progress();
  return settled;
}

void Sender::progress() {
  failures_ = 0;
  give_up_ = steady_clock::now() + patience_;
}

Sender::Next Sender::wait_after(const grpc::Status& status) {
  if (status.error_code() == grpc::StatusCode::PERMISSION_DENIED) {
    problem_ = status.error_message();
    return Next::kCollectionOff;
  }
  const auto named = retry_info(status);
  const bool full = status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED && named;
  if (!retryable(status.error_code()) && !full) {
    problem_ = status.error_message();
    return Next::kFailed;
  }
  const milliseconds most = std::min(kDelayMax, kDelayMin * (1 << std::min(failures_, 10)));
  ++failures_;
  const milliseconds backoff(
      std::uniform_int_distribution<milliseconds::rep>(0, most.count())(randomness()));
  return wait(named.value_or(backoff), status.error_message());
}

Sender::Next Sender::wait(milliseconds delay, const std::string& why) {
  if (steady_clock::now() > give_up_) {
    problem_ = "telemetryd took nothing for " + std::to_string(patience_.count()) + " s: " + why;
    return Next::kFailed;
  }
  std::this_thread::sleep_for(delay);
  return Next::kGoOn;
}

Sender::End Sender::end_of(Next next) {
  return next == Next::kCollectionOff ? End::kCollectionOff : End::kFailed;
}

}  // namespace example
