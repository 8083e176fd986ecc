// config/keys.h: the one table of keys that parsing, printing and the documents are made from.
//
// Thread:  any; constant.

#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "config/config.h"

namespace telemetryd::config {

enum class Type { kInteger, kBoolean, kText, kPath, kWord };

struct Value {
  std::int64_t integer = 0;
  bool boolean = false;
  std::string text;
};

// One key of a table that becomes a `Target`.
template <typename Target>
struct Key {
  std::string_view name;
  Type type;
  std::string_view default_toml;  // as a TOML literal; empty: none, `default_words` says what then
  std::string_view default_words;
  std::int64_t min;
  std::int64_t max;
  std::string_view words;  // kWord: the valid ones, separated by one space
  std::string_view help;   // one sentence
  bool live;               // a reload changes it; otherwise a restart does
  void (*set)(Target&, const Value&);
  Value (*get)(const Target&);
};

struct Section {
  std::string_view name;
  std::string_view help;
  std::span<const Key<Config>> keys;
};

std::span<const Section> sections();
std::span<const Key<Destination>> destination_keys();
std::span<const Key<Route>> route_keys();

inline constexpr std::string_view kDestinationHelp =
    "An upstream. May stand more than once; the forwarder reads url and secrets itself.";
inline constexpr std::string_view kRouteHelp =
    "Which app's events go to which destination. The first route that matches decides; an app "
    "without one is kept locally and never sent.";

// The value as a TOML literal.
std::string toml_literal(Type type, const Value& value);

}  // namespace telemetryd::config
