// support/scripted_admin.h: an admin socket that gives the answers a test has prepared.
//
// It speaks enough HTTP/1.1 for one request a connection and remembers what was asked.

#pragma once

#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace telemetryd::test {

class ScriptedAdmin {
 public:
  struct Request {
    std::string line;  // "GET /v1/status"
    std::string body;
  };

  // `answers` maps "GET /v1/status" to status and body; anything else is 404.
  ScriptedAdmin(const std::string& path, std::map<std::string, std::pair<int, std::string>> answers)
      : answers_(std::move(answers)), listening_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    if (::bind(listening_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listening_.get(), 16) != 0) {
      throw std::runtime_error("cannot listen on " + path);
    }
    thread_ = std::thread([this] { serve(); });
  }

  ~ScriptedAdmin() {
    ::shutdown(listening_.get(), SHUT_RDWR);
    thread_.join();
  }

  ScriptedAdmin(const ScriptedAdmin&) = delete;
  ScriptedAdmin& operator=(const ScriptedAdmin&) = delete;

  std::vector<Request> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void serve() {
    while (true) {
      const UniqueFd connection(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!connection) return;
      answer(connection.get());
    }
  }

  void answer(int fd) {
    std::string text;
    char block[4096];
    while (!complete(text)) {
      const ssize_t got = ::read(fd, block, sizeof block);
      if (got <= 0) return;
      text.append(block, static_cast<std::size_t>(got));
    }
    const std::string line = text.substr(0, text.find(" HTTP/"));
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back({line, text.substr(text.find("\r\n\r\n") + 4)});
    }
    const auto found = answers_.find(line);
    const auto& [status, body] = found != answers_.end() ? found->second : kNotFound;
    const std::string out =
        "HTTP/1.1 " + std::to_string(status) +
        " X\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
        body;
    [[maybe_unused]] const auto sent = ::send(fd, out.data(), out.size(), MSG_NOSIGNAL);
  }

  static bool complete(const std::string& text) {
    const auto end = text.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    const auto length = text.find("Content-Length: ");
    if (length == std::string::npos || length > end) return true;
    return text.size() >= end + 4 + std::stoul(text.substr(length + 16));
  }

  static inline const std::pair<int, std::string> kNotFound = {
      404, R"({"error":{"code":"not_found","message":"no such path"}})"};

  std::map<std::string, std::pair<int, std::string>> answers_;
  std::mutex mutex_;
  std::vector<Request> requests_;
  UniqueFd listening_;
  std::thread thread_;
};

}  // namespace telemetryd::test
