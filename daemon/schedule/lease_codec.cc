#include "schedule/lease_codec.h"

#include <exception>
#include <utility>

#include <protozero/pbf_reader.hpp>
#include <protozero/pbf_writer.hpp>

#include "event/event.h"

namespace telemetryd::schedule {
namespace {

using protozero::data_view;
using protozero::pbf_reader;
using protozero::pbf_wire_type;
using protozero::pbf_writer;

// Field and wire type are matched together: a known field of another wire type is skipped like an
// unknown one instead of being misread.
constexpr std::uint32_t varint(std::uint32_t field) {
  return protozero::tag_and_type(field, pbf_wire_type::varint);
}

constexpr std::uint32_t bytes(std::uint32_t field) {
  return protozero::tag_and_type(field, pbf_wire_type::length_delimited);
}

constexpr std::size_t kPrefixBytes = 4;

data_view view_of(std::string_view text) {
  return {text.data(), text.size()};
}

std::string with_length(std::string_view body) {
  std::string message;
  message.reserve(kPrefixBytes + body.size());
  for (unsigned shift = 0; shift < 32; shift += 8) {
    message.push_back(static_cast<char>((body.size() >> shift) & 0xff));
  }
  message.append(body);
  return message;
}

std::string bounded_text(pbf_reader& reader) {
  const data_view view = reader.get_view();
  return {view.data(), std::min(view.size(), kTextBytesMax)};
}

// Half of it would mean something else.
std::string memory_text(pbf_reader& reader) {
  const data_view view = reader.get_view();
  return view.size() <= kMemoryBytesMax ? std::string(view.data(), view.size()) : std::string();
}

store::Rejected read_rejected(pbf_reader reader) {
  store::Rejected rejected;
  while (reader.next()) {
    switch (reader.tag_and_type()) {
      case varint(1): rejected.seq = reader.get_uint64(); break;
      case varint(2): rejected.first_index = reader.get_uint32(); break;
      case varint(3): rejected.count = reader.get_uint32(); break;
      case bytes(4): rejected.reason = bounded_text(reader); break;
      default: reader.skip();
    }
  }
  return rejected;
}

Mute read_mute(pbf_reader reader) {
  Mute mute;
  while (reader.next()) {
    switch (reader.tag_and_type()) {
      case bytes(1): mute.app = bounded_text(reader); break;
      case varint(2): mute.duration_s = reader.get_uint64(); break;
      default: reader.skip();
    }
  }
  return mute;
}

// What a newer forwarder knows and we do not is "unspecified".
template <class Enum>
Enum read_enum(pbf_reader& reader, Enum last) {
  const std::uint32_t value = reader.get_uint32();
  return value <= static_cast<std::uint32_t>(last) ? static_cast<Enum>(value) : Enum{};
}

Conditions read_conditions(pbf_reader reader) {
  Conditions conditions;
  conditions.battery_percent = 0;
  while (reader.next()) {
    switch (reader.tag_and_type()) {
      case varint(1): conditions.network = read_enum(reader, Network::kOffline); break;
      case varint(2): conditions.power = read_enum(reader, Power::kBattery); break;
      case varint(3): conditions.battery_percent = reader.get_uint32(); break;
      default: reader.skip();
    }
  }
  return conditions;
}

Hello read_hello(pbf_reader reader) {
  Hello hello;
  while (reader.next()) {
    switch (reader.tag_and_type()) {
      case varint(1): hello.protocol = reader.get_uint32(); break;
      case bytes(2): hello.version = bounded_text(reader); break;
      default: reader.skip();
    }
  }
  return hello;
}

Result<FromForwarder> read_outcome(pbf_reader reader) {
  Outcome outcome;
  std::int32_t verdict = 0;
  while (reader.next()) {
    switch (reader.tag_and_type()) {
      case varint(1): outcome.lease_id = reader.get_uint64(); break;
      case varint(2): verdict = reader.get_enum(); break;
      case bytes(3):
        if (outcome.rejected.size() >= kRejectedMax) {
          return fail(ErrorCode::kInvalidArgument, "outcome: too many rejected ranges");
        }
        outcome.rejected.push_back(read_rejected(reader.get_message()));
        break;
      case varint(4): outcome.retry_after_ms = reader.get_uint64(); break;
      case bytes(5): outcome.error = bounded_text(reader); break;
      case varint(6): outcome.status = reader.get_uint32(); break;
      case varint(7): outcome.duplicates = reader.get_uint32(); break;
      case varint(8): outcome.body_bytes = reader.get_uint64(); break;
      case varint(10): outcome.cause = read_enum(reader, Cause::kUnexpectedAnswer); break;
      case bytes(11): outcome.memory.emplace(memory_text(reader)); break;
      case bytes(12):
        // What exceeds the bound is as if it had not been said: sending on is the safe side.
        if (outcome.mutes.size() < kMutesMax) {
          outcome.mutes.push_back(read_mute(reader.get_message()));
        } else {
          reader.skip();
        }
        break;
      case varint(13): outcome.certificate_expires_unix_s = reader.get_uint64(); break;
      default: reader.skip();
    }
  }
  if (verdict < 1 || verdict > 3) {
    return fail(ErrorCode::kInvalidArgument, "outcome: unknown verdict " + std::to_string(verdict));
  }
  outcome.verdict = static_cast<Verdict>(verdict);
  return outcome;
}

ProbeResult read_probe_result(pbf_reader reader) {
  ProbeResult result;
  while (reader.next()) {
    switch (reader.tag_and_type()) {
      case varint(1): result.id = reader.get_uint64(); break;
      case varint(2): result.ok = reader.get_bool(); break;
      case bytes(3): result.detail = bounded_text(reader); break;
      default: reader.skip();
    }
  }
  return result;
}

Result<FromForwarder> read_message(std::string_view body) {
  pbf_reader reader(view_of(body));
  while (reader.next()) {
    switch (reader.tag_and_type()) {
      case bytes(1): return read_hello(reader.get_message());
      case bytes(2): return read_outcome(reader.get_message());
      case bytes(3): return read_probe_result(reader.get_message());
      case bytes(4): return read_conditions(reader.get_message());
      case bytes(5): return RouteChange{};
      default: reader.skip();
    }
  }
  return fail(ErrorCode::kInvalidArgument, "message of no known kind");
}

void add_row(pbf_writer& lease, const OutgoingRow& outgoing) {
  const store::LeasedRow& row = *outgoing.row;
  pbf_writer writer(lease, 4);
  writer.add_uint64(1, row.meta.seq);
  writer.add_uint32(2, row.first_index);
  writer.add_uint32(3, row.count);
  writer.add_string(4, view_of(row.meta.app));
  const std::string_view recorded_at = event::machine_id_of(row.context);
  writer.add_string(5, view_of(recorded_at.empty() ? outgoing.machine_id : recorded_at));
  writer.add_bytes(6, view_of(row.context));
  writer.add_bytes(7, view_of(row.events));
}

}  // namespace

std::string_view to_string(Cause cause) {
  switch (cause) {
    case Cause::kUnspecified: return "";
    case Cause::kConfiguration: return "configuration";
    case Cause::kNameResolution: return "name_resolution";
    case Cause::kConnect: return "connect";
    case Cause::kTimeout: return "timeout";
    case Cause::kConnectionLost: return "connection_lost";
    case Cause::kTls: return "tls";
    case Cause::kClock: return "clock";
    case Cause::kProxy: return "proxy";
    case Cause::kCaptivePortal: return "captive_portal";
    case Cause::kAuthentication: return "authentication";
    case Cause::kEndpoint: return "endpoint";
    case Cause::kRateLimit: return "rate_limit";
    case Cause::kSize: return "size";
    case Cause::kBadRequest: return "bad_request";
    case Cause::kServer: return "server";
    case Cause::kUnexpectedAnswer: return "unexpected_answer";
  }
  return "";
}

std::string encode_lease(const LeaseHeader& header, std::span<const OutgoingRow> rows) {
  std::string body;
  pbf_writer message(body);
  {
    pbf_writer lease(message, 1);
    lease.add_uint64(1, header.id);
    lease.add_string(2, view_of(header.destination));
    lease.add_uint32(3, header.attempt);
    for (const OutgoingRow& row : rows) add_row(lease, row);
    if (!header.memory.empty()) lease.add_string(5, view_of(header.memory));
    if (header.suspect_events) lease.add_bool(6, true);
  }
  return with_length(body);
}

std::string encode_probe(std::uint64_t id, std::string_view destination) {
  std::string body;
  pbf_writer message(body);
  {
    pbf_writer probe(message, 2);
    probe.add_uint64(1, id);
    probe.add_string(2, view_of(destination));
  }
  return with_length(body);
}

std::string encode_reload() {
  std::string body;
  pbf_writer message(body);
  message.add_message(3, std::string());
  return with_length(body);
}

Result<FromForwarder> decode_from_forwarder(std::string_view body) {
  // protozero tells of broken bytes by throwing; it ends here.
  try {
    return read_message(body);
  } catch (const std::exception& broken) {
    return fail(ErrorCode::kInvalidArgument, std::string("malformed message: ") + broken.what());
  }
}

void MessageReader::feed(std::span<const std::uint8_t> bytes) {
  buffer_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Result<std::optional<std::string>> MessageReader::next() {
  const std::string_view waiting = std::string_view(buffer_).substr(start_);
  if (waiting.size() < kPrefixBytes) return std::nullopt;
  std::size_t length = 0;
  for (unsigned i = 0; i < kPrefixBytes; ++i) {
    length |= static_cast<std::size_t>(static_cast<unsigned char>(waiting[i])) << (8 * i);
  }
  if (length > kBodyBytesMax) {
    return fail(ErrorCode::kInvalidArgument,
                "message of " + std::to_string(length) + " bytes, at most " +
                    std::to_string(kBodyBytesMax) + " are allowed");
  }
  if (waiting.size() < kPrefixBytes + length) return std::nullopt;
  std::string body(waiting.substr(kPrefixBytes, length));
  start_ += kPrefixBytes + length;
  if (start_ == buffer_.size() || start_ > (1u << 16)) {
    buffer_.erase(0, start_);
    start_ = 0;
  }
  return body;
}

}  // namespace telemetryd::schedule
