#include "ctl/import_line.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <openssl/sha.h>
#include <protozero/pbf_writer.hpp>

#include "base/rfc3339.h"

namespace telemetryd::ctl {
namespace {

using Json = nlohmann::ordered_json;

// Field numbers of proto/telemetry/v1/event.proto.
enum EventField : protozero::pbf_tag_type {
  kId = 1,
  kKind = 2,
  kName = 3,
  kCategory = 4,
  kTime = 5,
  kSeverity = 6,
  kUrgency = 7,
  kClass = 8,
  kSession = 9,
  kUser = 10,
  kSuccess = 11,
  kDuration = 12,
  kExitCode = 13,
  kAttribute = 14,
  kErrorDetails = 15,
  kSource = 16,
};

enum AttributeField : protozero::pbf_tag_type {
  kKey = 1,
  kString = 2,
  kBool = 3,
  kInt = 4,
  kDouble = 5,
};

constexpr std::array kKinds = {"event", "command", "feature", "metric", "error", "init"};
constexpr std::array kErrorMembers = {"name", "code", "id", "message", "stack"};
constexpr std::array kFromContext = {
    "app", "app_version", "language", "environment", "project", "sdk", "machine_id"};
// What the admin API adds to an event, so that a listing can be imported elsewhere.
constexpr std::array kFromDaemon = {"seq", "index", "uid", "state", "accepted_unix_ms"};

std::unexpected<Error> wrong(std::string message) {
  return fail(ErrorCode::kInvalidArgument, std::move(message));
}

template <typename Names>
bool among(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

struct Parsed {
  std::string id;
  std::uint32_t kind = 0;
  std::string name;
  std::string category;
  std::optional<std::uint64_t> time;
  std::uint32_t severity = 0;
  event::Urgency urgency = event::Urgency::kNormal;
  event::Class persistence_class = event::Class::kNormal;
  std::string session;
  std::string user;
  std::optional<bool> success;
  std::optional<double> duration;
  std::optional<std::int32_t> exit_code;
  std::string source;
  std::string attributes;  // encoded fields 14, tags included
  std::string error;       // encoded ErrorDetails
};

Result<std::string> string_of(std::string_view member, const Json& value) {
  if (!value.is_string()) return wrong(fmt::format("'{}' must be a string", member));
  return value.get<std::string>();
}

Result<std::int64_t> integer_of(std::string_view member,
                                const Json& value,
                                std::int64_t low,
                                std::int64_t high) {
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() ||
                     value.get<std::uint64_t>() <=
                         static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()));
  const std::int64_t number = fits ? value.get<std::int64_t>() : 0;
  if (!fits || number < low || number > high) {
    return wrong(fmt::format("'{}' must be an integer from {} to {}", member, low, high));
  }
  return number;
}

Result<std::uint64_t> time_of(const Json& value) {
  constexpr double kSecondsMax = 9.2e9;
  if (value.is_string()) {
    const auto time = parse_rfc3339(value.get<std::string>());
    if (time && *time > 0) return *time;
  } else if (value.is_number()) {
    const double seconds = value.get<double>();
    if (seconds > 0 && seconds < kSecondsMax) {
      const double whole = std::floor(seconds);
      return static_cast<std::uint64_t>(whole) * 1'000'000'000u +
             static_cast<std::uint64_t>(std::llround((seconds - whole) * 1e9));
    }
  }
  return wrong(
      "'time' must be RFC 3339 with an offset, such as 2026-11-20T12:00:00Z, or seconds "
      "since 1970");
}

Result<std::string> encode_attribute(const std::string& key, const Json& value) {
  std::string bytes;
  protozero::pbf_writer writer(bytes);
  writer.add_string(kKey, key);
  if (value.is_string()) {
    writer.add_string(kString, value.get<std::string>());
  } else if (value.is_boolean()) {
    writer.add_bool(kBool, value.get<bool>());
  } else if (value.is_number_float()) {
    writer.add_double(kDouble, value.get<double>());
  } else if (value.is_number_integer()) {
    TELEMETRYD_ASSIGN(const std::int64_t number,
                      integer_of("attributes." + key,
                                 value,
                                 std::numeric_limits<std::int64_t>::min(),
                                 std::numeric_limits<std::int64_t>::max()));
    writer.add_sint64(kInt, number);
  } else {
    return wrong(fmt::format(
        "attribute '{}' must be a string, a number or a boolean; nested values are not kept", key));
  }
  return bytes;
}

Result<std::string> encode_attributes(const Json& value) {
  if (!value.is_object()) return wrong("'attributes' must be an object");
  std::string bytes;
  protozero::pbf_writer writer(bytes);
  for (const auto& [key, entry] : value.items()) {
    if (entry.is_null()) continue;
    TELEMETRYD_ASSIGN(const std::string attribute, encode_attribute(key, entry));
    writer.add_message(kAttribute, attribute);
  }
  return bytes;
}

Result<std::string> encode_error(const Json& value) {
  if (!value.is_object()) return wrong("'error' must be an object");
  std::string bytes;
  protozero::pbf_writer writer(bytes);
  for (const auto& [key, entry] : value.items()) {
    const auto at = std::find(kErrorMembers.begin(), kErrorMembers.end(), key);
    if (at == kErrorMembers.end()) return wrong(fmt::format("unknown member 'error.{}'", key));
    if (entry.is_null()) continue;
    TELEMETRYD_ASSIGN(const std::string text, string_of("error." + key, entry));
    writer.add_string(static_cast<protozero::pbf_tag_type>(at - kErrorMembers.begin() + 1), text);
  }
  return bytes;
}

Result<void> read_identifier(const std::string& key, const Json& value, std::string& into) {
  TELEMETRYD_ASSIGN(const std::string text, string_of(key, value));
  const auto bytes = parse_uuid(text);
  if (!bytes) {
    return wrong(
        fmt::format("'{}' must be 32 hex digits, with or without the hyphens of a UUID", key));
  }
  into = std::string(as_text(*bytes));
  return {};
}

Result<void> read_word(const std::string& key, const Json& value, Parsed& out) {
  TELEMETRYD_ASSIGN(const std::string word, string_of(key, value));
  if (key == "kind") {
    const auto at = std::find(kKinds.begin(), kKinds.end(), word);
    if (at == kKinds.end()) {
      return wrong(
          fmt::format("unknown kind '{}'; it is one of {}", word, fmt::join(kKinds, ", ")));
    }
    out.kind = static_cast<std::uint32_t>(at - kKinds.begin());
  } else if (key == "urgency") {
    if (word != "urgent" && word != "normal") return wrong("'urgency' must be urgent or normal");
    out.urgency = word == "urgent" ? event::Urgency::kUrgent : event::Urgency::kNormal;
  } else {
    if (word != "low" && word != "critical" && word != "normal") {
      return wrong("'class' must be low, normal or critical");
    }
    out.persistence_class = word == "low"        ? event::Class::kLow
                            : word == "critical" ? event::Class::kCritical
                                                 : event::Class::kNormal;
  }
  return {};
}

Result<void> read_text(const std::string& key, const Json& value, Parsed& out) {
  TELEMETRYD_ASSIGN(std::string text, string_of(key, value));
  std::string& target = key == "name"       ? out.name
                        : key == "category" ? out.category
                        : key == "user_id"  ? out.user
                                            : out.source;
  target = std::move(text);
  return {};
}

Result<void> read_number(const std::string& key, const Json& value, Parsed& out) {
  if (key == "severity") {
    TELEMETRYD_ASSIGN(const std::int64_t number, integer_of(key, value, 0, 24));
    out.severity = static_cast<std::uint32_t>(number);
  } else if (key == "exit_code") {
    TELEMETRYD_ASSIGN(const std::int64_t number,
                      integer_of(key,
                                 value,
                                 std::numeric_limits<std::int32_t>::min(),
                                 std::numeric_limits<std::int32_t>::max()));
    out.exit_code = static_cast<std::int32_t>(number);
  } else if (key == "duration_ms") {
    if (!value.is_number()) return wrong("'duration_ms' must be a number");
    out.duration = value.get<double>();
  } else {
    if (!value.is_boolean()) return wrong("'success' must be true or false");
    out.success = value.get<bool>();
  }
  return {};
}

Result<void> read_member(const std::string& key, const Json& value, Parsed& out) {
  if (value.is_null() || among(kFromContext, key) || among(kFromDaemon, key)) return {};
  if (key == "id") return read_identifier(key, value, out.id);
  if (key == "session_id") return read_identifier(key, value, out.session);
  if (key == "kind" || key == "urgency" || key == "class") return read_word(key, value, out);
  if (key == "name" || key == "category" || key == "user_id" || key == "source") {
    return read_text(key, value, out);
  }
  if (key == "severity" || key == "exit_code" || key == "duration_ms" || key == "success") {
    return read_number(key, value, out);
  }
  if (key == "time") {
    TELEMETRYD_ASSIGN(out.time, time_of(value));
  } else if (key == "attributes") {
    TELEMETRYD_ASSIGN(out.attributes, encode_attributes(value));
  } else {
    TELEMETRYD_ASSIGN(out.error, encode_error(value));
  }
  return {};
}

// Null counts as absent, but not under a name that does not exist.
bool known(std::string_view key) {
  constexpr std::array kOwn = {"id",
                               "kind",
                               "name",
                               "category",
                               "time",
                               "severity",
                               "urgency",
                               "class",
                               "session_id",
                               "user_id",
                               "success",
                               "duration_ms",
                               "exit_code",
                               "attributes",
                               "error",
                               "source"};
  return among(kOwn, key) || among(kFromContext, key) || among(kFromDaemon, key);
}

std::string encode(const Parsed& parsed, std::uint64_t time, std::string_view id) {
  std::string bytes;
  protozero::pbf_writer writer(bytes);
  writer.add_bytes(kId, id.data(), id.size());
  if (parsed.kind != 0) writer.add_enum(kKind, static_cast<std::int32_t>(parsed.kind));
  writer.add_string(kName, parsed.name);
  if (!parsed.category.empty()) writer.add_string(kCategory, parsed.category);
  writer.add_fixed64(kTime, time);
  if (parsed.severity != 0) writer.add_uint32(kSeverity, parsed.severity);
  if (parsed.urgency != event::Urgency::kNormal) {
    writer.add_enum(kUrgency, static_cast<std::int32_t>(parsed.urgency));
  }
  if (parsed.persistence_class != event::Class::kNormal) {
    writer.add_enum(kClass, static_cast<std::int32_t>(parsed.persistence_class));
  }
  if (!parsed.session.empty()) writer.add_bytes(kSession, parsed.session);
  if (!parsed.user.empty()) writer.add_string(kUser, parsed.user);
  if (parsed.success) writer.add_bool(kSuccess, *parsed.success);
  if (parsed.duration) writer.add_double(kDuration, *parsed.duration);
  if (parsed.exit_code) writer.add_sint32(kExitCode, *parsed.exit_code);
  bytes += parsed.attributes;
  if (!parsed.error.empty()) writer.add_message(kErrorDetails, parsed.error);
  if (!parsed.source.empty()) writer.add_string(kSource, parsed.source);
  return bytes;
}

// Throws what the JSON library throws.
Result<Parsed> read_line(std::string_view line) {
  const Json json = Json::parse(line);
  if (!json.is_object()) return wrong("a line must be one JSON object");
  Parsed parsed;
  for (const auto& [key, value] : json.items()) {
    if (!known(key)) return wrong(fmt::format("unknown member '{}'", key));
    TELEMETRYD_TRY(read_member(key, value, parsed));
  }
  if (parsed.name.empty()) return wrong("'name' is missing");
  return parsed;
}

}  // namespace

Bytes16 derived_id(std::string_view line, std::uint32_t occurrence, std::uint64_t time_unix_nano) {
  std::string hashed = "telemetryd-import-id-v1";
  hashed += '\0';
  for (int shift = 0; shift < 32; shift += 8) hashed += static_cast<char>(occurrence >> shift);
  hashed += line;
  std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest{};
  SHA256(as_bytes(hashed).data(), hashed.size(), digest.data());

  Bytes16 id{};
  const std::uint64_t milliseconds = time_unix_nano / 1'000'000;
  for (std::size_t i = 0; i < 6; ++i) {
    id[i] = static_cast<std::uint8_t>(milliseconds >> (40 - 8 * i));
  }
  std::copy_n(digest.begin(), 10, id.begin() + 6);
  id[6] = static_cast<std::uint8_t>(0x70u | (id[6] & 0x0Fu));
  id[8] = static_cast<std::uint8_t>(0x80u | (id[8] & 0x3Fu));
  return id;
}

Result<ImportedEvent> parse_line(std::string_view line, const LineDefaults& defaults) {
  try {
    TELEMETRYD_ASSIGN(Parsed parsed, read_line(line));
    const std::uint64_t id_time = parsed.time.value_or(0);
    if (parsed.id.empty()) parsed.id = as_text(derived_id(line, defaults.occurrence, id_time));
    ImportedEvent out;
    out.bytes = encode(parsed, parsed.time.value_or(defaults.now_unix_nano), parsed.id);
    out.persistence_class = parsed.persistence_class;
    out.urgency = parsed.urgency;
    return out;
  } catch (const Json::parse_error& error) {
    return wrong(fmt::format("not JSON at byte {}", error.byte));
  } catch (const Json::exception&) {
    return wrong("not JSON that an event can be made of");
  }
}

}  // namespace telemetryd::ctl
