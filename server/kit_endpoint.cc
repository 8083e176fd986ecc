#include "server/kit_endpoint.h"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "kit/read_body.h"
#include "kit/signature.h"
#include "server/header_fields.h"
#include "server/upload_exchange.h"

namespace telemetryd::server {
namespace {

constexpr std::string_view kPrefix = "/v1/ingest/";
constexpr std::string_view kAlias = "/events/batch";

using Json = nlohmann::ordered_json;

std::string told(const Stored& stored) {
  std::string message = std::to_string(stored.accepted) + " events stored";
  if (stored.known() == 0) return message;
  return message + ", " + std::to_string(stored.known()) + " were here already";
}

Json errors_of(const std::vector<kit::Rejected>& rejected) {
  Json errors = Json::array();
  for (const kit::Rejected& event : rejected) {
    errors.push_back({{"event_id", uuid_text(event.id)},
                      {"error", event.code},
                      {"message", event.message},
                      {"index", event.index}});
  }
  return errors;
}

Answer answer_of(const Stored& stored, const std::vector<kit::Rejected>& rejected) {
  const std::uint32_t accepted = stored.accepted + stored.known();
  if (rejected.empty()) {
    const Json body{
        {"status", "success"}, {"accepted", accepted}, {"rejected", 0}, {"message", told(stored)}};
    return {.status = 200, .body = body.dump()};
  }
  Json body;
  if (accepted > 0) {
    body["status"] = "partial";
  } else {
    body["error"] = {{"code", "bad_request"}, {"message", "every event was rejected"}};
  }
  body["accepted"] = accepted;
  body["rejected"] = rejected.size();
  body["errors"] = errors_of(rejected);
  return {.status = accepted > 0 ? 207u : 400u, .body = body.dump()};
}

Answer answer_of(const kit::BodyFlaw& flaw) {
  if (flaw.too_many) return error_answer(413, "payload_too_large", flaw.message);
  return error_answer(400, "bad_request", flaw.message);
}

// The bytes of a request in the nonce form are also those of one in the plain form whose body
// begins with nonce and colon. Neither JSON nor anything else we take begins so.
bool could_be_nonce_form(std::string_view body) {
  constexpr std::size_t kNonceBytes = 36;
  return body.size() > kNonceBytes && body[kNonceBytes] == ':' &&
         parse_nonce(body.substr(0, kNonceBytes)).has_value();
}

std::vector<NewEvent> views_of(const std::vector<kit::ReadEvent>& events,
                               const std::vector<std::string_view>& payloads) {
  std::vector<NewEvent> views;
  views.reserve(events.size());
  for (std::size_t i = 0; i < events.size(); ++i) {
    const kit::ReadEvent& event = events[i];
    views.push_back({.id = as_text(event.id),
                     .name = event.name,
                     .payload = payloads[i],
                     .machine_id = event.machine_id,
                     .app = event.app,
                     .kind = static_cast<std::int64_t>(event.kind),
                     .time_unix_nano = static_cast<std::int64_t>(event.time_unix_nano)});
  }
  return views;
}

class KitExchange final : public UploadExchange {
 public:
  KitExchange(Gate& gate,
              EventStore& events,
              std::optional<RateState> rate,
              kit::BodyShape shape,
              bool plain,
              KitHeaders headers,
              std::vector<Credential> candidates,
              FailureLimiter::Sender sender)
      : UploadExchange(gate, events, rate),
        shape_(shape),
        plain_(plain),
        headers_(std::move(headers)),
        candidates_(std::move(candidates)),
        sender_(sender) {}

 private:
  std::optional<Answer> read(std::string body) override;
  Tell tell() override;

  // The candidate whose secret signed the request in this form.
  const Credential* signer(kit::SignatureForm form, std::string_view body) const;
  std::optional<Answer> fill(std::string body);
  // What must not come twice.
  Bytes16 mark(kit::SignatureForm form) const;

  const kit::BodyShape shape_;
  const bool plain_;  // the plain form is taken too
  const KitHeaders headers_;
  const std::vector<Credential> candidates_;  // one, unless the token is missing
  const FailureLimiter::Sender sender_;
  std::vector<kit::Rejected> rejected_;
};

const Credential* KitExchange::signer(kit::SignatureForm form, std::string_view body) const {
  const std::string to_sign = kit::string_to_sign(
      form, {.timestamp = headers_.timestamp, .nonce = headers_.nonce_text, .body = body});
  const auto signed_it = [&](const Credential& candidate) {
    return equal_constant_time(hmac_sha256(candidate.secret.text(), to_sign), headers_.signature);
  };
  const auto found = std::ranges::find_if(candidates_, signed_it);
  return found == candidates_.end() ? nullptr : &*found;
}

// A nonce that is not signed can be changed by whoever captured the request.
Bytes16 KitExchange::mark(kit::SignatureForm form) const {
  if (form == kit::SignatureForm::kNonce) return *headers_.nonce;
  Bytes16 first{};
  std::copy_n(headers_.signature.begin(), first.size(), first.begin());
  return first;
}

std::optional<Answer> KitExchange::read(std::string body) {
  if (auto refused = gate().check_failures(sender_)) return refused;
  auto form = kit::SignatureForm::kNonce;
  const Credential* credential = headers_.nonce ? signer(form, body) : nullptr;
  if (credential == nullptr && plain_ && !could_be_nonce_form(body)) {
    form = kit::SignatureForm::kPlain;
    credential = signer(form, body);
  }
  if (credential == nullptr) return gate().wrong_signature(sender_);
  if (!headers_.token) {
    // Only now is it known whose requests these are; a stranger's do not count.
    std::optional<RateState> rate;
    if (auto refused = gate().check_rate(*credential, rate)) return refused;
    set_rate(rate);
  }
  if (auto refused = check_fresh(*credential, mark(form))) return refused;
  return fill(std::move(body));
}

std::optional<Answer> KitExchange::fill(std::string body) {
  Submission& to = submission();
  // First to where it stays, then read: a move of a short string would leave the views behind.
  to.body = std::make_unique<const std::string>(std::move(body));
  auto read = kit::read_body(*to.body, shape_, headers_.batch_size);
  if (!read) return answer_of(read.error());
  if (headers_.do_not_track) {
    to.do_not_track = true;
    to.withheld = read->total;
    to.body.reset();
    return std::nullopt;
  }
  const auto texts = std::make_shared<const std::vector<kit::ReadEvent>>(std::move(read->events));
  to.events = views_of(*texts, read->payloads);
  to.texts = texts;
  to.format = EventFormat::kTelemetryKit;
  to.rejected = static_cast<std::uint32_t>(read->rejected.size());
  rejected_ = std::move(read->rejected);
  return std::nullopt;
}

UploadExchange::Tell KitExchange::tell() {
  if (headers_.do_not_track) return [](const Stored&) { return Answer{.status = 204}; };
  return [rejected = std::move(rejected_)](const Stored& stored) {
    return answer_of(stored, rejected);
  };
}

}  // namespace

bool KitEndpoint::owns(std::string_view path) const {
  return path == kAlias || parse_upload_path(kPrefix, path).has_value();
}

Admission KitEndpoint::begin(const RequestHead& head) {
  if (auto refused = check_length(head, kKitBodyBytesMax, "5 MiB")) return std::move(*refused);
  const auto path = parse_upload_path(kPrefix, head.path);
  // The alias has no path to find a secret by.
  const KitLeniency leniency{.plain_signatures = leniency_.plain_signatures,
                             .missing_token = leniency_.missing_token && path};
  auto headers = parse_kit_headers(head, leniency);
  if (!headers) return std::move(headers.error());
  std::vector<Credential> candidates;
  if (headers->token) {
    auto credential = gate_.find(*headers->token);
    if (!credential) return std::move(credential.error());
    if (path && !credential->is_for(path->organization, path->application)) {
      return wrong_application();
    }
    candidates.push_back(std::move(*credential));
  } else {
    auto found = gate_.find(path->organization, path->application);
    if (!found) return std::move(found.error());
    candidates = std::move(*found);
  }
  if (auto refused = gate_.check_time(headers->timestamp_s)) return std::move(*refused);
  const FailureLimiter::Sender sender{.network = head.network,
                                      .application = candidates.front().application,
                                      .token = headers->token ? candidates.front().token : 0};
  if (auto refused = gate_.check_failures(sender)) return std::move(*refused);
  std::optional<RateState> rate;
  if (headers->token) {
    if (auto refused = gate_.check_rate(candidates.front(), rate)) return std::move(*refused);
  }
  return std::make_unique<KitExchange>(gate_,
                                       events_,
                                       rate,
                                       path ? kit::BodyShape::kObject : kit::BodyShape::kArray,
                                       leniency_.plain_signatures,
                                       std::move(*headers),
                                       std::move(candidates),
                                       sender);
}

}  // namespace telemetryd::server
