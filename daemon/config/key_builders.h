// config/key_builders.h: one line per key of the table in keys.cc.
//
// Each makes a Key of one type; in_section and direct add how it is stored where it is kept as it
// was read.
//
// Thread:  any; no state.

#pragma once

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "config/keys.h"

namespace telemetryd::config {

inline constexpr std::string_view kNoWords = "";

template <typename Field>
void assign(Field& field, const Value& value) {
  if constexpr (std::same_as<Field, bool>) {
    field = value.boolean;
  } else if constexpr (std::integral<Field>) {
    field = static_cast<Field>(value.integer);
  } else if constexpr (requires { field.count(); }) {
    field = Field(value.integer);
  } else {
    field = value.text;
  }
}

template <typename Field>
Value value_of(const Field& field) {
  Value value;
  if constexpr (std::same_as<Field, bool>) {
    value.boolean = field;
  } else if constexpr (std::integral<Field>) {
    value.integer = static_cast<std::int64_t>(field);
  } else if constexpr (requires { field.count(); }) {
    value.integer = field.count();
  } else if constexpr (std::same_as<Field, std::filesystem::path>) {
    value.text = field.native();
  } else {
    value.text = field;
  }
  return value;
}

// A key that is stored as it is read: `kPart` is the section's member of Config, `kField` the
// key's member of the section.
template <auto kPart, auto kField>
constexpr Key<Config> in_section(Key<Config> key) {
  key.set = [](Config& c, const Value& v) { assign(c.*kPart.*kField, v); };
  key.get = [](const Config& c) { return value_of(c.*kPart.*kField); };
  return key;
}

template <typename Target, auto kField>
constexpr Key<Target> direct(Key<Target> key) {
  key.set = [](Target& t, const Value& v) { assign(t.*kField, v); };
  key.get = [](const Target& t) { return value_of(t.*kField); };
  return key;
}

template <typename Target = Config>
constexpr Key<Target> integer(std::string_view name,
                              std::string_view default_toml,
                              std::int64_t min,
                              std::int64_t max,
                              std::string_view help) {
  return {name, Type::kInteger, default_toml, "", min, max, kNoWords, help, false, {}, {}};
}

template <typename Target = Config>
constexpr Key<Target> boolean(std::string_view name,
                              std::string_view default_toml,
                              std::string_view help) {
  return {name, Type::kBoolean, default_toml, "", 0, 0, kNoWords, help, false, {}, {}};
}

template <typename Target = Config>
constexpr Key<Target> text(std::string_view name,
                           std::string_view default_toml,
                           std::string_view default_words,
                           std::string_view help) {
  return {name, Type::kText, default_toml, default_words, 0, 256, kNoWords, help, false, {}, {}};
}

// Addresses and paths.
template <typename Target = Config>
constexpr Key<Target> long_text(std::string_view name,
                                std::string_view default_toml,
                                std::string_view default_words,
                                std::string_view help) {
  Key<Target> key = text<Target>(name, default_toml, default_words, help);
  key.max = 2048;
  return key;
}

template <typename Target = Config>
constexpr Key<Target> path(std::string_view name,
                           std::string_view default_words,
                           std::string_view help) {
  return {name, Type::kPath, "", default_words, 0, 4096, kNoWords, help, false, {}, {}};
}

template <typename Target = Config>
constexpr Key<Target> word(std::string_view name,
                           std::string_view default_toml,
                           std::string_view words,
                           std::string_view help,
                           bool live,
                           void (*set)(Target&, const Value&),
                           Value (*get)(const Target&)) {
  return {name, Type::kWord, default_toml, "", 0, 0, words, help, live, set, get};
}

template <typename Target>
constexpr Key<Target> required(Key<Target> key) {
  key.default_words = "required";
  return key;
}

}  // namespace telemetryd::config
