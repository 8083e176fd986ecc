#include "server/upload_exchange.h"

#include <utility>

namespace telemetryd::server {
std::optional<Answer> UploadExchange::receive(std::string body) {
  auto answer = read(std::move(body));
  if (answer && rate_) add_rate_headers(*answer, *rate_);
  return answer;
}

void UploadExchange::submit(std::function<void(Answer)> reply) {
  submission_.done =
      [tell = tell(), rate = rate_, reply = std::move(reply)](const Result<Stored>& stored) {
        Answer answer = stored ? tell(*stored) : storage_unavailable(stored.error().code());
        if (rate) add_rate_headers(answer, *rate);
        reply(std::move(answer));
      };
  events_.submit(std::move(submission_));
}

std::optional<Answer> UploadExchange::check_fresh(const Credential& credential,
                                                  const Bytes16& nonce) {
  if (auto refused = gate_.check_fresh(credential, nonce)) return refused;
  submission_.application = credential.application;
  submission_.token = credential.token;
  submission_.nonce = nonce;
  submission_.received = gate_.clock().unix_ms();
  submission_.nonce_expires_s = submission_.received / 1000 + kNonceLifeS;
  return std::nullopt;
}

}  // namespace telemetryd::server
