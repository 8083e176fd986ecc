#include "app/api_request.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include <fmt/format.h>

#include "frame/frame.h"

namespace telemetryd::app {
namespace {

constexpr std::size_t kShownMax = 64;

bool is_known(std::string_view word, std::initializer_list<std::string_view> known) {
  return std::ranges::find(known, word) != known.end();
}

}  // namespace

Result<void> only_words(const admin::Call& call, std::initializer_list<std::string_view> known) {
  for (const auto& [name, value] : call.query) {
    if (!is_known(name, known)) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("'{}' is nothing that {} knows; it knows {}",
                              name.substr(0, kShownMax),
                              call.path,
                              fmt::join(known, ", ")));
    }
  }
  return {};
}

std::string word(const admin::Call& call, const std::string& name) {
  const auto found = call.query.find(name);
  return found == call.query.end() ? std::string() : found->second;
}

Result<std::uint64_t> number(std::string_view text,
                             std::string_view what,
                             std::uint64_t min,
                             std::uint64_t max) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < min || value > max) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{} must be a number from {} to {}", what, min, max));
  }
  return value;
}

Result<std::string> app_name(std::string text) {
  if (!text.empty() && !frame::app_name_valid(text.data(), text.size())) {
    return fail(ErrorCode::kInvalidArgument, "app must be 1 to 64 of a-z 0-9 _ -");
  }
  return text;
}

Result<Place> parse_place(std::string_view text) {
  if (text.empty()) return Place{};
  const std::size_t dot = text.find('.');
  if (dot == std::string_view::npos) {
    return fail(ErrorCode::kInvalidArgument, "after must be SEQ.INDEX, as `next` gives it");
  }
  constexpr auto kIndexMax = std::numeric_limits<std::uint32_t>::max();
  constexpr auto kSeqMax = std::uint64_t{std::numeric_limits<std::int64_t>::max()};
  TELEMETRYD_ASSIGN(const std::uint64_t seq, number(text.substr(0, dot), "SEQ", 0, kSeqMax));
  TELEMETRYD_ASSIGN(const std::uint64_t index, number(text.substr(dot + 1), "INDEX", 0, kIndexMax));
  return Place{seq, static_cast<std::uint32_t>(index)};
}

Result<Json> body_object(const admin::Call& call, std::initializer_list<std::string_view> known) {
  if (call.body.empty()) return Json::object();
  Json body = Json::parse(call.body, nullptr, false);
  if (!body.is_object()) {
    return fail(ErrorCode::kInvalidArgument, "the body must be a JSON object");
  }
  for (const auto& [name, value] : body.items()) {
    if (!is_known(name, known)) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("unknown member '{}'; known are {}",
                              name.substr(0, kShownMax),
                              fmt::join(known, ", ")));
    }
  }
  return body;
}

}  // namespace telemetryd::app
