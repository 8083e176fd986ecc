#include "server/upload_exchange.h"

#include <set>
#include <utility>

namespace telemetryd::server {
namespace {

void add_mute_header(Answer& answer, const std::string& list) {
  if (!list.empty()) answer.headers.emplace_back("Telemetry-Mute", list);
}

}  // namespace

std::optional<Answer> UploadExchange::receive(std::string body) {
  auto answer = read(std::move(body));
  if (answer && rate_) add_rate_headers(*answer, *rate_);
  if (answer) add_mute_header(*answer, muted());
  return answer;
}

void UploadExchange::submit(std::function<void(Answer)> reply) {
  submission_.done = [tell = tell(), rate = rate_, list = muted(), reply = std::move(reply)](
                         const Result<Stored>& stored) {
    Answer answer = stored ? tell(*stored) : storage_unavailable(stored.error().code());
    if (rate) add_rate_headers(answer, *rate);
    add_mute_header(answer, list);
    reply(std::move(answer));
  };
  events_.submit(std::move(submission_));
}

std::string UploadExchange::muted() const {
  if (mutes_.empty()) return {};
  std::set<std::string_view> apps;
  for (const NewEvent& event : submission_.events) apps.insert(event.app);
  return mute_list(mutes_, apps, gate_.clock().unix_ms());
}

std::optional<Answer> UploadExchange::check_fresh(const Credential& credential,
                                                  const Bytes16& nonce) {
  mutes_ = credential.mutes;
  if (auto refused = gate_.check_fresh(credential, nonce)) return refused;
  submission_.application = credential.application;
  submission_.token = credential.token;
  submission_.nonce = nonce;
  submission_.received = gate_.clock().unix_ms();
  submission_.nonce_expires_s = submission_.received / 1000 + kNonceLifeS;
  return std::nullopt;
}

}  // namespace telemetryd::server
