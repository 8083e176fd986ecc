// base/log.h: one line of key=value per fact, to standard error or the journal.
//
// Event names are past tense and unique in the tree. Levels go by consequence: error means that
// data was lost or a person must act; warn, that something went wrong and was recovered; info,
// start, stop, reload, upstream up or down; debug, per batch. Never per event, never payloads,
// tokens, machine IDs or bytes of a client. Of one event 50 lines a minute (base/log_limit.h).
//
// Thread:  any.

#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

namespace telemetryd::log {

enum class Level { kDebug, kInfo, kWarn, kError };

class Field {
 public:
  Field(std::string_view key, std::string_view value) : key_(key), value_(value) {}

  Field(std::string_view key, const char* value) : key_(key), value_(value) {}

  Field(std::string_view key, const std::string& value) : key_(key), value_(value) {}

  template <typename Number>
    requires std::is_arithmetic_v<Number>
  Field(std::string_view key, Number value) : key_(key), value_(std::to_string(value)) {}

  std::string_view key() const { return key_; }

  const std::string& value() const { return value_; }

 private:
  std::string_view key_;
  std::string value_;
};

using Fields = std::initializer_list<Field>;

void debug(std::string_view event, Fields fields = {});
void info(std::string_view event, Fields fields = {});
void warn(std::string_view event, Fields fields = {});
void error(std::string_view event, Fields fields = {});

// Call once at start, before threads. `program` is the first word of each line.
void open(std::string_view program, Level level);

// "debug", "info", "warn" or "error"; false for anything else.
bool parse_level(std::string_view word, Level& level);

// Writes `text` so that it cannot start a new line or hide a field: quotes, escapes, bounded at 512
// bytes.
std::string quoted(std::string_view text);

}  // namespace telemetryd::log
