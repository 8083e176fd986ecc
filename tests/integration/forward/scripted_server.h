// integration/forward/scripted_server.h: an HTTP(S) server on 127.0.0.1 that answers what the test
// says, and certificates made for the occasion.

#pragma once

#include <arpa/inet.h>
#include <array>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <linux/filter.h>
#include <list>
#include <memory>
#include <mutex>
#include <netinet/in.h>
#include <poll.h>
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
// `issuer`, or by itself. Valid for `days` from now, since `from_days`.
inline Identity make_identity(const std::string& name,
                              const std::string& alt_name,
                              const Identity* issuer,
                              int days = 2,
                              int from_days = -3) {
  Identity made;
  made.key = std::shared_ptr<EVP_PKEY>(EVP_EC_gen("P-256"), EVP_PKEY_free);
  made.certificate = std::shared_ptr<X509>(X509_new(), X509_free);
  X509* certificate = made.certificate.get();
  static std::atomic<long> serial = 1;
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
  constexpr long kDay = 86400;
  X509_gmtime_adj(X509_getm_notBefore(certificate), from_days * kDay);
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

// A frame of HTTP/2 (RFC 9113, section 4.1) on stream 0.
inline std::string http2_frame(char type, const std::string& payload) {
  return std::string(2, '\0') + static_cast<char>(payload.size()) + type + std::string(5, '\0') +
         payload;
}

// Requests of a connection in turn, one answer at a time. The answer is the raw bytes of a
// response; an empty one closes the connection, and "hang" leaves it silent until the client goes.
// What follows "cut " is sent before the connection is closed, what follows "reset " before it is
// reset, what follows "drip " comes byte by byte, and behind what follows "strand " nothing that
// the client sends arrives any more (not over TLS).
class ScriptedServer {
 public:
  using Answer = std::function<std::string(const SeenRequest&)>;

  static constexpr std::string_view kCut = "cut ";
  static constexpr std::string_view kReset = "reset ";
  static constexpr std::string_view kDrip = "drip ";
  static constexpr std::string_view kStrand = "strand ";

  struct Tls {
    Identity identity;
    const Identity* client_authority = nullptr;  // set: a client certificate is required
    int version_max = 0;                         // TLS1_1_VERSION; 0: as the library likes
    bool goes_away = false;  // the first connection speaks HTTP/2, only to say GOAWAY
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
      for (const UniqueFd& fd : open_) ::shutdown(fd.get(), SHUT_RDWR);
    }
    thread_.join();
    // Joined by their destructors.
    serving_.clear();
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
    if (tls.version_max != 0) {
      // Versions that old need signatures that the library's own level forbids.
      SSL_CTX_set_security_level(context_.get(), 0);
      SSL_CTX_set_min_proto_version(context_.get(), TLS1_VERSION);
      SSL_CTX_set_max_proto_version(context_.get(), tls.version_max);
    }
    goes_away_ = tls.goes_away;
    if (goes_away_) SSL_CTX_set_alpn_select_cb(context_.get(), &choose_protocol, nullptr);
    if (tls.client_authority != nullptr) {
      X509_STORE_add_cert(SSL_CTX_get_cert_store(context_.get()),
                          tls.client_authority->certificate.get());
      SSL_CTX_set_verify(
          context_.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    }
  }

  static int choose_protocol(SSL* ssl,
                             const unsigned char** chosen,
                             unsigned char* size,
                             const unsigned char*,
                             unsigned,
                             void*) {
    const std::string_view name = SSL_get_ex_data(ssl, 0) != nullptr ? "h2" : "http/1.1";
    *chosen = reinterpret_cast<const unsigned char*>(name.data());
    *size = static_cast<unsigned char>(name.size());
    return SSL_TLSEXT_ERR_OK;
  }

  void serve() {
    for (;;) {
      UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!fd) return;
      const int number = ++connections_;
      const std::lock_guard lock(mutex_);
      if (closing_) return;
      open_.push_back(std::move(fd));
      // Closed with the server, so that its number is nobody else's meanwhile.
      serving_.emplace_back([this, served = open_.back().get(), number] {
        if (serve_connection(served, number)) ::shutdown(served, SHUT_RDWR);
      });
    }
  }

  // Whether the connection is to be closed.
  bool serve_connection(int fd, int number) {
    std::unique_ptr<SSL, decltype(&SSL_free)> ssl(context_ ? SSL_new(context_.get()) : nullptr,
                                                  SSL_free);
    if (ssl) {
      SSL_set_fd(ssl.get(), fd);
      if (goes_away_ && number == 1) SSL_set_ex_data(ssl.get(), 0, this);
      if (SSL_accept(ssl.get()) != 1) {
        // Closing with unread bytes would reset the connection and take our alert with it.
        ::shutdown(fd, SHUT_WR);
        char byte = 0;
        while (::recv(fd, &byte, 1, 0) > 0) {
        }
        return true;
      }
    }
    const auto read = [&](char* into, int size) {
      return ssl ? SSL_read(ssl.get(), into, size)
                 : static_cast<int>(::recv(fd, into, static_cast<std::size_t>(size), 0));
    };
    const auto write = [&](std::string_view bytes) {
      const auto size = static_cast<int>(bytes.size());
      return size == (ssl ? SSL_write(ssl.get(), bytes.data(), size)
                          : static_cast<int>(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL)));
    };
    if (goes_away_ && number == 1) {
      say_goaway(read, write);
      return true;
    }
    std::string input;
    SeenRequest request;
    while (read_request(read, input, request)) {
      std::string reply;
      {
        const std::lock_guard lock(mutex_);
        seen_.push_back(request);
      }
      {
        const std::lock_guard lock(answer_mutex_);
        reply = answer_(request);
      }
      const auto told = [&reply](std::string_view how) {
        const bool so = reply.starts_with(how);
        if (so) reply.erase(0, how.size());
        return so;
      };
      const bool cut = told(kCut);
      const bool reset = told(kReset);
      const bool strand = told(kStrand);
      if (told(kDrip)) return drip(fd, reply);
      if (reply.empty()) return true;
      if (reply == "hang") {
        char byte = 0;
        while (read(&byte, 1) > 0) {
        }
        return true;
      }
      if (!write(reply) || cut) return true;
      if (reset) return reset_connection(fd);
      if (strand) return strand_connection(fd);
    }
    return true;
  }

  // The client's preface and first request, then the end of the connection before any of it was
  // looked at: SETTINGS, and GOAWAY whose last stream is 0.
  template <typename Read, typename Write>
  static void say_goaway(const Read& read, const Write& write) {
    write(http2_frame('\x04', ""));
    // Behind the preface of 24 bytes frames of 9 bytes and a payload; HEADERS is type 1.
    std::string bytes;
    for (std::size_t at = 24, type = 0; type != 1;) {
      while (bytes.size() < at + 9) {
        std::array<char, 4096> chunk{};
        const int got = read(chunk.data(), static_cast<int>(chunk.size()));
        if (got <= 0) return;
        bytes.append(chunk.data(), static_cast<std::size_t>(got));
      }
      const auto byte = [&](std::size_t i) {
        return static_cast<std::size_t>(static_cast<unsigned char>(bytes[at + i]));
      };
      type = byte(3);
      at += 9u + (byte(0) << 16u | byte(1) << 8u | byte(2));
    }
    write(http2_frame('\x07', std::string(8, '\0')));
  }

  static bool drip(int fd, std::string_view bytes) {
    for (const char byte : bytes) {
      pollfd client{fd, POLLIN, 0};
      // The client says nothing more; what comes is its end.
      if (::poll(&client, 1, 100) != 0) return true;
      if (::send(fd, &byte, 1, MSG_NOSIGNAL) != 1) return true;
    }
    return true;
  }

  static bool reset_connection(int fd) {
    // The only way to be rid of a socket before its descriptor is closed.
    const sockaddr nowhere{AF_UNSPEC, {}};
    ::connect(fd, &nowhere, sizeof nowhere);
    return false;
  }

  // The kernel drops what arrives for this socket before TCP sees it: no acknowledgement, no reset.
  static bool strand_connection(int fd) {
    sock_filter drop{BPF_RET | BPF_K, 0, 0, 0};
    const sock_fprog program{1, &drop};
    EXPECT_EQ(::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), 0);
    return false;
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

  std::mutex answer_mutex_;
  Answer answer_;
  std::shared_ptr<SSL_CTX> context_;
  UniqueFd listener_;
  int port_ = 0;
  mutable std::mutex mutex_;
  std::vector<SeenRequest> seen_;
  std::list<UniqueFd> open_;
  std::list<std::jthread> serving_;
  bool closing_ = false;
  bool goes_away_ = false;
  std::atomic<int> connections_ = 0;
  std::jthread thread_;
};

// A proxy on 127.0.0.1 that makes one tunnel after the other to the address it is asked for, which
// must be 127.0.0.1 as well.
class TunnelProxy {
 public:
  TunnelProxy() {
    listener_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_.get(), 8), 0);
    EXPECT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::jthread([this] { serve(); });
  }

  ~TunnelProxy() { ::shutdown(listener_.get(), SHUT_RDWR); }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

  // Of the last request; after the client has its answer.
  std::string head() const {
    const std::lock_guard lock(mutex_);
    return head_;
  }

 private:
  static sockaddr_in loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    return address;
  }

  void serve() {
    for (;;) {
      const UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!client) return;
      std::string head;
      char byte = 0;
      while (!head.ends_with("\r\n\r\n") && ::recv(client.get(), &byte, 1, 0) == 1) head += byte;
      {
        const std::lock_guard lock(mutex_);
        head_ = head;
      }
      if (!head.starts_with("CONNECT 127.0.0.1:")) continue;
      const sockaddr_in address = loopback(std::stoi(head.substr(18)));
      const UniqueFd server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      if (::connect(server.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
          0) {
        continue;
      }
      constexpr std::string_view kDone = "HTTP/1.1 200 Connected\r\n\r\n";
      ::send(client.get(), kDone.data(), kDone.size(), MSG_NOSIGNAL);
      while (pass(client.get(), server.get())) {
      }
    }
  }

  // False when one side has ended, or the proxy.
  bool pass(int client, int server) const {
    std::array<pollfd, 3> all = {
        pollfd{client, POLLIN, 0}, pollfd{server, POLLIN, 0}, pollfd{listener_.get(), POLLHUP, 0}};
    if (::poll(all.data(), all.size(), -1) < 0 || all[2].revents != 0) return false;
    std::array<char, 65536> chunk{};
    for (int i = 0; i < 2; ++i) {
      if (all[static_cast<std::size_t>(i)].revents == 0) continue;
      const ssize_t got = ::recv(i == 0 ? client : server, chunk.data(), chunk.size(), 0);
      if (got <= 0) return false;
      const auto size = static_cast<std::size_t>(got);
      if (::send(i == 0 ? server : client, chunk.data(), size, MSG_NOSIGNAL) != got) return false;
    }
    return true;
  }

  UniqueFd listener_;
  int port_ = 0;
  mutable std::mutex mutex_;
  std::string head_;
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
