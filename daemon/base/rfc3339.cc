#include "base/rfc3339.h"

#include <chrono>
#include <limits>

#include <fmt/format.h>

namespace telemetryd {
namespace {

constexpr std::int64_t kNanosPerSecond = 1'000'000'000;
constexpr std::int64_t kSecondsMax = std::numeric_limits<std::int64_t>::max() / kNanosPerSecond - 1;

// Reads from the front of a text; a failed read leaves `good` false for all that follow.
struct Scanner {
  std::string_view rest;
  bool good = true;

  int digits(std::size_t count, int low, int high) {
    int value = 0;
    if (rest.size() < count) good = false;
    for (std::size_t i = 0; good && i < count; ++i) {
      const char c = rest[i];
      if (c < '0' || c > '9') good = false;
      value = value * 10 + (c - '0');
    }
    if (good) rest.remove_prefix(count);
    if (value < low || value > high) good = false;
    return good ? value : low;
  }

  void one_of(std::string_view choices) {
    if (rest.empty() || choices.find(rest.front()) == std::string_view::npos) good = false;
    if (good) rest.remove_prefix(1);
  }

  std::int64_t fraction() {
    if (!good || rest.empty() || rest.front() != '.') return 0;
    rest.remove_prefix(1);
    std::int64_t nanos = 0;
    std::int64_t unit = kNanosPerSecond / 10;
    std::size_t used = 0;
    for (; used < rest.size() && rest[used] >= '0' && rest[used] <= '9'; ++used) {
      nanos += unit * (rest[used] - '0');
      unit /= 10;
    }
    if (used == 0) good = false;
    rest.remove_prefix(used);
    return nanos;
  }

  std::int64_t offset_seconds() {
    if (!good || rest.empty()) {
      good = false;
      return 0;
    }
    const char sign = rest.front();
    rest.remove_prefix(1);
    if (sign == 'Z' || sign == 'z') return 0;
    if (sign != '+' && sign != '-') good = false;
    const int hours = digits(2, 0, 23);
    one_of(":");
    const int minutes = digits(2, 0, 59);
    const std::int64_t seconds = hours * 3600 + minutes * 60;
    return sign == '-' ? -seconds : seconds;
  }
};

}  // namespace

std::optional<std::uint64_t> parse_rfc3339(std::string_view text) {
  Scanner scan{text};
  const int year = scan.digits(4, 0, 9999);
  scan.one_of("-");
  const int month = scan.digits(2, 1, 12);
  scan.one_of("-");
  const int day = scan.digits(2, 1, 31);
  scan.one_of("Tt ");
  const int hour = scan.digits(2, 0, 23);
  scan.one_of(":");
  const int minute = scan.digits(2, 0, 59);
  scan.one_of(":");
  const int second = scan.digits(2, 0, 60);
  const std::int64_t nanos = scan.fraction();
  const std::int64_t offset = scan.offset_seconds();
  if (!scan.good || !scan.rest.empty()) return std::nullopt;

  const std::chrono::year_month_day date{std::chrono::year(year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok()) return std::nullopt;
  const std::int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  const std::int64_t seconds = days * 86400 + hour * 3600 + minute * 60 + second - offset;
  if (seconds < 0 || seconds > kSecondsMax) return std::nullopt;
  return static_cast<std::uint64_t>(seconds * kNanosPerSecond + nanos);
}

std::string rfc3339_nanos(std::uint64_t unix_nano) {
  constexpr std::uint64_t kPerSecond = kNanosPerSecond;
  std::string text = rfc3339_seconds(static_cast<std::int64_t>(unix_nano / kPerSecond));
  text.pop_back();
  return fmt::format("{}.{:09}Z", text, unix_nano % kPerSecond);
}

std::string rfc3339_seconds(std::int64_t unix_seconds) {
  const std::chrono::sys_seconds time{std::chrono::seconds(unix_seconds)};
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                     static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()),
                     static_cast<unsigned>(date.day()),
                     clock.hours().count(),
                     clock.minutes().count(),
                     clock.seconds().count());
}

}  // namespace telemetryd
