#include "ctl/text.h"

#include <algorithm>
#include <array>
#include <unistd.h>

#include <fmt/format.h>

#include "ctl/environment.h"

namespace telemetryd::ctl {
namespace {

constexpr std::chrono::milliseconds kRedrawEvery{100};
constexpr std::size_t kBarWidth = 24;

// Columns on a terminal, near enough: bytes that begin a UTF-8 character.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u;
  }));
}

bool numeric(std::string_view cell) {
  return cell.find_first_not_of("0123456789 ") == std::string_view::npos;
}

}  // namespace

std::string count_text(std::uint64_t count) {
  std::string digits = std::to_string(count);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), 1, ' ');
  }
  return digits;
}

std::string bytes_text(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string duration_text(std::chrono::seconds duration) {
  const auto seconds = duration.count();
  if (seconds < 60) return fmt::format("{} s", seconds);
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  if (seconds < 86400) return fmt::format("{} h {} min", seconds / 3600, seconds % 3600 / 60);
  return fmt::format("{} d {} h", seconds / 86400, seconds % 86400 / 3600);
}

std::string plural(std::uint64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count_text(count), noun, count == 1 ? "" : "s");
}

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

Style Style::for_stream(std::FILE* stream) {
  const int fd = fileno(stream);
  return Style(fd >= 0 && isatty(fd) == 1 && !variable("NO_COLOR"));
}

std::string Style::paint(Colour colour, std::string_view text) const {
  if (!coloured_ || colour == Colour::kNone) return std::string(text);
  constexpr std::array<const char*, 5> kCodes = {"0", "32", "33", "31", "1"};
  return fmt::format("\x1b[{}m{}\x1b[0m", kCodes[static_cast<std::size_t>(colour)], text);
}

Table::Table(std::vector<std::string> titles) {
  rows_.push_back(std::move(titles));
}

void Table::add(std::vector<std::string> cells) {
  cells.resize(rows_.front().size());
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  const std::size_t columns = rows_.front().size();
  std::vector<std::size_t> widths(columns);
  std::vector<bool> right(columns, rows_.size() > 1);
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      widths[c] = std::max(widths[c], width_of(rows_[r][c]));
      if (r > 0 && !numeric(rows_[r][c])) right[c] = false;
    }
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t c = 0; c < columns; ++c) {
      const std::string gap(widths[c] - width_of(row[c]), ' ');
      line += right[c] ? gap + row[c] : row[c] + gap;
      line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

bool has_value(const nlohmann::json& object, const char* key) {
  return object.is_object() && object.contains(key) && !object.at(key).is_null();
}

const nlohmann::json& member_in(const nlohmann::json& object, const char* key) {
  static const nlohmann::json kNothing;
  return has_value(object, key) ? object.at(key) : kNothing;
}

std::uint64_t number_in(const nlohmann::json& object, const char* key, std::uint64_t absent) {
  const auto& value = member_in(object, key);
  if (value.is_number_unsigned()) return value.get<std::uint64_t>();
  if (value.is_number()) {
    return static_cast<std::uint64_t>(std::clamp(value.get<double>(), 0.0, 9e18));
  }
  return absent;
}

std::string text_in(const nlohmann::json& object, const char* key, std::string absent) {
  const auto& value = member_in(object, key);
  return value.is_string() ? printable(value.get<std::string>()) : absent;
}

Progress::Progress(std::FILE* stream, std::string what, std::uint64_t total, bool wanted)
    : stream_(stream),
      what_(std::move(what)),
      total_(total),
      shown_(wanted && total > 0 && fileno(stream) >= 0 && isatty(fileno(stream)) == 1) {}

Progress::~Progress() {
  clear();
}

void Progress::clear() {
  if (!drawn_) return;
  fmt::print(stream_, "\r\x1b[K");
  std::fflush(stream_);
  drawn_ = false;
}

void Progress::at(std::uint64_t done) {
  if (!shown_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) return;
  next_ = now + kRedrawEvery;
  drawn_ = true;
  const std::uint64_t part = std::min(done, total_);
  const auto filled =
      static_cast<std::size_t>(static_cast<double>(part) / static_cast<double>(total_) * kBarWidth);
  fmt::print(stream_,
             "\r{} [{}{}] {} of {}\x1b[K",
             what_,
             std::string(filled, '#'),
             std::string(kBarWidth - filled, '.'),
             count_text(part),
             count_text(total_));
  std::fflush(stream_);
}

}  // namespace telemetryd::ctl
