#include "salvage/resubmit.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

#include <protozero/pbf_writer.hpp>

#include "base/io.h"
#include "event/wire.h"

namespace telemetryd::salvage {
namespace {

constexpr std::uint32_t kAnswerBytesMax = 64u << 10;
constexpr std::uint32_t kNobody = 0xFFFFFFFFu;  // a peer on another machine

// Fields of proto/telemetry/v1/frame.proto.
constexpr std::uint32_t kHelloInstance = 1;
constexpr std::uint32_t kHelloContext = 2;
constexpr std::uint32_t kHelloSession = 3;
constexpr std::uint32_t kHelloFirstFrame = 4;
constexpr std::uint32_t kHelloConsent = 6;
constexpr std::uint32_t kHelloConsentRule = 7;
constexpr std::uint64_t kConsentOn = 1;
constexpr std::uint32_t kWelcomeHighWater = 3;

std::string hello_of(const std::string& context, const Bytes16& instance) {
  std::array<std::uint8_t, frame::kHelloPrefixBytes> prefix{};
  frame::encode_hello_prefix(prefix.data());
  std::string hello(as_text(prefix));
  const std::string name(as_text(instance));
  protozero::pbf_writer writer(hello);
  writer.add_bytes(kHelloInstance, name);
  writer.add_bytes(kHelloContext, context);
  writer.add_bytes(kHelloSession, name);
  writer.add_uint64(kHelloFirstFrame, 1);
  // They were accepted with consent; whether it still stands is telemetryd's to say.
  writer.add_uint64(kHelloConsent, kConsentOn);
  writer.add_bytes(kHelloConsentRule, "salvaged");
  return hello;
}

std::uint64_t high_water_in(std::string_view welcome) {
  if (welcome.size() < frame::kWelcomePrefixBytes) return 0;
  event::Cursor cursor(welcome.substr(frame::kWelcomePrefixBytes));
  std::uint32_t tag = 0;
  std::uint64_t number = 0;
  while (!cursor.at_end() && cursor.tag(tag)) {
    const bool wanted = tag == event::tag_of(kWelcomeHighWater, event::kVarint);
    if (!(wanted ? cursor.varint(number) : cursor.skip(tag))) return 0;
  }
  return number;
}

// The effective uid for as long as it lives.
class Acting {
 public:
  explicit Acting(std::uint32_t uid)
      : changed_(::geteuid() != uid), done_(!changed_ || ::seteuid(uid) == 0) {}

  ~Acting() {
    // Only root leaves itself, and it can always come back.
    if (changed_ && done_) (void)!::seteuid(0);
  }

  Acting(const Acting&) = delete;
  Acting& operator=(const Acting&) = delete;

  bool done() const { return done_; }

 private:
  bool changed_;
  bool done_;
};

Result<UniqueFd> connect_as(const std::filesystem::path& path, std::uint32_t uid) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.native().size() >= sizeof address.sun_path) {
    return fail(ErrorCode::kInvalidArgument, path.native() + ": the path is too long for a socket");
  }
  std::ranges::copy(path.native(), address.sun_path);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail(error_from_errno(errno, "making a socket"));
  const timeval limit{.tv_sec = Resubmitter::kAnswerMax.count(), .tv_usec = 0};
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  const Acting user(uid);
  if (!user.done()) return fail(error_from_errno(errno, "acting as uid " + std::to_string(uid)));
  const auto* const to = reinterpret_cast<const sockaddr*>(&address);
  if (::connect(socket.get(), to, sizeof address) == 0) return socket;
  return fail(ErrorCode::kUnavailable,
              "telemetryd does not take events on " + path.native() + ": " +
                  error_from_errno(errno, "connecting").message() +
                  "; start telemetryd, name its socket with --socket, or use --output FILE");
}

}  // namespace

bool Resubmitter::may_send_for(std::uint32_t uid) {
  return uid != kNobody && (::geteuid() == 0 || ::geteuid() == uid);
}

Result<void> Resubmitter::write(frame::Type type, std::uint8_t flags, std::string_view payload) {
  std::array<std::uint8_t, frame::kHeaderBytes> header{};
  frame::encode_header({static_cast<std::uint32_t>(payload.size()), type, flags}, header.data());
  std::string bytes(as_text(header));
  bytes += payload;
  for (std::string_view rest = bytes; !rest.empty();) {
    const ssize_t sent = ::send(socket_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return fail(ErrorCode::kUnavailable, "telemetryd closed the connection");
    rest.remove_prefix(static_cast<std::size_t>(sent));
  }
  return {};
}

Result<Resubmitter::Message> Resubmitter::read() {
  const auto read_all = [this](std::string& bytes) {
    std::size_t have = 0;
    while (have < bytes.size()) {
      const ssize_t got = ::recv(socket_.get(), bytes.data() + have, bytes.size() - have, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      have += static_cast<std::size_t>(got);
    }
    return true;
  };
  const Error closed(ErrorCode::kUnavailable,
                     "telemetryd closed the connection or did not answer; salvage again to go on");
  std::string header(frame::kHeaderBytes, '\0');
  if (!read_all(header)) return fail(closed);
  const frame::Header head = frame::decode_header(as_bytes(header).data());
  if (head.length > kAnswerBytesMax) {
    return fail(ErrorCode::kUnavailable, "what answers on the socket is no telemetryd");
  }
  Message message{head.type, std::string(head.length, '\0')};
  if (!read_all(message.payload)) return fail(closed);
  return message;
}

Result<Resubmitter> Resubmitter::connect(const std::filesystem::path& socket,
                                         std::uint32_t uid,
                                         const std::string& context,
                                         const Bytes16& instance) {
  if (!may_send_for(uid)) {
    return fail(ErrorCode::kPermissionDenied, "only root may send the events of other users");
  }
  TELEMETRYD_ASSIGN(UniqueFd connected, connect_as(socket, uid));
  Resubmitter resubmitter(std::move(connected));
  TELEMETRYD_TRY(resubmitter.write(frame::Type::kHello, 0, hello_of(context, instance)));
  for (;;) {
    TELEMETRYD_ASSIGN(const Message message, resubmitter.read());
    if (message.type == frame::Type::kClosing) {
      return fail(
          ErrorCode::kUnavailable,
          "telemetryd refuses: " +
              message.payload.substr(std::min(message.payload.size(), frame::kClosingPrefixBytes)));
    }
    if (message.type != frame::Type::kWelcome) continue;
    resubmitter.high_water_ = high_water_in(message.payload);
    return resubmitter;
  }
}

Result<Resubmitter::Message> Resubmitter::answer_to(std::uint64_t number) {
  for (;;) {
    TELEMETRYD_ASSIGN(Message message, read());
    const bool answer = message.type == frame::Type::kAck || message.type == frame::Type::kRefuse;
    if (message.type == frame::Type::kClosing) {
      return fail(ErrorCode::kUnavailable, "telemetryd is closing; salvage again to go on");
    }
    if (answer && message.payload.size() >= frame::kAckBytes &&
        frame::get_u64(as_bytes(message.payload).data()) == number) {
      return message;
    }
  }
}

Result<void> Resubmitter::send(const Frame& frame, Resubmitted& counts) {
  std::array<std::uint8_t, frame::kEventsPrefixBytes> prefix{};
  frame::encode_events_prefix({frame.number,
                               frame.count,
                               static_cast<std::uint8_t>(frame.persistence_class),
                               static_cast<std::uint8_t>(frame.urgency)},
                              prefix.data());
  const std::string payload = std::string(as_text(prefix)) + frame.batch;
  const auto give_up = std::chrono::steady_clock::now() + kRefusedMax;
  for (;;) {
    TELEMETRYD_TRY(write(frame::Type::kEvents, frame::kFlagCommitNow, payload));
    TELEMETRYD_ASSIGN(const Message answer, answer_to(frame.number));
    if (answer.type == frame::Type::kAck) {
      (frame.number <= high_water_ ? counts.duplicates : counts.events) += frame.count;
      return {};
    }
    if (answer.payload.size() < frame::kRefusePrefixBytes) {
      return fail(ErrorCode::kUnavailable, "what answers on the socket is no telemetryd");
    }
    const frame::Refuse refuse = frame::decode_refuse_prefix(as_bytes(answer.payload).data());
    counts.refusal = answer.payload.substr(frame::kRefusePrefixBytes);
    if (!refuse.retryable) {
      counts.refused += frame.count;
      return {};
    }
    if (std::chrono::steady_clock::now() >= give_up) {
      return fail(ErrorCode::kUnavailable,
                  "telemetryd takes nothing now: " + counts.refusal + "; salvage again to go on");
    }
    std::this_thread::sleep_for(
        std::chrono::milliseconds(std::clamp<std::uint32_t>(refuse.retry_after_ms, 10, 5000)));
  }
}

}  // namespace telemetryd::salvage
