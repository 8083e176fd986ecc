#include "forward/native_verdict.h"

#include <optional>
#include <set>

#include <nlohmann/json.hpp>

#include "forward/answer.h"

namespace telemetryd::forward {
namespace {

using nlohmann::json;

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
  const json answer = parse_answer(body);
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

std::string_view advice(long status) {
  switch (status) {
    case 401: return "check token_file and secret_file";
    case 403: return "check the token's rights for org and app, and this machine's clock";
    case 404:
    case 405: return "is url a telemetry-server, and do org and app exist?";
    case 411:
    case 413: return "lower [forward] batch_bytes_max or batch_events_max";
    default: return "";
  }
}

v1::Outcome judge_answer(const HttpResponse& response, const BatchLayout& layout) {
  const long status = response.status;
  if (status >= 200 && status < 300) {
    if (auto success = read_success(response.body, layout)) return *success;
    return hold("status " + std::to_string(status) +
                    " with an answer that is not telemetry-server's; a captive portal or another "
                    "service may be in the way",
                cause_of(response));
  }
  if (heals_with_time(status)) {
    v1::Outcome outcome = retry(describe(response), cause_of(response));
    outcome.set_retry_after_ms(static_cast<std::uint64_t>(retry_after(response).count()));
    return outcome;
  }
  return hold(describe(response), cause_of(response));
}

}  // namespace

std::string describe(const HttpResponse& response) {
  return describe(response, advice);
}

v1::Outcome judge(const HttpResponse& response, const BatchLayout& layout) {
  v1::Outcome outcome;
  switch (response.kind) {
    case HttpResponse::Kind::kAnswer: outcome = judge_answer(response, layout); break;
    case HttpResponse::Kind::kTls:
    case HttpResponse::Kind::kSetup: outcome = hold(describe(response), response.cause); break;
    case HttpResponse::Kind::kTooLarge:
    case HttpResponse::Kind::kNetwork: outcome = retry(describe(response), response.cause); break;
  }
  outcome.set_status(static_cast<std::uint32_t>(response.status));
  note(response, outcome);
  return outcome;
}

}  // namespace telemetryd::forward
