#include "server/acceptor.h"

#include <array>
#include <cerrno>
#include <poll.h>
#include <sys/eventfd.h>
#include <utility>

#include "base/io.h"

namespace telemetryd::server {
namespace {

constexpr int kRestMs = 100;

}  // namespace

Acceptor::Acceptor(UniqueFd listening, unsigned connections_max, LetIn let_in)
    : listening_(std::move(listening)),
      connections_max_(connections_max),
      let_in_(std::move(let_in)) {}

Result<void> Acceptor::start() {
  stopping_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stopping_) return fail(error_from_errno(errno, "eventfd"));
  thread_ = std::thread([this] { run(); });
  return {};
}

Acceptor::~Acceptor() {
  stop();
}

void Acceptor::stop() {
  if (!thread_.joinable()) return;
  (void)::eventfd_write(stopping_.get(), 1);
  thread_.join();
}

void Acceptor::run() {
  std::array<pollfd, 2> watched{{{.fd = stopping_.get(), .events = POLLIN, .revents = 0},
                                 {.fd = listening_.get(), .events = POLLIN, .revents = 0}}};
  for (;;) {
    if (::poll(watched.data(), watched.size(), -1) < 0) continue;
    if (watched[0].revents != 0) return;
    if (inside_ < connections_max_) {
      accept_one();
    } else {
      rest();
    }
  }
}

void Acceptor::accept_one() {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  auto* peer = reinterpret_cast<sockaddr*>(&address);
  UniqueFd connection(::accept4(listening_.get(), peer, &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connection) {
    // Anything else is about one connection, which is gone.
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) rest();
    return;
  }
  ++inside_;
  if (!let_in_(std::move(connection), peer, size)) --inside_;
}

void Acceptor::rest() {
  pollfd stopping{.fd = stopping_.get(), .events = POLLIN, .revents = 0};
  (void)::poll(&stopping, 1, kRestMs);
}

}  // namespace telemetryd::server
