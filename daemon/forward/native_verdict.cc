#include "forward/native_verdict.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

namespace telemetryd::forward {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds kRetryAfterMax{3600};

// Deeply nested answers are not ours, and must not cost a stack.
json parse(const std::string& body) {
  constexpr int kDepthMax = 8;
  bool deep = false;
  const auto watch = [&](int depth, json::parse_event_t, json&) {
    deep = deep || depth > kDepthMax;
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

bool add_rejected(const json& errors, const BatchLayout& layout, v1::Outcome& outcome) {
  std::set<std::uint64_t> seen;
  for (const json& error : errors) {
    if (!error.is_object()) return false;
    const auto index = count_of(error, "index");
    if (!index || *index >= layout.events() || !seen.insert(*index).second) return false;
    const BatchLayout::Place place = layout.place(*index);
    v1::RejectedEvents* rejected = outcome.add_rejected();
    rejected->set_seq(place.seq);
    rejected->set_first_index(place.index);
    rejected->set_count(1);
    rejected->set_reason(printable(text_of(error, "code") + ": " + text_of(error, "message")));
  }
  return true;
}

// The outcome of a success in the shape of docs/formats/native.md; nothing for any other text.
std::optional<v1::Outcome> read_success(const std::string& body, const BatchLayout& layout) {
  const json answer = parse(body);
  if (!answer.is_object() || text_of(answer, "status") != "success") return std::nullopt;
  const auto accepted = count_of(answer, "accepted");
  const auto duplicates = count_of(answer, "duplicates");
  const auto rejected = count_of(answer, "rejected");
  if (!accepted || !duplicates || !rejected) return std::nullopt;
  // Every event must be accounted for; duplicates may be counted as accepted or beside it.
  const std::uint64_t total = layout.events();
  if (*accepted > total || *duplicates > total || *rejected > total) return std::nullopt;
  const std::uint64_t named = *accepted + *rejected;
  if (named != total && named + *duplicates != total) return std::nullopt;

  v1::Outcome outcome = delivered();
  outcome.set_duplicates(static_cast<std::uint32_t>(*duplicates));
  const auto errors = answer.find("errors");
  const std::size_t listed = errors != answer.end() && errors->is_array() ? errors->size() : 0;
  if (listed != *rejected) return std::nullopt;
  if (listed > 0 && !add_rejected(*errors, layout, outcome)) return std::nullopt;
  return outcome;
}

std::chrono::milliseconds retry_after(const HttpResponse& response) {
  std::chrono::milliseconds wait = response.retry_after;
  const json answer = parse(response.body);
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

std::string advice(const HttpResponse& response) {
  const long status = response.status;
  if (status >= 300 && status < 400) {
    return "redirects are not followed; set url to the server's final address";
  }
  switch (status) {
    case 401: return "check token_file and secret_file";
    case 403: return "check the token's rights for org and app, and this machine's clock";
    case 404:
    case 405: return "is url a telemetry-server, and do org and app exist?";
    case 407: return "the proxy wants credentials";
    case 411:
    case 413: return "lower [forward] batch_bytes_max or batch_events_max";
    default: return "";
  }
}

bool heals_with_time(long status) {
  return status == 408 || status == 409 || status == 425 || status == 429 || status >= 500;
}

v1::Outcome judge_answer(const HttpResponse& response, const BatchLayout& layout) {
  const long status = response.status;
  if (status >= 200 && status < 300) {
    if (auto success = read_success(response.body, layout)) return *success;
    return hold("status " + std::to_string(status) +
                " with an answer that is not telemetry-server's; a captive portal or another "
                "service may be in the way");
  }
  if (heals_with_time(status)) {
    v1::Outcome outcome = retry(describe(response));
    outcome.set_retry_after_ms(static_cast<std::uint64_t>(retry_after(response).count()));
    return outcome;
  }
  return hold(describe(response));
}

}  // namespace

std::string describe(const HttpResponse& response) {
  if (response.kind == HttpResponse::Kind::kTls) return printable("TLS: " + response.problem);
  if (response.kind == HttpResponse::Kind::kTooLarge) {
    return "answer larger than " + std::to_string(Http::kBodyBytesMax) + " bytes";
  }
  if (response.kind != HttpResponse::Kind::kAnswer) return printable(response.problem);
  std::string text = "status " + std::to_string(response.status);
  const json answer = parse(response.body);
  if (answer.is_object() && answer.contains("error") && answer["error"].is_object()) {
    text += " " + text_of(answer["error"], "code") + ": " + text_of(answer["error"], "message");
  }
  if (!response.location.empty()) {
    // What stands behind the question mark of a foreign address may be somebody's session.
    text += " to " + response.location.substr(
                         0, std::min<std::size_t>(200, response.location.find_first_of("?#")));
  }
  if (const std::string next = advice(response); !next.empty()) text += "; " + next;
  return printable(text);
}

v1::Outcome judge(const HttpResponse& response, const BatchLayout& layout) {
  v1::Outcome outcome;
  switch (response.kind) {
    case HttpResponse::Kind::kAnswer: outcome = judge_answer(response, layout); break;
    case HttpResponse::Kind::kTls:
    case HttpResponse::Kind::kSetup: outcome = hold(describe(response)); break;
    case HttpResponse::Kind::kTooLarge:
    case HttpResponse::Kind::kNetwork: outcome = retry(describe(response)); break;
  }
  outcome.set_status(static_cast<std::uint32_t>(response.status));
  return outcome;
}

}  // namespace telemetryd::forward
