#include "gateway/remote.h"

#include <cerrno>
#include <strings.h>
#include <sys/stat.h>
#include <utility>

#include <openssl/crypto.h>

#include "base/io.h"

namespace telemetryd::gateway {
namespace {

constexpr std::size_t kPemBytesMax = 256u << 10;
constexpr std::size_t kTokenBytesMax = 4096;
constexpr std::string_view kScheme = "Bearer ";

// `key` of `[gateway]` names the file.
std::string words_of(const char* key, const std::filesystem::path& path) {
  return std::string("[gateway] ") + key + ": " + path.native();
}

Result<std::string> read_whole(const char* key,
                               const std::filesystem::path& path,
                               std::size_t bytes_max) {
  auto text = read_file(path, bytes_max);
  if (!text) return fail(text.error().with_context(std::string("[gateway] ") + key));
  if (text->find_first_not_of(" \t\r\n") == std::string::npos) {
    return fail(ErrorCode::kInvalidArgument, words_of(key, path) + ": is empty");
  }
  return text;
}

Result<std::string> read_secret(const char* key,
                                const std::filesystem::path& path,
                                std::size_t bytes_max) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return fail(error_from_errno(errno, words_of(key, path)));
  if ((info.st_mode & S_IRWXO) != 0) {
    return fail(ErrorCode::kPermissionDenied,
                words_of(key, path) + ": everybody may open it; chmod 0640 " + path.native() +
                    " and change what is in it");
  }
  return read_whole(key, path, bytes_max);
}

}  // namespace

Result<Remote> read_remote(const config::Config::Gateway& gateway) {
  Remote remote;
  if (!gateway.tls_cert_file.empty()) {
    TELEMETRYD_ASSIGN(remote.tls.certificate,
                      read_whole("tls_cert_file", gateway.tls_cert_file, kPemBytesMax));
    TELEMETRYD_ASSIGN(remote.tls.key,
                      read_secret("tls_key_file", gateway.tls_key_file, kPemBytesMax));
  }
  if (!gateway.client_ca_file.empty()) {
    TELEMETRYD_ASSIGN(remote.tls.client_ca,
                      read_whole("client_ca_file", gateway.client_ca_file, kPemBytesMax));
  }
  if (!gateway.token_file.empty()) {
    TELEMETRYD_ASSIGN(const std::string text,
                      read_secret("token_file", gateway.token_file, kTokenBytesMax));
    const std::size_t begin = text.find_first_not_of(" \t\r\n");
    const std::size_t end = text.find_last_not_of(" \t\r\n") + 1;
    remote.token = text.substr(begin, end - begin);
    if (remote.token.find_first_of(" \t\r\n") != std::string::npos) {
      return fail(ErrorCode::kInvalidArgument,
                  words_of("token_file", gateway.token_file) + ": holds more than one word");
    }
  }
  return remote;
}

Result<void> check_exposure(bool loopback, const Remote& remote) {
  if (loopback) return {};
  if (remote.tls.certificate.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "[gateway] a TCP socket that other machines reach needs tls_cert_file and "
                "tls_key_file");
  }
  if (remote.tls.client_ca.empty() && remote.token.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "[gateway] a TCP socket that other machines reach needs client_ca_file or "
                "token_file, or everybody may send");
  }
  return {};
}

bool token_matches(std::string_view authorization, std::string_view token) {
  if (authorization.size() != kScheme.size() + token.size()) return false;
  if (::strncasecmp(authorization.data(), kScheme.data(), kScheme.size()) != 0) return false;
  return CRYPTO_memcmp(authorization.data() + kScheme.size(), token.data(), token.size()) == 0;
}

}  // namespace telemetryd::gateway
