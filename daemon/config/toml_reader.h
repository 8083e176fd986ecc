// config/toml_reader.h: a TOML file as a flat list of values with their lines.
//
// The only file that sees the TOML library: it is heavy to compile and it throws.
//
// Thread:  any; no state.
// Limits:  kFileBytesMax per file.

#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace telemetryd::config {

inline constexpr std::size_t kFileBytesMax = 1u << 20;

// A value as written. kOther is everything that no key of ours takes: dates, arrays, floats.
struct RawValue {
  enum class Kind { kInteger, kBoolean, kText, kOther } kind = Kind::kOther;
  std::int64_t integer = 0;
  bool boolean = false;
  std::string text;
  std::string_view type_name;  // for messages: "a string"
};

struct RawEntry {
  std::string key;
  std::uint32_t line = 0;
  RawValue value;
};

// `[name]`, or one element of `[[name]]`.
struct RawTable {
  std::string name;
  std::uint32_t line = 0;
  bool element = false;
  std::vector<RawEntry> entries;  // in the order of lines
};

struct RawFile {
  std::vector<RawTable> tables;   // in the order of lines
  std::vector<RawEntry> loose;    // keys and odd things outside any table
  std::vector<Problem> problems;  // syntax; at most one, the parser stops there
};

// `file` is named in problems only.
RawFile read_toml(std::string_view text, const std::filesystem::path& file);

}  // namespace telemetryd::config
