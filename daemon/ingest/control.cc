#include "ingest/control.h"

#include <algorithm>
#include <array>
#include <limits>

#include "event/event.h"
#include "event/fields.h"
#include "event/wire.h"

namespace telemetryd::ingest {
namespace {

using event::Cursor;
using event::tag_of;
using event::WireType;

namespace hello {
constexpr std::uint32_t kInstance = tag_of(1, WireType::kBytes);
constexpr std::uint32_t kContext = tag_of(2, WireType::kBytes);
constexpr std::uint32_t kSessionId = tag_of(3, WireType::kBytes);
constexpr std::uint32_t kFirstFrame = tag_of(4, WireType::kVarint);
constexpr std::uint32_t kSaltScheme = tag_of(5, WireType::kBytes);
constexpr std::uint32_t kConsent = tag_of(6, WireType::kVarint);
constexpr std::uint32_t kConsentRule = tag_of(7, WireType::kBytes);
constexpr std::uint32_t kPeerUid = tag_of(8, WireType::kVarint);
constexpr std::uint32_t kFieldMax = 8;
}  // namespace hello

constexpr std::uint32_t kContextApp = tag_of(1, WireType::kBytes);

// In the order of ClientReport's field numbers.
constexpr std::array kReasons = {"queue_full", "too_large", "shutdown", "disabled", "invalid"};

std::unexpected<Error> malformed(const char* what) {
  return fail(ErrorCode::kInvalidArgument, what);
}

// An unknown word about consent counts as off.
consent::Mode mode_of(std::uint64_t word) {
  return word <= 3 ? static_cast<consent::Mode>(word) : consent::Mode::kOff;
}

Result<void> read_hello_field(Cursor& cursor, std::uint32_t tag, Hello& hello) {
  std::string_view bytes;
  std::uint64_t number = 0;
  switch (tag) {
    case hello::kInstance:
      if (!cursor.bytes(bytes) || bytes.size() != hello.instance.size()) {
        return malformed("HELLO: the instance is not 16 bytes");
      }
      std::ranges::copy(as_bytes(bytes), hello.instance.begin());
      return {};
    case hello::kContext:
      if (!cursor.bytes(bytes)) break;
      hello.context += bytes;  // a repeated message merges, and merging is concatenation
      return {};
    case hello::kSessionId:
      if (!cursor.bytes(bytes) || (!bytes.empty() && bytes.size() != 16)) {
        return malformed("HELLO: the session ID is not 16 bytes");
      }
      return {};
    case hello::kFirstFrame:
      if (!cursor.varint(number)) break;
      hello.first_frame = std::max<std::uint64_t>(number, 1);
      return {};
    case hello::kConsent:
      if (!cursor.varint(number)) break;
      hello.consent = mode_of(number);
      return {};
    case hello::kPeerUid:
      if (!cursor.varint(number)) break;
      if (number > std::numeric_limits<std::uint32_t>::max()) {
        return malformed("HELLO: peer_uid is no uid");
      }
      hello.peer_uid = static_cast<std::uint32_t>(number);
      return {};
    case hello::kSaltScheme:
    case hello::kConsentRule:
      if (!cursor.bytes(bytes)) break;
      if (!event::utf8_valid(bytes)) return malformed("HELLO: a string is not UTF-8");
      return {};
    default:
      if (tag >> 3 <= hello::kFieldMax) return malformed("HELLO: a field has the wrong wire type");
      if (cursor.skip(tag)) return {};
  }
  return malformed("HELLO: it is not a protobuf message");
}

// Local apps do not choose their machine.
std::string without_machine_id(std::string_view context) {
  std::string out;
  Cursor cursor(context);
  const char* kept = context.data();
  std::uint32_t tag = 0;
  while (!cursor.at_end()) {
    const char* field = cursor.position();
    if (!cursor.tag(tag) || !cursor.skip(tag)) break;
    if (tag != event::tag::kContextMachineId) continue;
    out.append(kept, field);
    kept = cursor.position();
  }
  return out.append(kept, context.data() + context.size());
}

Result<void> read_machine_id(Hello& hello) {
  if (hello.peer_uid != kForeignUid) {
    hello.context = without_machine_id(hello.context);
  } else if (event::machine_id_of(hello.context).size() > kMachineIdBytesMax) {
    return malformed("HELLO: context: machine_id is longer than 128 bytes");
  }
  return {};
}

Result<void> read_context(Hello& hello) {
  if (const char* rule = event::check_strings(hello.context, event::tag::kContextFieldMax)) {
    return fail(ErrorCode::kInvalidArgument, std::string("HELLO: context: ") + rule);
  }
  Cursor cursor(hello.context);
  std::string_view app;
  std::uint32_t tag = 0;
  while (!cursor.at_end() && cursor.tag(tag)) {
    if (!(tag == kContextApp ? cursor.bytes(app) : cursor.skip(tag))) break;
  }
  if (!frame::app_name_valid(app.data(), app.size())) {
    return malformed("HELLO: the app name is not 1 to 64 of a-z 0-9 _ -");
  }
  hello.app = app;
  return {};
}

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  out += static_cast<char>(value);
}

void put_number(std::string& out, std::uint32_t field, std::uint64_t value) {
  if (value == 0) return;
  put_varint(out, tag_of(field, WireType::kVarint));
  put_varint(out, value);
}

void put_text(std::string& out, std::uint32_t field, std::string_view text) {
  if (text.empty()) return;
  put_varint(out, tag_of(field, WireType::kBytes));
  put_varint(out, text.size());
  out += text;
}

std::string_view rule_of(const consent::Decision& decision) {
  return decision.rule == nullptr ? std::string_view() : std::string_view(decision.rule);
}

// Not in the middle of a character: the reader may check.
std::string_view bounded(std::string_view text) {
  if (text.size() <= frame::kTextBytesMax) return text;
  std::size_t size = frame::kTextBytesMax;
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;
  return text.substr(0, size);
}

// Header, a prefix of zeros to be filled in by the caller, text.
std::string new_frame(frame::Type type, std::size_t prefix_bytes, std::string_view text = {}) {
  std::string bytes(frame::kHeaderBytes + prefix_bytes, '\0');
  bytes += text;
  const auto length = static_cast<std::uint32_t>(prefix_bytes + text.size());
  frame::encode_header({.length = length, .type = type, .flags = 0},
                       reinterpret_cast<std::uint8_t*>(bytes.data()));
  return bytes;
}

std::uint8_t* prefix_of(std::string& frame_bytes) {
  return reinterpret_cast<std::uint8_t*>(frame_bytes.data()) + frame::kHeaderBytes;
}

}  // namespace

Result<Hello> parse_hello(std::string_view message) {
  Hello hello;
  Cursor cursor(message);
  while (!cursor.at_end()) {
    std::uint32_t tag = 0;
    if (!cursor.tag(tag)) return malformed("HELLO: it is not a protobuf message");
    TELEMETRYD_TRY(read_hello_field(cursor, tag, hello));
  }
  if (hello.instance == Bytes16{}) return malformed("HELLO: the instance is missing");
  TELEMETRYD_TRY(read_context(hello));
  TELEMETRYD_TRY(read_machine_id(hello));
  return hello;
}

Result<std::map<std::string, std::uint64_t>> parse_report(std::string_view message) {
  std::map<std::string, std::uint64_t> losses;
  Cursor cursor(message);
  while (!cursor.at_end()) {
    std::uint32_t tag = 0;
    if (!cursor.tag(tag)) return malformed("REPORT: it is not a protobuf message");
    const std::uint32_t field = tag >> 3;
    std::uint64_t value = 0;
    const bool known = field <= kReasons.size();
    if (known && (tag & 7) != WireType::kVarint) {
      return malformed("REPORT: a field has the wrong wire type");
    }
    if (!(known ? cursor.varint(value) : cursor.skip(tag))) {
      return malformed("REPORT: it is not a protobuf message");
    }
    if (known) losses[kReasons[field - 1]] = value;
  }
  return losses;
}

std::string welcome_frame(const Welcome& welcome) {
  std::string message;
  put_number(message, 1, static_cast<std::uint64_t>(welcome.decision.mode));
  put_text(message, 2, rule_of(welcome.decision));
  put_number(message, 3, welcome.high_water);
  put_number(message, 4, welcome.event_bytes_max);
  put_number(message, 5, welcome.frame_bytes_max);
  put_number(message, 6, frame::kFramesInFlightMax);
  put_text(message, 7, TELEMETRYD_VERSION);
  std::string bytes = new_frame(frame::Type::kWelcome, frame::kWelcomePrefixBytes, message);
  frame::put_u16(prefix_of(bytes), frame::kVersion);
  return bytes;
}

std::string ack_frame(std::uint64_t number) {
  std::string bytes = new_frame(frame::Type::kAck, frame::kAckBytes);
  frame::put_u64(prefix_of(bytes), number);
  return bytes;
}

std::string refuse_frame(const frame::Refuse& refuse, std::string_view text) {
  std::string bytes = new_frame(frame::Type::kRefuse, frame::kRefusePrefixBytes, bounded(text));
  frame::encode_refuse_prefix(refuse, prefix_of(bytes));
  return bytes;
}

std::string mode_frame(const consent::Decision& decision) {
  std::string bytes =
      new_frame(frame::Type::kMode, frame::kModePrefixBytes, bounded(rule_of(decision)));
  *prefix_of(bytes) = static_cast<std::uint8_t>(decision.mode);
  return bytes;
}

std::string closing_frame(frame::Code code, std::string_view text) {
  std::string bytes = new_frame(frame::Type::kClosing, frame::kClosingPrefixBytes, bounded(text));
  frame::put_u16(prefix_of(bytes), static_cast<std::uint16_t>(code));
  return bytes;
}

}  // namespace telemetryd::ingest
