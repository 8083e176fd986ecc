// integration/daemon/frames.h: an app that speaks frames by hand, so that a test can stop it in the
// middle of anything.

#pragma once

#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "frame/frame.h"

namespace telemetryd::test {

class FrameApp {
 public:
  struct Answer {
    frame::Type type{};
    std::string payload;

    // Of an ACK or a REFUSE.
    std::uint64_t number() const {
      return frame::get_u64(reinterpret_cast<const std::uint8_t*>(payload.data()));
    }

    // Of CLOSING.
    frame::Code code() const {
      return static_cast<frame::Code>(
          frame::get_u16(reinterpret_cast<const std::uint8_t*>(payload.data())));
    }
  };

  explicit FrameApp(const std::string& path) {
    fd_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    // Only so that a broken daemon fails the test instead of hanging it.
    const timeval limit{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      throw std::runtime_error("connect " + path + ": " + std::strerror(errno));
    }
  }

  bool send(std::string_view bytes) {
    return ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }

  // Nothing at the end of the connection.
  std::optional<Answer> answer() {
    while (buffer_.size() < frame::kHeaderBytes || buffer_.size() < whole()) {
      char bytes[4096];
      const ssize_t got = ::recv(fd_.get(), bytes, sizeof bytes, 0);
      if (got <= 0) return std::nullopt;
      buffer_.append(bytes, static_cast<std::size_t>(got));
    }
    const std::size_t size = whole();
    Answer answer{header().type, buffer_.substr(frame::kHeaderBytes, size - frame::kHeaderBytes)};
    buffer_.erase(0, size);
    return answer;
  }

  // The number that WELCOME says is settled.
  std::uint64_t welcomed() {
    send(hello());
    const auto welcome = answer();
    if (!welcome || welcome->type != frame::Type::kWelcome) {
      throw std::runtime_error("no WELCOME");
    }
    return high_water(std::string_view(welcome->payload).substr(8));
  }

  static std::string hello() {
    std::string payload("TLMF\1\0\0\0", 8);
    payload += bytes_field(1, "instance-16-byte") + bytes_field(2, bytes_field(1, "tool"));
    payload += std::string("\x20\x01", 2);  // first_frame 1
    return framed(frame::Type::kHello, payload, 0);
  }

  // One event, and the wish to have it committed now.
  static std::string events(std::uint64_t number) {
    const std::string event = bytes_field(1, "0123456789abcdef") + bytes_field(3, "e") +
                              "\x29"
                              "12345678";
    std::string payload(frame::kEventsPrefixBytes, '\0');
    frame::encode_events_prefix(
        {.number = number, .count = 1, .persistence_class = 0, .urgency = 0},
        reinterpret_cast<std::uint8_t*>(payload.data()));
    return framed(frame::Type::kEvents, payload + bytes_field(1, event), frame::kFlagCommitNow);
  }

 private:
  frame::Header header() const {
    return frame::decode_header(reinterpret_cast<const std::uint8_t*>(buffer_.data()));
  }

  std::size_t whole() const { return frame::kHeaderBytes + header().length; }

  static std::string bytes_field(unsigned field, const std::string& value) {
    return std::string(1, static_cast<char>(field << 3 | 2)) + static_cast<char>(value.size()) +
           value;
  }

  static std::string framed(frame::Type type, const std::string& payload, std::uint8_t flags) {
    std::string bytes(frame::kHeaderBytes, '\0');
    frame::encode_header(
        {.length = static_cast<std::uint32_t>(payload.size()), .type = type, .flags = flags},
        reinterpret_cast<std::uint8_t*>(bytes.data()));
    return bytes + payload;
  }

  static std::uint64_t varint(std::string_view& bytes) {
    std::uint64_t value = 0;
    for (unsigned shift = 0; !bytes.empty(); shift += 7) {
      const auto byte = static_cast<std::uint8_t>(bytes.front());
      bytes.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    return value;
  }

  // Field 3 of DaemonWelcome.
  static std::uint64_t high_water(std::string_view welcome) {
    while (!welcome.empty()) {
      const std::uint64_t tag = varint(welcome);
      const std::uint64_t value = varint(welcome);
      if (tag >> 3 == 3) return value;
      if ((tag & 7) == 2) welcome.remove_prefix(std::min<std::size_t>(value, welcome.size()));
    }
    return 0;
  }

  UniqueFd fd_;
  std::string buffer_;
};

}  // namespace telemetryd::test
