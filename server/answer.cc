#include "server/answer.h"

#include <nlohmann/json.hpp>

namespace telemetryd::server {

Answer error_answer(unsigned status,
                    std::string_view code,
                    std::string_view message,
                    std::optional<std::int64_t> retry_after_s) {
  Answer answer{.status = status};
  nlohmann::ordered_json body{{"error", {{"code", code}, {"message", message}}}};
  if (retry_after_s) {
    body["retry_after"] = *retry_after_s;
    answer.headers.emplace_back("Retry-After", std::to_string(*retry_after_s));
  }
  answer.body = body.dump();
  return answer;
}

}  // namespace telemetryd::server
