#include "forward/answer.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "forward/http_fault.h"
#include "forward/mutes.h"
#include "forward/sink.h"

namespace telemetryd::forward {
namespace {

using nlohmann::json;

std::string joined(const std::string& code, const std::string& message) {
  if (code.empty() || message.empty()) return code + message;
  return code + ": " + message;
}

// A web page where the format has JSON or nothing: somebody else answers.
bool is_page(const HttpResponse& response) {
  if (response.content_type.starts_with("text/html")) return true;
  const std::size_t first = response.body.find_first_not_of(" \t\r\n");
  return first != std::string::npos && response.body[first] == '<';
}

// Servers refuse signatures whose time is 10 min off.
bool clock_refused(const HttpResponse& response) {
  constexpr std::chrono::seconds kBound{600};
  const bool refused = response.status == 401 || response.status == 403;
  return refused && response.clock_ahead && clock_is_off(*response.clock_ahead, kBound);
}

constexpr std::string_view kLogIn =
    "this network wants a login first: open a web page on this machine";

v1::Cause cause_of_status(long status) {
  switch (status) {
    case 401:
    case 402:
    case 403: return v1::CAUSE_AUTHENTICATION;
    case 404:
    case 405:
    case 406:
    case 410:
    case 414:
    case 415:
    case 421:
    case 426: return v1::CAUSE_ENDPOINT;
    case 407: return v1::CAUSE_PROXY;
    case 408: return v1::CAUSE_TIMEOUT;
    case 413: return v1::CAUSE_SIZE;
    case 400:
    case 411:
    case 422:
    case 431: return v1::CAUSE_BAD_REQUEST;
    case 429: return v1::CAUSE_RATE_LIMIT;
    case 511: return v1::CAUSE_CAPTIVE_PORTAL;
    default: return status >= 500 ? v1::CAUSE_SERVER : v1::CAUSE_UNEXPECTED_ANSWER;
  }
}

std::string advice_for(const HttpResponse& response, Advice advice) {
  const long status = response.status;
  if (cause_of(response) == v1::CAUSE_CAPTIVE_PORTAL) return std::string(kLogIn);
  if (status >= 300 && status < 400) {
    return "redirects are not followed; set url to the server's final address";
  }
  if (status == 407) return "the proxy wants credentials: set proxy_credentials_file";
  if (clock_refused(response)) {
    return "this machine's clock is " + how_far(*response.clock_ahead) +
           " the server's: check it with `timedatectl`";
  }
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

void note(const HttpResponse& response, v1::Outcome& outcome) {
  add_mutes(response.mutes, outcome);
  if (response.certificate_expires_s <= 0) return;
  outcome.set_certificate_expires_unix_s(
      static_cast<std::uint64_t>(response.certificate_expires_s));
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
  if (status == 511) return false;  // a network that wants a login
  return status == 408 || status == 409 || status == 425 || status == 429 || status >= 500;
}

v1::Cause cause_of(const HttpResponse& response) {
  if (response.kind != HttpResponse::Kind::kAnswer) return response.cause;
  const long status = response.status;
  if (clock_refused(response)) return v1::CAUSE_CLOCK;
  if (status >= 200 && status < 300) {
    return is_page(response) ? v1::CAUSE_CAPTIVE_PORTAL : v1::CAUSE_UNEXPECTED_ANSWER;
  }
  if (status >= 300 && status < 400) {
    const bool portal = response.elsewhere && is_page(response);
    return portal ? v1::CAUSE_CAPTIVE_PORTAL : v1::CAUSE_ENDPOINT;
  }
  return cause_of_status(status);
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
  if (const std::string next = advice_for(response, advice); !next.empty()) {
    text += "; " + next;
  }
  return printable(text);
}

}  // namespace telemetryd::forward
