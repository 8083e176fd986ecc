#include "kit/signature.h"

namespace telemetryd::kit {

std::string string_to_sign(SignatureForm form, const SignedRequest& request) {
  std::string text;
  text.reserve(request.timestamp.size() + request.nonce.size() + request.body.size() + 2);
  text.append(request.timestamp).push_back(':');
  if (form == SignatureForm::kNonce) text.append(request.nonce).push_back(':');
  return text.append(request.body);
}

}  // namespace telemetryd::kit
