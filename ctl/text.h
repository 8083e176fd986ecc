// ctl/text.h: numbers, tables and colours for people.
//
// Colours and the progress bar appear on a terminal only, and never with NO_COLOR; what is piped is
// plain.
//
// Thread:  any; Progress the one that made it.

#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace telemetryd::ctl {

// "12 345", "3.4 MiB", "2 h 5 min".
std::string count_text(std::uint64_t count);
std::string bytes_text(std::uint64_t bytes);
std::string duration_text(std::chrono::seconds duration);
// "1 event", "2 events".
std::string plural(std::uint64_t count, std::string_view noun);

// `text` without control characters, so that what an app sent cannot drive the terminal.
std::string printable(std::string_view text);

enum class Colour { kNone, kGreen, kYellow, kRed, kBold };

class Style {
 public:
  explicit Style(bool coloured) : coloured_(coloured) {}

  // Coloured when `stream` is a terminal and NO_COLOR is unset.
  static Style for_stream(std::FILE* stream);
  std::string paint(Colour colour, std::string_view text) const;

 private:
  bool coloured_;
};

// Columns as wide as their widest cell, two spaces apart; numbers to the right.
class Table {
 public:
  explicit Table(std::vector<std::string> titles);
  void add(std::vector<std::string> cells);

  bool empty() const { return rows_.size() == 1; }

  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// Members of an answer that may be absent or null.
std::uint64_t number_in(const nlohmann::json& object, const char* key, std::uint64_t absent = 0);
std::string text_in(const nlohmann::json& object, const char* key, std::string absent = {});
const nlohmann::json& member_in(const nlohmann::json& object, const char* key);
bool has_value(const nlohmann::json& object, const char* key);

// One line on a terminal that is drawn again in place, at most ten times a second; nothing
// elsewhere.
class Progress {
 public:
  Progress(std::FILE* stream, std::string what, std::uint64_t total, bool wanted);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void at(std::uint64_t done);
  // Takes the line away again.
  void clear();

 private:
  std::FILE* stream_;
  std::string what_;
  std::uint64_t total_;
  bool drawn_ = false;
  bool shown_;
  std::chrono::steady_clock::time_point next_{};
};

}  // namespace telemetryd::ctl
