// forward/answer.h: reading what an HTTP upstream answered, whoever it is.
//
// Answers come from strangers: they may be no JSON, nested without end or full of control
// characters. What a status means for a lease is each kind's own business.
//
// Thread:  any; no state.
// Limits:  kAnswerDepthMax; kRetryAfterMax; kTextBytesMax of words.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "forward/http.h"

namespace telemetryd::forward {

inline constexpr int kAnswerDepthMax = 8;
inline constexpr std::chrono::seconds kRetryAfterMax{3600};

// The body as JSON; a discarded value when it is none or too deep.
nlohmann::json parse_answer(const std::string& body);

std::optional<std::uint64_t> count_of(const nlohmann::json& answer, const char* member);
// Empty unless the member is a string.
std::string text_of(const nlohmann::json& object, const char* member);

// "code: message" of {"error":{"code","message"}} or {"error","message"}; empty for anything else.
std::string error_words(const nlohmann::json& answer);

// What an answer says beside its verdict: who is muted, and when our certificate expires.
void note(const HttpResponse& response, v1::Outcome& outcome);

// The larger of header and `retry_after` member, capped.
std::chrono::milliseconds retry_after(const HttpResponse& response);

// 408, 409, 425, 429 and 5xx but 511.
bool heals_with_time(long status);

// What stood in the way, when the answer is no success.
v1::Cause cause_of(const HttpResponse& response);

// The next step for a person who reads of this status; may be empty.
using Advice = std::string_view (*)(long status);

// One line about an answer that is no success: status, the server's words, the advice.
std::string describe(const HttpResponse& response, Advice advice);

}  // namespace telemetryd::forward
