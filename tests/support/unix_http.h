// support/unix_http.h: a small blocking HTTP client on a Unix socket, which shows everything it
// got.

#pragma once

#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <utility>

#include "base/unique_fd.h"

namespace telemetryd::test {

struct HttpAnswer {
  int status = 0;  // 0: the server closed without an answer
  std::map<std::string, std::string> headers;
  std::string body;
};

class UnixHttp {
 public:
  explicit UnixHttp(const std::string& path) {
    fd_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    // Only so that a broken server fails the test instead of hanging it.
    const timeval limit{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      throw std::runtime_error("connect " + path + ": " + std::strerror(errno));
    }
  }

  int fd() const { return fd_.get(); }

  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }

  HttpAnswer request(std::string_view method,
                     std::string_view target,
                     std::string_view body = "",
                     std::string_view more_headers = "") {
    std::string head = std::string(method) + " " + std::string(target) + " HTTP/1.1\r\nHost: l\r\n";
    if (!body.empty()) head += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    head += std::string(more_headers) + "\r\n" + std::string(body);
    send(head);
    return answer();
  }

  HttpAnswer get(std::string_view target) { return request("GET", target); }

  HttpAnswer post(std::string_view target, std::string_view body) {
    return request("POST", target, body);
  }

  // Head and whole body.
  HttpAnswer answer() {
    HttpAnswer answer = head();
    if (answer.status == 0) return answer;
    if (const auto length = answer.headers.find("content-length"); length != answer.headers.end()) {
      answer.body = exactly(std::stoul(length->second));
    } else {
      for (std::string chunk; !(chunk = next_chunk()).empty();) answer.body += chunk;
    }
    return answer;
  }

  HttpAnswer head() {
    HttpAnswer answer;
    const std::string first = line();
    if (!first.starts_with("HTTP/1.1 ")) return answer;
    answer.status = std::stoi(first.substr(9, 3));
    for (std::string next; !(next = line()).empty();) {
      const std::size_t colon = next.find(": ");
      std::string name = next.substr(0, colon);
      for (char& c : name) {
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
      }
      answer.headers[name] = next.substr(colon + 2);
    }
    return answer;
  }

  // One chunk of a chunked body; empty at its end or when the connection ended.
  std::string next_chunk() {
    const std::string size = line();
    if (size.empty()) return {};
    std::string chunk = exactly(std::stoul(size, nullptr, 16));
    line();
    return chunk;
  }

  // The next line of a stream's text, across chunks.
  std::string stream_line() {
    std::size_t end = 0;
    while ((end = stream_.find('\n')) == std::string::npos) {
      const std::string chunk = next_chunk();
      if (chunk.empty()) return {};
      stream_ += chunk;
    }
    std::string line = stream_.substr(0, end);
    stream_.erase(0, end + 1);
    return line;
  }

  // Everything until the server closes.
  std::string rest() {
    while (fill()) {
    }
    return std::exchange(buffer_, {});
  }

 private:
  bool fill() {
    char bytes[16384];
    const ssize_t got = ::recv(fd_.get(), bytes, sizeof bytes, 0);
    if (got <= 0) return false;
    buffer_.append(bytes, static_cast<std::size_t>(got));
    return true;
  }

  std::string line() {
    std::size_t end = 0;
    while ((end = buffer_.find("\r\n")) == std::string::npos) {
      if (!fill()) return {};
    }
    std::string text = buffer_.substr(0, end);
    buffer_.erase(0, end + 2);
    return text;
  }

  std::string exactly(std::size_t size) {
    while (buffer_.size() < size && fill()) {
    }
    std::string text = buffer_.substr(0, size);
    buffer_.erase(0, text.size());
    return text;
  }

  UniqueFd fd_;
  std::string buffer_;
  std::string stream_;
};

}  // namespace telemetryd::test
