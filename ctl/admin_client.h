// ctl/admin_client.h: asks the daemon over its admin socket, as anybody could with curl.
//
// docs/admin-api.md says what can be asked. The only file that knows libcurl.
//
// Owns:    one connection, reused.
// Thread:  the one that made it.
// Limits:  answers of 16 MiB, stream lines of 1 MiB, 2 s to connect, the caller's time to answer.
// Fails:   kUnavailable when nobody answers on the socket (exit code 3); otherwise the daemon's own
//          message, with the code that fits the HTTP status.

#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.h"

namespace telemetryd::ctl {

class AdminClient {
 public:
  static constexpr std::chrono::milliseconds kAnswerTimeDefault{30'000};

  explicit AdminClient(std::filesystem::path socket);
  ~AdminClient();
  AdminClient(const AdminClient&) = delete;
  AdminClient& operator=(const AdminClient&) = delete;

  [[nodiscard]] Result<nlohmann::json> get(
      const std::string& path, std::chrono::milliseconds answer_time = kAnswerTimeDefault);
  [[nodiscard]] Result<nlohmann::json> post(
      const std::string& path,
      const nlohmann::json& body,
      std::chrono::milliseconds answer_time = kAnswerTimeDefault);

  // Calls `on_line` for each line of an NDJSON stream until it returns false (then the result is
  // good) or the daemon ends the stream.
  [[nodiscard]] Result<void> stream(const std::string& path,
                                    const std::function<bool(std::string_view)>& on_line);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// `text` as a value in a query: everything but letters, digits and -._~ percent-encoded.
std::string query_escape(std::string_view text);

}  // namespace telemetryd::ctl
