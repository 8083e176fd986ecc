// support/no_more_descriptors.h: a process that has no descriptor left, for as long as this lives.

#pragma once

#include <fcntl.h>
#include <sys/resource.h>

#include <gtest/gtest.h>

#include "base/unique_fd.h"

namespace telemetryd::test {

// Lowers the limit so that after `left` more the next descriptor does not exist; puts it back
// afterwards.
class NoMoreDescriptors {
 public:
  explicit NoMoreDescriptors(unsigned left = 0) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const UniqueFd next(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    rlimit lower = before_;
    lower.rlim_cur = static_cast<rlim_t>(next.get()) + left;
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &lower), 0);
  }

  ~NoMoreDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

  NoMoreDescriptors(const NoMoreDescriptors&) = delete;
  NoMoreDescriptors& operator=(const NoMoreDescriptors&) = delete;

 private:
  rlimit before_{};
};

}  // namespace telemetryd::test
