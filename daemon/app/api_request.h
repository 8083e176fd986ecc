// app/api_request.h: what a request asks for, checked before anything is done about it.
//
// Thread:  any; no state.
// Fails:   kInvalidArgument with what is wrong and what would be right.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "admin/admin_server.h"
#include "app/api_json.h"
#include "base/result.h"

namespace telemetryd::app {

inline constexpr std::uint32_t kListDefault = 100;
inline constexpr std::uint32_t kListMax = 1000;

// A query's word; empty when absent. An unknown word is an error, so that a misspelt filter does
// not show everything.
[[nodiscard]] Result<void> only_words(const admin::Call& call,
                                      std::initializer_list<std::string_view> known);
std::string word(const admin::Call& call, const std::string& name);

[[nodiscard]] Result<std::uint64_t> number(std::string_view text,
                                           std::string_view what,
                                           std::uint64_t min,
                                           std::uint64_t max);
// Empty, or an app's name.
[[nodiscard]] Result<std::string> app_name(std::string text);

struct Place {
  store::Seq seq = 0;
  std::uint32_t index = 0;
};

// "SEQ.INDEX"; the beginning when `text` is empty.
[[nodiscard]] Result<Place> parse_place(std::string_view text);

// The body as an object with no members but `known`; an empty body is an empty object.
[[nodiscard]] Result<Json> body_object(const admin::Call& call,
                                       std::initializer_list<std::string_view> known);

}  // namespace telemetryd::app
