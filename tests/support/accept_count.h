// support/accept_count.h: how often the process asked the kernel for a connection and got none for
// want of descriptors. Include it in one file of a program: it stands in front of libc's accept4(),
// for libraries too.

#pragma once

#include <atomic>
#include <cerrno>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace telemetryd::test {

inline std::atomic<unsigned> accepts_without_descriptor = 0;

// Until accepting has failed `times` times, 20 seconds at most.
inline bool wait_for_failed_accepts(unsigned times) {
  constexpr unsigned kStepUs = 1000;
  for (unsigned i = 0; i < 20'000 && accepts_without_descriptor < times; ++i) ::usleep(kStepUs);
  return accepts_without_descriptor >= times;
}

}  // namespace telemetryd::test

extern "C" inline __attribute__((used)) int accept4(int fd,
                                                    sockaddr* address,
                                                    socklen_t* size,
                                                    int flags) noexcept(false) {
  const auto got = static_cast<int>(::syscall(SYS_accept4, fd, address, size, flags));
  if (got < 0 && errno == EMFILE) ++telemetryd::test::accepts_without_descriptor;
  return got;
}
