#include "kit/read_event.h"

#include <algorithm>
#include <utility>

#include "base/rfc3339.h"

namespace telemetryd::kit {
namespace {

constexpr std::string_view kUnsupportedSchema = "unsupported_schema";
constexpr std::string_view kClientPrefix = "client_";
constexpr std::string_view kAnonymousPrefix = "anon_";
constexpr std::size_t kMachineIdDigits = 64;

bool lower_hex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

}  // namespace

std::string_view machine_id_of(std::string_view user_id) {
  if (!user_id.starts_with(kClientPrefix)) return user_id;
  const std::string_view digits = user_id.substr(kClientPrefix.size());
  return digits.size() == kMachineIdDigits && std::ranges::all_of(digits, lower_hex) ? digits
                                                                                     : user_id;
}

Kind kind_of(std::string_view type) {
  if (type == "command_execution") return Kind::kCommand;
  if (type == "feature_used") return Kind::kFeature;
  return Kind::kEvent;
}

EventReader::Member EventReader::member_at(Section section, std::string_view name) {
  struct Known {
    Section section;
    std::string_view name;
    Member member;
  };

  static constexpr std::array kKnown = {
      Known{Section::kEvent, "schema_version", Member::kSchemaVersion},
      Known{Section::kEvent, "event_id", Member::kEventId},
      Known{Section::kEvent, "timestamp", Member::kTimestamp},
      Known{Section::kEvent, "user_id", Member::kUserId},
      Known{Section::kEvent, "service", Member::kService},
      Known{Section::kEvent, "event", Member::kDetails},
      Known{Section::kService, "name", Member::kServiceName},
      Known{Section::kService, "version", Member::kServiceVersion},
      Known{Section::kDetails, "type", Member::kType},
      Known{Section::kDetails, "data", Member::kData},
      Known{Section::kData, "command", Member::kCommand},
      Known{Section::kData, "feature", Member::kFeature},
  };
  for (const Known& known : kKnown) {
    if (known.section == section && known.name == name) return known.member;
  }
  return Member::kNone;
}

EventReader::Section EventReader::section_of(Member member) {
  switch (member) {
    case Member::kService: return Section::kService;
    case Member::kDetails: return Section::kDetails;
    case Member::kData: return Section::kData;
    default: return Section::kIgnored;
  }
}

void EventReader::forget(Member member) {
  switch (member) {
    case Member::kNone: return;
    case Member::kService:
      at(Member::kServiceName).clear();
      at(Member::kServiceVersion).clear();
      return;
    case Member::kDetails: at(Member::kType).clear(); [[fallthrough]];
    case Member::kData:
      at(Member::kCommand).clear();
      at(Member::kFeature).clear();
      return;
    default: at(member).clear();
  }
}

void EventReader::open(bool object) {
  Section section = object ? section_of(next_) : Section::kIgnored;
  if (sections_.empty() && object) section = Section::kEvent;
  sections_.push_back(section);
  next_ = Member::kNone;
}

void EventReader::close() {
  sections_.pop_back();
  next_ = Member::kNone;
}

void EventReader::key(std::string_view name) {
  next_ = member_at(sections_.empty() ? Section::kOutside : sections_.back(), name);
  forget(next_);
}

void EventReader::text(std::string_view value) {
  if (next_ < Member::kService) at(next_) = value;
  next_ = Member::kNone;
}

void EventReader::other() {
  next_ = Member::kNone;
}

std::expected<ReadEvent, Flaw> EventReader::finish() {
  auto result = read();
  sections_.clear();
  next_ = Member::kNone;
  for (std::string& text : texts_) text.clear();
  return result;
}

std::expected<ReadEvent, Flaw> EventReader::read() {
  const auto id = parse_uuid(at(Member::kEventId));
  const auto flaw = [&id](std::string_view message, std::string_view code = kInvalidSchema) {
    return std::unexpected(Flaw{.code = code, .message = message, .id = id});
  };
  if (!at(Member::kSchemaVersion).starts_with("1.")) {
    return flaw("schema_version must begin with 1.", kUnsupportedSchema);
  }
  if (!id) return flaw("event_id must be a UUID");
  if (at(Member::kServiceName).empty()) return flaw("service.name is missing or empty");
  if (at(Member::kServiceVersion).empty()) return flaw("service.version is missing or empty");
  if (at(Member::kType).empty()) return flaw("event.type is missing or empty");
  const std::string& user = at(Member::kUserId);
  if (!user.starts_with(kClientPrefix) && !user.starts_with(kAnonymousPrefix)) {
    return flaw("user_id must begin with client_ or anon_");
  }
  const auto time = parse_rfc3339(at(Member::kTimestamp));
  if (!time) return flaw("timestamp must be an RFC 3339 time between 1970 and 2261");

  ReadEvent event{.id = *id, .kind = kind_of(at(Member::kType)), .time_unix_nano = *time};
  event.machine_id = machine_id_of(user);
  event.app = std::move(at(Member::kServiceName));
  Member name = Member::kType;
  if (event.kind == Kind::kCommand && !at(Member::kCommand).empty()) name = Member::kCommand;
  if (event.kind == Kind::kFeature && !at(Member::kFeature).empty()) name = Member::kFeature;
  event.name = std::move(at(name));
  return event;
}

}  // namespace telemetryd::kit
