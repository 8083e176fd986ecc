#include "forward/ingest_verdict.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "forward/answer.h"
#include "forward/sink.h"

namespace telemetryd::forward {
namespace {

using nlohmann::json;
using Kind = IngestVerdict::Kind;

IngestVerdict verdict_of(Kind kind, v1::Cause cause, std::string_view words) {
  IngestVerdict verdict;
  verdict.kind = kind;
  verdict.cause = cause;
  verdict.words = printable(words);
  return verdict;
}

std::string lower(std::string text) {
  std::ranges::transform(
      text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// Where each event of a request is, by its ID. One ID may stand there twice, when an app recorded
// it twice; a server that keeps the first refuses the last.
using Places = std::map<std::string, std::vector<std::size_t>>;

Places places_of(std::span<const kit::WrittenEvent> sent) {
  Places places;
  for (std::size_t i = 0; i < sent.size(); ++i) places[sent[i].id].push_back(i);
  return places;
}

// Takes the place that an entry speaks of out of those that are left of its ID: the one that
// `index` says when it is one of them.
std::size_t take_place(const json& error, std::vector<std::size_t>& places) {
  auto place = std::prev(places.end());
  if (const auto index = count_of(error, "index")) {
    const auto named = std::ranges::find(places, *index);
    if (named != places.end()) place = named;
  }
  const std::size_t taken = *place;
  places.erase(place);
  return taken;
}

// What a list of errors says about the events of a request.
struct Findings {
  std::vector<IngestVerdict::Refused> refused;
  std::vector<IngestVerdict::Refused> unstorable;
  std::size_t duplicates = 0;
  std::string stranger;  // the ID of an event that was not sent
};

// Nothing when an entry is none or says more about an event than can be true.
std::optional<Findings> read_errors(const json& errors, std::span<const kit::WrittenEvent> sent) {
  Findings findings;
  Places places = places_of(sent);
  for (const json& error : errors) {
    if (!error.is_object()) return std::nullopt;
    const std::string id = lower(text_of(error, "event_id"));
    const auto named = places.find(id);
    if (named == places.end()) {
      findings.stranger = id.empty() ? "without event_id" : id;
      continue;
    }
    if (named->second.empty()) return std::nullopt;
    const std::string code = text_of(error, "error");
    IngestVerdict::Refused refused{take_place(error, named->second), printable(error_words(error))};
    if (code == "duplicate") {
      ++findings.duplicates;
    } else if (code == "database_error") {
      findings.unstorable.push_back(std::move(refused));
    } else {
      findings.refused.push_back(std::move(refused));
    }
  }
  return findings;
}

IngestVerdict verdict_of(Findings findings, std::size_t sent, std::uint32_t tries) {
  if (!findings.stranger.empty()) {
    return verdict_of(
        Kind::kRetry,
        v1::CAUSE_UNEXPECTED_ANSWER,
        "the server's answer speaks of an event that was not sent (" + findings.stranger + ")");
  }
  const std::size_t kept = sent - findings.refused.size() - findings.unstorable.size();
  if (!findings.unstorable.empty() && (kept == 0 || tries < kUnstorableTries)) {
    IngestVerdict verdict = verdict_of(
        Kind::kRetry,
        v1::CAUSE_SERVER,
        "the server could not store " + std::to_string(findings.unstorable.size()) + " of " +
            std::to_string(sent) + " events: " + findings.unstorable.front().reason);
    verdict.unstorable = true;
    return verdict;
  }
  IngestVerdict verdict;
  verdict.kind = Kind::kTaken;
  verdict.refused = std::move(findings.refused);
  verdict.unstorable = !findings.unstorable.empty();
  std::ranges::move(findings.unstorable, std::back_inserter(verdict.refused));
  verdict.duplicates = findings.duplicates;
  return verdict;
}

bool agrees(std::optional<std::uint64_t> count, std::size_t wanted) {
  return count && *count == wanted;
}

// The events that a success neither accepted nor rejected: some servers ignore duplicates and count
// them nowhere. Nothing when the answer does not add up, or does not call itself a result: what
// leaves events out must at least say in the format's own words what became of the others.
std::optional<std::size_t> ignored_by(const json& answer, std::size_t sent, std::size_t errors) {
  const std::string status = text_of(answer, "status");
  const bool named = status == "success" || status == "partial";
  if (!named && !status.empty()) return std::nullopt;
  const auto accepted = count_of(answer, "accepted");
  if (!accepted || !agrees(count_of(answer, "rejected"), errors)) return std::nullopt;
  if (*accepted > sent - errors) return std::nullopt;
  const std::size_t ignored = sent - errors - *accepted;
  if (ignored != 0 && !named) return std::nullopt;
  return ignored;
}

// An answer that speaks about each event. Nothing when it does not, or does not add up: errors must
// name as many events as were rejected, and no more than the rest may be what was accepted.
std::optional<IngestVerdict> read_result(const HttpResponse& response,
                                         std::span<const kit::WrittenEvent> sent,
                                         std::uint32_t tries) {
  const json answer = parse_answer(response.body);
  if (!answer.is_object()) return std::nullopt;
  const auto found = answer.find("errors");
  const json errors = found != answer.end() && found->is_array() ? *found : json::array();
  if (errors.size() > sent.size()) return std::nullopt;
  std::size_t ignored = 0;
  if (response.status == 200 || response.status == 207) {
    const auto found_ignored = ignored_by(answer, sent.size(), errors.size());
    if (!found_ignored) return std::nullopt;
    ignored = *found_ignored;
  } else {
    if (errors.empty() || errors.size() != sent.size()) return std::nullopt;
    if (answer.contains("accepted") && !agrees(count_of(answer, "accepted"), 0)) {
      return std::nullopt;
    }
  }
  auto findings = read_errors(errors, sent);
  if (!findings) return std::nullopt;
  findings->duplicates += ignored;
  return verdict_of(std::move(*findings), sent.size(), tries);
}

std::string_view advice(long status) {
  switch (status) {
    case 401: return "check token_file, secret_file and signature (nonce or plain)";
    case 403: return "check the token's rights for org and app, and this machine's clock";
    case 404:
    case 405: return "is url a telemetry-kit server, and do org and app exist?";
    default: return "";
  }
}

// Whether a refusal of everything is about how much it was.
bool names_size(const HttpResponse& response) {
  constexpr std::size_t kReadMax = 4096;
  const std::string text = lower(response.body.substr(0, kReadMax));
  constexpr std::array<std::string_view, 6> kWords = {
      "too large", "too many", "too big", "batch size", "exceed", "payload_too_large"};
  return text.find("mismatch") == std::string::npos &&
         std::ranges::any_of(
             kWords, [&](std::string_view word) { return text.find(word) != std::string::npos; });
}

IngestVerdict judge_answer(const HttpResponse& response,
                           std::span<const kit::WrittenEvent> sent,
                           std::uint32_t tries) {
  const long status = response.status;
  const bool speaks_of_events = status == 200 || status == 207 || status == 400 || status == 422;
  if (speaks_of_events) {
    if (auto result = read_result(response, sent, tries)) return *result;
  }
  if (status == 204) {
    IngestVerdict verdict;
    verdict.kind = Kind::kTaken;
    return verdict;
  }
  if (status == 400 || status == 413 || status == 422) {
    IngestVerdict verdict =
        verdict_of(Kind::kDivide, cause_of(response), describe_ingest(response));
    verdict.too_large = status == 413 || (status == 400 && names_size(response));
    if (verdict.too_large) verdict.cause = v1::CAUSE_SIZE;
    return verdict;
  }
  if (heals_with_time(status)) {
    IngestVerdict verdict = verdict_of(Kind::kRetry, cause_of(response), describe_ingest(response));
    verdict.retry_after = retry_after(response);
    return verdict;
  }
  if (status >= 200 && status < 300) {
    return verdict_of(Kind::kHold,
                      cause_of(response),
                      "status " + std::to_string(status) +
                          " with an answer that does not account for the events; a captive portal "
                          "or another service may be in the way");
  }
  return verdict_of(Kind::kHold, cause_of(response), describe_ingest(response));
}

}  // namespace

std::string describe_ingest(const HttpResponse& response) {
  return describe(response, advice);
}

IngestVerdict judge_ingest(const HttpResponse& response,
                           std::span<const kit::WrittenEvent> sent,
                           std::uint32_t tries) {
  switch (response.kind) {
    case HttpResponse::Kind::kAnswer: return judge_answer(response, sent, tries);
    case HttpResponse::Kind::kTls:
    case HttpResponse::Kind::kSetup:
      return verdict_of(Kind::kHold, cause_of(response), describe_ingest(response));
    case HttpResponse::Kind::kTooLarge:
    case HttpResponse::Kind::kNetwork: break;
  }
  return verdict_of(Kind::kRetry, cause_of(response), describe_ingest(response));
}

}  // namespace telemetryd::forward
