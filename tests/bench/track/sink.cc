#include "sink.h"

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "frame/frame.h"

namespace telemetryd::bench {
namespace {

void reply(int fd, frame::Type type, const std::vector<std::uint8_t>& payload) {
  std::vector<std::uint8_t> out(frame::kHeaderBytes);
  frame::encode_header(
      {.length = static_cast<std::uint32_t>(payload.size()), .type = type, .flags = 0}, out.data());
  out.insert(out.end(), payload.begin(), payload.end());
  if (send(fd, out.data(), out.size(), MSG_NOSIGNAL) < 0) _exit(0);
}

// One client after another. Acknowledges the newest frame of each read.
void serve(int fd) {
  std::vector<std::uint8_t> input(4u << 20);
  std::size_t used = 0;
  for (;;) {
    const ssize_t got = recv(fd, input.data() + used, input.size() - used, 0);
    if (got <= 0) return;
    used += static_cast<std::size_t>(got);
    std::size_t at = 0;
    std::uint64_t newest = 0;
    while (used - at >= frame::kHeaderBytes) {
      const frame::Header header = frame::decode_header(input.data() + at);
      const std::size_t whole = frame::kHeaderBytes + header.length;
      if (used - at < whole) break;
      if (header.type == frame::Type::kHello) {
        reply(fd, frame::Type::kWelcome, std::vector<std::uint8_t>(frame::kWelcomePrefixBytes));
      }
      if (header.type == frame::Type::kEvents) {
        newest = frame::decode_events_prefix(input.data() + at + frame::kHeaderBytes).number;
      }
      at += whole;
    }
    used -= at;
    std::memmove(input.data(), input.data() + at, used);
    if (newest == 0) continue;
    std::vector<std::uint8_t> ack(frame::kAckBytes);
    frame::put_u64(ack.data(), newest);
    reply(fd, frame::Type::kAck, ack);
  }
}

}  // namespace

pid_t start_sink(const std::string& path) {
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener, 8) != 0) {
    std::perror("cannot listen");
    std::exit(1);
  }
  const pid_t pid = fork();
  if (pid != 0) {
    close(listener);
    return pid;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (;;) {
    const int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) _exit(0);
    serve(fd);
    close(fd);
  }
}

void stop_sink(pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
}

}  // namespace telemetryd::bench
