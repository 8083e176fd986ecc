// unit/server/support.h: batches, signed requests and a raw HTTP client for the server's tests.

#pragma once

#include <arpa/inet.h>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <netinet/in.h>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "server/crypto.h"
#include "server/native_endpoint.h"
#include "telemetry/v1/native.pb.h"

namespace telemetryd::test {

namespace v1 = ::telemetry::v1;

// Time that the test turns while the server's threads read it.
class SharedClock final : public Clock {
 public:
  UnixMs unix_ms() const override { return unix_ms_; }

  BootMs boot_ms() const override { return boot_ms_; }

  void advance(std::chrono::milliseconds by) {
    unix_ms_ += by.count();
    boot_ms_ += by.count();
  }

 private:
  std::atomic<UnixMs> unix_ms_ = 1'732'003'200'000;
  std::atomic<BootMs> boot_ms_ = 1'000'000;
};

inline std::string event_id(std::uint32_t number) {
  std::string id = from_hex("0190163d868f7000b6f1000000000000").value();
  for (int i = 0; i < 4; ++i)
    id[static_cast<std::size_t>(15 - i)] = static_cast<char>(number >> (8 * i));
  return id;
}

// `count` events with the IDs from `first` on.
inline v1::NativeBatch make_batch(std::uint32_t first, std::uint32_t count) {
  v1::NativeBatch batch;
  batch.set_schema(1);
  batch.set_batch_size(count);
  if (count == 0) return batch;
  v1::EventGroup* group = batch.add_groups();
  group->mutable_context()->set_app("mytool");
  group->set_machine_id(std::string(64, 'a'));
  for (std::uint32_t i = 0; i < count; ++i) {
    v1::Event* event = group->add_events();
    event->set_id(event_id(first + i));
    event->set_name("build.finished");
    event->set_time_unix_nano(1'732'003'200'000'000'000);
  }
  return batch;
}

struct Upload {
  std::string path = "/v1/native/acme/tools";
  std::string token;
  std::string secret;
  std::int64_t timestamp_s = 1'732'003'200;
  std::string nonce = uuid_text(random_bytes16());
  std::string body;
  std::uint64_t batch_size = 0;

  std::string signature() const {
    return to_hex(hmac_sha256(
        secret, server::native_string_to_sign(path, std::to_string(timestamp_s), nonce, body)));
  }

  std::map<std::string, std::string> headers() const {
    return {{"Host", "localhost"},
            {"Authorization", "Bearer " + token},
            {"Content-Type", "application/x-protobuf"},
            {"X-Timestamp", std::to_string(timestamp_s)},
            {"X-Nonce", nonce},
            {"X-Signature", signature()},
            {"X-Batch-Size", std::to_string(batch_size)},
            {"Content-Length", std::to_string(body.size())}};
  }
};

inline std::string request_text(std::string_view method,
                                std::string_view path,
                                const std::map<std::string, std::string>& headers,
                                std::string_view body) {
  std::string text = std::string(method) + " " + std::string(path) + " HTTP/1.1\r\n";
  for (const auto& [name, value] : headers) text += name + ": " + value + "\r\n";
  return text + "\r\n" + std::string(body);
}

inline std::string request_text(const Upload& upload) {
  return request_text("POST", upload.path, upload.headers(), upload.body);
}

struct Reply {
  int status = 0;
  std::map<std::string, std::string> headers;
  std::string body;

  nlohmann::json json() const { return nlohmann::json::parse(body); }

  std::string code() const { return json().at("error").at("code"); }
};

// One keep-alive connection; throws when the server does something that is no HTTP.
class Connection {
 public:
  // `from`: an address of this machine to come from; any of 127.0.0.0/8 is one.
  explicit Connection(std::uint16_t port, std::uint32_t from = INADDR_LOOPBACK)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in source{};
    source.sin_family = AF_INET;
    source.sin_addr.s_addr = htonl(from);
    if (::bind(fd_.get(), reinterpret_cast<sockaddr*>(&source), sizeof(source)) != 0) {
      throw std::runtime_error("bind failed");
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      throw std::runtime_error("connect failed");
    }
    // A server that never answers fails the test instead of hanging it.
    const timeval limit{20, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  }

  void write(std::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (sent < 0) throw std::runtime_error("send failed");
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
  }

  Reply read() {
    std::size_t head_end = 0;
    while ((head_end = buffer_.find("\r\n\r\n")) == std::string::npos) fill();
    Reply reply;
    reply.status = std::stoi(buffer_.substr(9, 3));
    std::size_t at = buffer_.find("\r\n") + 2;
    while (at < head_end + 2) {
      const std::size_t end = buffer_.find("\r\n", at);
      const std::string line = buffer_.substr(at, end - at);
      reply.headers[line.substr(0, line.find(": "))] = line.substr(line.find(": ") + 2);
      at = end + 2;
    }
    const auto length = reply.headers.find("Content-Length");
    const std::size_t size = length == reply.headers.end() ? 0 : std::stoul(length->second);
    while (buffer_.size() < head_end + 4 + size) fill();
    reply.body = buffer_.substr(head_end + 4, size);
    buffer_.erase(0, head_end + 4 + size);
    return reply;
  }

  Reply exchange(std::string_view text) {
    write(text);
    return read();
  }

  // True when the server closed, false when something else happened within the time limit.
  bool closed() {
    char byte = 0;
    const ssize_t got = ::recv(fd_.get(), &byte, 1, 0);
    return got == 0 || (got < 0 && errno == ECONNRESET);
  }

 private:
  void fill() {
    char chunk[16384];
    const ssize_t got = ::recv(fd_.get(), chunk, sizeof(chunk), 0);
    if (got <= 0) throw std::runtime_error("the connection ended or gave no answer");
    buffer_.append(chunk, static_cast<std::size_t>(got));
  }

  UniqueFd fd_;
  std::string buffer_;
};

}  // namespace telemetryd::test
