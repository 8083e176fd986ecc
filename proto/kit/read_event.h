// kit/read_event.h: what a server reads from a telemetry-kit event to store it and list by it.
//
// The event stays the JSON that came; this takes out of it, while a parser walks over it, the few
// members that say whose it is, and checks those. Of a member that is there twice the last counts,
// as in every reader that builds objects from JSON, so that what was checked is what is shown.
//
// Owns:    copies of the members, until finish().
// Thread:  one.
// Limits:  the caller's: a member can be as long as the event.
// Fails:   finish(), with the code of docs/formats/ingest.md.

#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace telemetryd::kit {

// The kinds of event.proto that this wire knows; everything else is a plain event.
enum class Kind : std::uint8_t { kEvent = 0, kCommand = 1, kFeature = 2 };

struct ReadEvent {
  Bytes16 id{};
  std::string app;
  std::string name;
  std::string machine_id;
  Kind kind = Kind::kEvent;
  std::uint64_t time_unix_nano = 0;
};

struct Flaw {
  std::string_view code;  // unsupported_schema, invalid_schema
  std::string_view message;
  std::optional<Bytes16> id;  // where the event has one that can be read
};

inline constexpr std::string_view kInvalidSchema = "invalid_schema";

// Told of one event as a parser meets it, from its opening brace to its closing one.
class EventReader {
 public:
  void open(bool object);
  void close();
  void key(std::string_view name);
  void text(std::string_view value);
  // A number, a boolean or null, which no member that is read here can be.
  void other();

  // The event, after its closing brace; the reader is then ready for another one.
  std::expected<ReadEvent, Flaw> finish();

 private:
  enum class Section : std::uint8_t { kOutside, kEvent, kService, kDetails, kData, kIgnored };

  enum class Member : std::uint8_t {
    kSchemaVersion,
    kEventId,
    kTimestamp,
    kUserId,
    kServiceName,
    kServiceVersion,
    kType,
    kCommand,
    kFeature,
    kService,  // from here on: members that hold others
    kDetails,
    kData,
    kNone
  };

  static constexpr std::size_t kTexts = static_cast<std::size_t>(Member::kService);

  static Member member_at(Section section, std::string_view name);
  static Section section_of(Member member);
  void forget(Member member);

  std::string& at(Member member) { return texts_[static_cast<std::size_t>(member)]; }

  std::expected<ReadEvent, Flaw> read();

  std::vector<Section> sections_;
  Member next_ = Member::kNone;
  std::array<std::string, kTexts> texts_;  // empty: absent, which is refused alike
};

// "client_" and 64 hex digits name the machine as the rest of the system does, without the prefix;
// anything else is kept as it is.
std::string_view machine_id_of(std::string_view user_id);

// Of event.type.
Kind kind_of(std::string_view type);

}  // namespace telemetryd::kit
