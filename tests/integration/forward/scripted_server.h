// integration/forward/scripted_server.h: an HTTP(S) server on 127.0.0.1 that answers what the test
// says, and certificates made for the occasion.

#pragma once

#include <arpa/inet.h>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <netinet/in.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/unique_fd.h"

namespace telemetryd::test {

struct Identity {
  std::shared_ptr<EVP_PKEY> key;
  std::shared_ptr<X509> certificate;

  void save(const std::filesystem::path& certificate_file,
            const std::filesystem::path& key_file) const {
    FILE* out = std::fopen(certificate_file.c_str(), "w");
    PEM_write_X509(out, certificate.get());
    std::fclose(out);
    out = std::fopen(key_file.c_str(), "w");
    PEM_write_PrivateKey(out, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(out);
  }
};

inline void add_extension(X509* certificate, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

// A certificate for `alt_name` ("IP:127.0.0.1"), or an authority when that is empty; signed by
// `issuer`, or by itself. Valid from yesterday for `days`.
inline Identity make_identity(const std::string& name,
                              const std::string& alt_name,
                              const Identity* issuer,
                              int days = 2) {
  Identity made;
  made.key = std::shared_ptr<EVP_PKEY>(EVP_EC_gen("P-256"), EVP_PKEY_free);
  made.certificate = std::shared_ptr<X509>(X509_new(), X509_free);
  X509* certificate = made.certificate.get();
  static std::atomic<long> serial = 1;
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
  constexpr long kDay = 86400;
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3 * kDay);
  X509_gmtime_adj(X509_getm_notAfter(certificate), days * kDay);
  X509_set_pubkey(certificate, made.key.get());
  X509_NAME* subject = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(
      subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_issuer_name(
      certificate, issuer != nullptr ? X509_get_subject_name(issuer->certificate.get()) : subject);
  add_extension(certificate,
                NID_basic_constraints,
                alt_name.empty() ? "critical,CA:TRUE" : "critical,CA:FALSE");
  if (!alt_name.empty()) add_extension(certificate, NID_subject_alt_name, alt_name.c_str());
  X509_sign(certificate, issuer != nullptr ? issuer->key.get() : made.key.get(), EVP_sha256());
  return made;
}

struct SeenRequest {
  std::string head;  // request line and headers
  std::string body;

  std::string header(const std::string& name) const {
    const std::size_t at = head.find("\r\n" + name + ": ");
    if (at == std::string::npos) return "";
    const std::size_t from = at + name.size() + 4;
    return head.substr(from, head.find("\r\n", from) - from);
  }
};

// One connection after the other, requests in turn. The answer is the raw bytes of a response; an
// empty one closes the connection, "hang" leaves it silent until the client goes, and what follows
// "cut " is sent before the connection is closed.
class ScriptedServer {
 public:
  using Answer = std::function<std::string(const SeenRequest&)>;

  static constexpr std::string_view kCut = "cut ";

  struct Tls {
    Identity identity;
    const Identity* client_authority = nullptr;  // set: a client certificate is required
  };

  explicit ScriptedServer(Answer answer, const Tls* tls = nullptr) : answer_(std::move(answer)) {
    // OpenSSL writes without MSG_NOSIGNAL, also to clients that hung up on a bad certificate.
    std::signal(SIGPIPE, SIG_IGN);
    if (tls != nullptr) make_context(*tls);
    listener_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_.get(), 8), 0);
    EXPECT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::jthread([this] { serve(); });
  }

  ~ScriptedServer() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
      if (connection_ >= 0) ::shutdown(connection_, SHUT_RDWR);
    }
    thread_.join();
  }

  std::string url(const std::string& host = "127.0.0.1") const {
    return (context_ ? "https://" : "http://") + host + ":" + std::to_string(port_);
  }

  std::vector<SeenRequest> seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }

  int connections() const { return connections_; }

 private:
  void make_context(const Tls& tls) {
    context_ = std::shared_ptr<SSL_CTX>(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
    SSL_CTX_use_certificate(context_.get(), tls.identity.certificate.get());
    SSL_CTX_use_PrivateKey(context_.get(), tls.identity.key.get());
    if (tls.client_authority != nullptr) {
      X509_STORE_add_cert(SSL_CTX_get_cert_store(context_.get()),
                          tls.client_authority->certificate.get());
      SSL_CTX_set_verify(
          context_.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    }
  }

  void serve() {
    for (;;) {
      const UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!fd) return;
      ++connections_;
      {
        const std::lock_guard lock(mutex_);
        if (closing_) return;
        connection_ = fd.get();
      }
      serve_connection(fd.get());
      const std::lock_guard lock(mutex_);
      connection_ = -1;
    }
  }

  void serve_connection(int fd) {
    std::unique_ptr<SSL, decltype(&SSL_free)> ssl(context_ ? SSL_new(context_.get()) : nullptr,
                                                  SSL_free);
    if (ssl) {
      SSL_set_fd(ssl.get(), fd);
      if (SSL_accept(ssl.get()) != 1) {
        // Closing with unread bytes would reset the connection and take our alert with it.
        ::shutdown(fd, SHUT_WR);
        char byte = 0;
        while (::recv(fd, &byte, 1, 0) > 0) {
        }
        return;
      }
    }
    const auto read = [&](char* into, int size) {
      return ssl ? SSL_read(ssl.get(), into, size)
                 : static_cast<int>(::recv(fd, into, static_cast<std::size_t>(size), 0));
    };
    std::string input;
    SeenRequest request;
    while (read_request(read, input, request)) {
      {
        const std::lock_guard lock(mutex_);
        seen_.push_back(request);
      }
      std::string reply = answer_(request);
      const bool cut = reply.starts_with(kCut);
      if (cut) reply.erase(0, kCut.size());
      if (reply.empty()) return;
      if (reply == "hang") {
        char byte = 0;
        while (read(&byte, 1) > 0) {
        }
        return;
      }
      const auto size = static_cast<int>(reply.size());
      const int sent = ssl ? SSL_write(ssl.get(), reply.data(), size)
                           : static_cast<int>(::send(fd, reply.data(), reply.size(), MSG_NOSIGNAL));
      if (sent != size || cut) return;
    }
  }

  template <typename Read>
  static bool read_request(const Read& read, std::string& input, SeenRequest& request) {
    const auto more = [&] {
      std::array<char, 65536> chunk{};
      const int got = read(chunk.data(), static_cast<int>(chunk.size()));
      if (got > 0) input.append(chunk.data(), static_cast<std::size_t>(got));
      return got > 0;
    };
    std::size_t end = std::string::npos;
    while ((end = input.find("\r\n\r\n")) == std::string::npos) {
      if (!more()) return false;
    }
    request.head = input.substr(0, end + 2);
    const std::string length = request.header("Content-Length");
    const std::size_t size = length.empty() ? 0 : std::stoul(length);
    while (input.size() < end + 4 + size) {
      if (!more()) return false;
    }
    request.body = input.substr(end + 4, size);
    input.erase(0, end + 4 + size);
    return true;
  }

  Answer answer_;
  std::shared_ptr<SSL_CTX> context_;
  UniqueFd listener_;
  int port_ = 0;
  mutable std::mutex mutex_;
  std::vector<SeenRequest> seen_;
  int connection_ = -1;
  bool closing_ = false;
  std::atomic<int> connections_ = 0;
  std::jthread thread_;
};

inline std::string http_answer(const std::string& status,
                               const std::string& body,
                               const std::string& headers = "") {
  return "HTTP/1.1 " + status + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         headers + "\r\n" + body;
}

inline std::string http_success(int accepted) {
  return http_answer("200 OK",
                     R"({"status":"success","accepted":)" + std::to_string(accepted) +
                         R"(,"duplicates":0,"rejected":0,"errors":[]})",
                     "Content-Type: application/json\r\n");
}

}  // namespace telemetryd::test
