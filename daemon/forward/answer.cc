#include "forward/answer.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "forward/sink.h"

namespace telemetryd::forward {
namespace {

using nlohmann::json;

std::string joined(const std::string& code, const std::string& message) {
  if (code.empty() || message.empty()) return code + message;
  return code + ": " + message;
}

std::string advice_for(long status, Advice advice) {
  if (status >= 300 && status < 400) {
    return "redirects are not followed; set url to the server's final address";
  }
  if (status == 407) return "the proxy wants credentials";
  return std::string(advice(status));
}

}  // namespace

json parse_answer(const std::string& body) {
  bool deep = false;
  const auto watch = [&](int depth, json::parse_event_t, json&) {
    deep = deep || depth > kAnswerDepthMax;
    return !deep;
  };
  json parsed = json::parse(body, watch, false);
  return deep ? json(json::value_t::discarded) : parsed;
}

std::optional<std::uint64_t> count_of(const json& answer, const char* member) {
  const auto found = answer.find(member);
  if (found == answer.end() || !found->is_number_unsigned()) return std::nullopt;
  return found->get<std::uint64_t>();
}

std::string text_of(const json& object, const char* member) {
  const auto found = object.find(member);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string error_words(const json& answer) {
  if (!answer.is_object() || !answer.contains("error")) return {};
  const json& error = answer["error"];
  if (error.is_object()) return joined(text_of(error, "code"), text_of(error, "message"));
  return joined(text_of(answer, "error"), text_of(answer, "message"));
}

std::chrono::milliseconds retry_after(const HttpResponse& response) {
  std::chrono::milliseconds wait = response.retry_after;
  const json answer = parse_answer(response.body);
  if (answer.is_object()) {
    const auto named = answer.find("retry_after");
    if (named != answer.end() && named->is_number()) {
      const double seconds = named->get<double>();
      const auto bound = static_cast<double>(kRetryAfterMax.count());
      if (std::isfinite(seconds) && seconds > 0) {
        const double bounded = std::min(seconds, bound);
        wait = std::max(wait, std::chrono::milliseconds(static_cast<std::int64_t>(bounded * 1000)));
      }
    }
  }
  return std::min<std::chrono::milliseconds>(wait, kRetryAfterMax);
}

bool heals_with_time(long status) {
  return status == 408 || status == 409 || status == 425 || status == 429 || status >= 500;
}

std::string describe(const HttpResponse& response, Advice advice) {
  if (response.kind == HttpResponse::Kind::kTls) return printable("TLS: " + response.problem);
  if (response.kind == HttpResponse::Kind::kTooLarge) {
    return "answer larger than " + std::to_string(Http::kBodyBytesMax) + " bytes";
  }
  if (response.kind != HttpResponse::Kind::kAnswer) return printable(response.problem);
  std::string text = "status " + std::to_string(response.status);
  if (const std::string words = error_words(parse_answer(response.body)); !words.empty()) {
    text += " " + words;
  }
  if (!response.location.empty()) {
    // What stands behind the question mark of a foreign address may be somebody's session.
    text += " to " + response.location.substr(
                         0, std::min<std::size_t>(200, response.location.find_first_of("?#")));
  }
  if (const std::string next = advice_for(response.status, advice); !next.empty()) {
    text += "; " + next;
  }
  return printable(text);
}

}  // namespace telemetryd::forward
