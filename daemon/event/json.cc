#include <bit>
#include <cmath>

#include <nlohmann/json.hpp>

#include "base/rfc3339.h"
#include "event/event.h"
#include "event/fields.h"

namespace telemetryd::event {
namespace {

using nlohmann::json;

std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t size = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t word = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      word = word << 8 | (k < size ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      text += k <= size ? kDigits[word >> (18 - 6 * k) & 63] : '=';
    }
  }
  return text;
}

// A kind of a later version reads as the plain event it extends.
const char* kind_name(std::uint64_t kind) {
  constexpr const char* kNames[] = {"event", "command", "feature", "metric", "error", "init"};
  return kind < std::size(kNames) ? kNames[kind] : kNames[0];
}

// JSON has no infinities; as an attribute they are words, like in protobuf's own JSON.
json number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

// The readers below run over messages that check_event() has passed, so a step cannot fail; if one
// did, the loop would end and the rest be missing.

std::uint64_t varint(Cursor& cursor) {
  std::uint64_t value = 0;
  cursor.varint(value);
  return value;
}

double real(Cursor& cursor) {
  std::uint64_t bits = 0;
  cursor.fixed64(bits);
  return std::bit_cast<double>(bits);
}

std::string_view bytes(Cursor& cursor) {
  std::string_view value;
  cursor.bytes(value);
  return value;
}

// An empty string is proto3's way to say absent.
void put_text(json& object, const char* member, std::string_view text) {
  if (text.empty()) {
    object.erase(member);
  } else {
    object[member] = text;
  }
}

void put_strings(json& object, std::string_view message, std::span<const char* const> members) {
  Cursor cursor(message);
  std::uint32_t tag = 0;
  while (!cursor.at_end() && cursor.tag(tag)) {
    const std::uint32_t field = tag >> 3;
    if (field > members.size()) {
      if (!cursor.skip(tag)) return;
      continue;
    }
    put_text(object, members[field - 1], bytes(cursor));
  }
}

void put_attribute(json& attributes, std::string_view attribute) {
  Cursor cursor(attribute);
  std::string_view key;
  json value;
  std::uint32_t tag = 0;
  while (!cursor.at_end() && cursor.tag(tag)) {
    switch (tag) {
      case tag::kKey: key = bytes(cursor); break;
      case tag::kString: value = bytes(cursor); break;
      case tag::kBool: value = varint(cursor) != 0; break;
      case tag::kInt: value = zigzag(varint(cursor)); break;
      case tag::kDouble: value = number(real(cursor)); break;
      case tag::kBytesValue: value = json{{"base64", base64(bytes(cursor))}}; break;
      default:
        if (!cursor.skip(tag)) return;
    }
  }
  if (!value.is_null()) attributes[std::string(key)] = std::move(value);
}

void put_error(json& object, std::string_view error) {
  constexpr const char* kMembers[] = {"name", "code", "id", "message", "stack"};
  json& details = object["error"];
  if (details.is_null()) details = json::object();
  put_strings(details, error, kMembers);
}

void put_severity(json& object, std::uint64_t severity) {
  if (severity == 0) {
    object.erase("severity");
  } else {
    object["severity"] = severity;
  }
}

void put_number(json& object, std::uint32_t tag, Cursor& cursor) {
  const std::uint64_t value = varint(cursor);
  switch (tag) {
    case tag::kKind: object["kind"] = kind_name(value); break;
    case tag::kSeverity: put_severity(object, value); break;
    case tag::kSuccess: object["success"] = value != 0; break;
    default: object["exit_code"] = zigzag(value); break;
  }
}

void put_field(json& object, std::uint32_t tag, Cursor& cursor) {
  switch (tag) {
    case tag::kKind:
    case tag::kSeverity:
    case tag::kSuccess:
    case tag::kExitCode: put_number(object, tag, cursor); break;
    case tag::kName: put_text(object, "name", bytes(cursor)); break;
    case tag::kCategory: put_text(object, "category", bytes(cursor)); break;
    case tag::kUserId: put_text(object, "user_id", bytes(cursor)); break;
    case tag::kSource: put_text(object, "source", bytes(cursor)); break;
    case tag::kSessionId: put_text(object, "session_id", to_hex(as_bytes(bytes(cursor)))); break;
    case tag::kAttributes: put_attribute(object["attributes"], bytes(cursor)); break;
    case tag::kError: put_error(object, bytes(cursor)); break;
    case tag::kDuration: {
      const double duration = real(cursor);
      if (std::isfinite(duration)) object["duration_ms"] = duration;
      break;
    }
    default: cursor.skip(tag); break;
  }
}

}  // namespace

Result<json> to_json(std::string_view event, std::string_view context) {
  constexpr const char* kContext[] = {
      "app", "app_version", "language", "environment", "project", "sdk", "machine_id"};
  EventFacts facts;
  if (const char* rule = check_event(event, facts)) return fail(ErrorCode::kInvalidArgument, rule);
  if (const char* rule = check_strings(context, tag::kContextFieldMax)) {
    return fail(ErrorCode::kInvalidArgument, std::string("context: ") + rule);
  }
  json object = {{"kind", "event"}, {"time", rfc3339_nanos(facts.time_unix_nano)}};
  object["id"] = uuid_text(as_bytes(facts.id).first<16>());
  if (facts.urgency == 1) object["urgency"] = "urgent";
  if (facts.persistence_class == 1) object["class"] = "low";
  if (facts.persistence_class == 2) object["class"] = "critical";
  put_strings(object, context, kContext);
  Cursor cursor(event);
  std::uint32_t tag = 0;
  while (!cursor.at_end() && cursor.tag(tag)) put_field(object, tag, cursor);
  if (object.contains("attributes") && object["attributes"].is_null()) object.erase("attributes");
  return object;
}

}  // namespace telemetryd::event
