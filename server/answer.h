// server/answer.h: what goes back to a client, before it is HTTP.
//
// Thread:  any; a value.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace telemetryd::server {

struct Answer {
  unsigned status = 200;
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
  // The connection cannot be used further, because what the client still sends is not read.
  bool close = false;
};

// {"error":{"code":…,"message":…}}, with "retry_after" and its header when a time is given.
// `message` is ours: never the text of a library or the bytes of a client.
Answer error_answer(unsigned status,
                    std::string_view code,
                    std::string_view message,
                    std::optional<std::int64_t> retry_after_s = std::nullopt);

}  // namespace telemetryd::server
