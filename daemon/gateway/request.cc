#include "gateway/request.h"

#include <algorithm>

#include "event/event.h"
#include "event/fields.h"
#include "frame/frame.h"

namespace telemetryd::gateway {
namespace {

using event::Cursor;
using event::tag_of;

// telemetry/v1/ingest.proto, PublishRequest.
constexpr std::uint32_t kInstance = tag_of(2, event::kBytes);
constexpr std::uint32_t kNumber = tag_of(3, event::kVarint);
constexpr std::uint32_t kOldestNumber = tag_of(4, event::kVarint);
constexpr std::uint32_t kContext = tag_of(5, event::kBytes);
constexpr std::uint32_t kRequestFieldMax = 5;
// telemetry/v1/event.proto, Context.
constexpr std::uint32_t kApp = tag_of(1, event::kBytes);
constexpr std::uint32_t kMachineId = 7;

constexpr std::size_t kFrameFixedBytes = frame::kHeaderBytes + frame::kEventsPrefixBytes;

const char* const kMalformed = "the request is not a PublishRequest: malformed protobuf";
const char* const kWrongType =
    "the request is not a PublishRequest: a field has the wrong wire type";

std::unexpected<Status> fail_invalid(std::string text) {
  return std::unexpected(invalid(std::move(text)));
}

std::uint8_t* bytes_of(std::string& text) {
  return reinterpret_cast<std::uint8_t*>(text.data());
}

// Reads one request; what it appends to the frame is whole events only.
class Reader {
 public:
  explicit Reader(std::string_view message) : cursor_(message) {
    request_.frame.reserve(kFrameFixedBytes + message.size());
    request_.frame.resize(kFrameFixedBytes);
  }

  std::expected<Request, Status> read() {
    while (!cursor_.at_end()) {
      if (auto problem = read_field()) return std::unexpected(std::move(*problem));
    }
    if (request_.context) {
      if (auto problem = check_context()) return std::unexpected(std::move(*problem));
    }
    if (request_.oldest_number > request_.number) {
      return fail_invalid("number " + std::to_string(request_.number) +
                          " is below the request's own oldest_number");
    }
    finish_frame();
    return std::move(request_);
  }

 private:
  std::optional<Status> read_field() {
    const char* const begin = cursor_.position();
    std::uint32_t tag = 0;
    if (!cursor_.tag(tag)) return invalid(kMalformed);
    std::string_view bytes;
    switch (tag) {
      case event::tag::kBatchEvents:
        if (!cursor_.bytes(bytes)) return invalid(kMalformed);
        return take_event(begin, bytes);
      case kInstance:
        if (!cursor_.bytes(bytes)) return invalid(kMalformed);
        return take_instance(bytes);
      case kNumber: return take_number(request_.number);
      case kOldestNumber: return take_number(request_.oldest_number);
      case kContext:
        if (!cursor_.bytes(bytes)) return invalid(kMalformed);
        return take_context(bytes);
      default:
        if (tag >> 3 <= kRequestFieldMax) return invalid(kWrongType);
        if (!cursor_.skip(tag)) return invalid(kMalformed);
        return std::nullopt;
    }
  }

  // Rows of the store are cut at the one byte 0A, so a longer spelling of it is not passed on.
  std::optional<Status> take_event(const char* begin, std::string_view event) {
    if (static_cast<std::uint8_t>(*begin) != event::tag::kBatchEvents) {
      return invalid("the tag of an event is spelled in more than one byte");
    }
    ++count_;
    if (count_ == 1) first_event_ = event;
    request_.frame.append(begin, cursor_.position());
    return std::nullopt;
  }

  std::optional<Status> take_instance(std::string_view bytes) {
    request_.instance.reset();  // of a repeated field the last one counts
    if (bytes.empty()) return std::nullopt;
    Bytes16 instance{};
    if (bytes.size() != instance.size()) {
      return invalid("instance is " + std::to_string(bytes.size()) + " bytes and must be 16");
    }
    std::ranges::copy(as_bytes(bytes), instance.begin());
    if (instance == Bytes16{}) return invalid("instance is all zeros; it must be 16 random bytes");
    request_.instance = instance;
    return std::nullopt;
  }

  std::optional<Status> take_number(std::uint64_t& number) {
    if (!cursor_.varint(number)) return invalid(kMalformed);
    return std::nullopt;
  }

  // Two occurrences of a message field are merged, which concatenation does; but each has to be a
  // message alone, not only what they make together.
  std::optional<Status> take_context(std::string_view bytes) {
    if (const char* rule = event::check_strings(bytes, kMachineId)) {
      return invalid(std::string("context: ") + rule);
    }
    std::string& context = request_.context ? *request_.context : request_.context.emplace();
    if (context.size() + bytes.size() > kContextBytesMax) {
      return invalid("context is larger than " + std::to_string(kContextBytesMax) + " bytes");
    }
    context += bytes;
    return std::nullopt;
  }

  std::optional<Status> check_context() const {
    Cursor cursor(*request_.context);
    std::string_view app;
    while (!cursor.at_end()) {
      std::uint32_t tag = 0;
      if (!cursor.tag(tag)) return invalid(kMalformed);
      if (!(tag == kApp ? cursor.bytes(app) : cursor.skip(tag))) return invalid(kMalformed);
    }
    if (app.empty()) return invalid("context.app is missing");
    if (!frame::app_name_valid(app.data(), app.size())) {
      return invalid("context.app must be 1 to 64 of a-z 0-9 _ -");
    }
    // telemetryd would close the connection for it, which looks as if it were worth another try.
    if (event::machine_id_of(*request_.context).size() > kMachineIdBytesMax) {
      return invalid("context.machine_id is longer than " + std::to_string(kMachineIdBytesMax) +
                     " bytes");
    }
    return std::nullopt;
  }

  void finish_frame() {
    const std::size_t length = request_.frame.size() - frame::kHeaderBytes;
    // Class and urgency of the frame are the first event's; an event that disagrees, or cannot be
    // read, is the daemon's to refuse. A value that does not fit is one that it does not know.
    event::EventFacts facts;
    static_cast<void>(event::check_event(first_event_, facts));
    frame::encode_header(
        {.length = static_cast<std::uint32_t>(length), .type = frame::Type::kEvents, .flags = 0},
        bytes_of(request_.frame));
    const auto in_a_byte = [](std::uint64_t value) {
      return static_cast<std::uint8_t>(std::min<std::uint64_t>(value, 255));
    };
    frame::encode_events_prefix({.number = request_.number,
                                 .count = count_,
                                 .persistence_class = in_a_byte(facts.persistence_class),
                                 .urgency = in_a_byte(facts.urgency)},
                                bytes_of(request_.frame) + frame::kHeaderBytes);
  }

  Cursor cursor_;
  Request request_;
  std::string_view first_event_;
  std::uint32_t count_ = 0;
};

}  // namespace

std::expected<Request, Status> convert(std::string_view message) {
  return Reader(message).read();
}

std::optional<Status> check_publish(const Request& request) {
  if (!request.context) return invalid("context is missing; it names the app");
  if (request.instance && request.number == 0) {
    return invalid("number is 0; the numbers of an instance start at 1");
  }
  if (!request.instance && request.number != 0) {
    return invalid("number without instance; send both, or neither");
  }
  return std::nullopt;
}

std::optional<Status> check_first_of_stream(const Request& request) {
  if (!request.instance) return invalid("the first request of a stream must carry an instance");
  return check_publish(request);
}

void set_number(std::string& frame, std::uint64_t number) {
  frame::put_u64(bytes_of(frame) + frame::kHeaderBytes, number);
}

void set_commit_now(std::string& frame) {
  auto header = frame::decode_header(bytes_of(frame));
  header.flags = header.flags | frame::kFlagCommitNow;
  frame::encode_header(header, bytes_of(frame));
}

}  // namespace telemetryd::gateway
