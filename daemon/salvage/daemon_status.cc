#include "salvage/daemon_status.h"

#include <memory>
#include <string>
#include <sys/stat.h>

#include <curl/curl.h>
#include <nlohmann/json.hpp>

#include "store/open_database.h"
#include "store/row_parts.h"
#include "store/schema.h"

namespace telemetryd::salvage {
namespace {

constexpr std::size_t kAnswerBytesMax = 1u << 20;
// B-trees and the free list, and commits of others meanwhile.
constexpr std::uint64_t kSpareBytes = 64 * store::kPageBytes;

std::size_t append(char* data, std::size_t, std::size_t bytes, void* user) {
  auto& answer = *static_cast<std::string*>(user);
  if (answer.size() + bytes > kAnswerBytesMax) return 0;
  answer.append(data, bytes);
  return bytes;
}

Result<nlohmann::json> ask(const std::filesystem::path& admin_socket) {
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(),
                                                                 curl_easy_cleanup);
  if (!curl) return fail(ErrorCode::kUnavailable, "libcurl cannot be initialised");
  std::string answer;
  curl_easy_setopt(curl.get(), CURLOPT_URL, "http://localhost/v1/status");
  curl_easy_setopt(curl.get(), CURLOPT_UNIX_SOCKET_PATH, admin_socket.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_PROXY, "");
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, static_cast<long>(kStatusMax.count()));
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, append);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &answer);
  if (const CURLcode code = curl_easy_perform(curl.get()); code != CURLE_OK) {
    return fail(ErrorCode::kUnavailable, admin_socket.native() + ": " + curl_easy_strerror(code));
  }
  return nlohmann::json::parse(answer, nullptr, false);
}

// std::filesystem::equivalent does not take sockets.
bool same_socket(const std::filesystem::path& one, const std::filesystem::path& other) {
  struct stat first{};
  struct stat second{};
  return ::stat(one.c_str(), &first) == 0 && ::stat(other.c_str(), &second) == 0 &&
         first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

}  // namespace

Result<DaemonStatus> daemon_status(const std::filesystem::path& ingest_socket) {
  const std::filesystem::path admin_socket = ingest_socket.parent_path() / "admin.sock";
  TELEMETRYD_ASSIGN(const nlohmann::json json, ask(admin_socket));
  try {
    if (!same_socket(json.at("paths").at("ingest_socket").get<std::string>(), ingest_socket)) {
      return fail(ErrorCode::kUnavailable,
                  admin_socket.native() + ": belongs to another telemetryd");
    }
    const nlohmann::json& store = json.at("store");
    return DaemonStatus{
        .store_bytes = store.at("bytes").get<std::uint64_t>(),
        .store_bytes_max = store.at("bytes_max").get<std::uint64_t>(),
        .evicted = json.at("ledger").at("evicted").at("total").get<std::uint64_t>()};
  } catch (const nlohmann::json::exception&) {
    return fail(ErrorCode::kUnavailable, admin_socket.native() + ": does not say how full it is");
  }
}

std::uint64_t room_for_rows(const DaemonStatus& status) {
  store::Options options;
  options.bytes_max = status.store_bytes_max;
  const std::uint64_t most = store::split_quota(options).pages * store::kPageBytes;
  const std::uint64_t taken = status.store_bytes + kSpareBytes;
  return most > taken ? most - taken : 0;
}

std::uint64_t stored_bytes(std::uint64_t batch_bytes, std::uint64_t context_bytes) {
  const std::uint64_t bytes = batch_bytes + context_bytes + store::kRowOverheadBytes;
  return (bytes / store::kPageBytes + 1) * store::kPageBytes;
}

}  // namespace telemetryd::salvage
