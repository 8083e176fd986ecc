// support/small_disk.h: a file system of a few MB that a test may fill to the last byte.
//
// A tmpfs in a mount namespace of the test's own; programs that the test starts see it too. Where
// the kernel allows no such namespace skipped() says why, and the test skips with it.
//
// Thread:  the test's, which must be the only one when the first SmallDisk is made.

#pragma once

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sched.h>
#include <string>
#include <sys/mount.h>
#include <unistd.h>

#include "support/temp_dir.h"

namespace telemetryd::test {

class SmallDisk {
 public:
  // `options` of tmpfs: "size=4m", "nr_inodes=16".
  explicit SmallDisk(const std::string& options) : SmallDisk(options, {}) {}

  // On the folder `at`, which is made.
  SmallDisk(const std::string& options, const std::filesystem::path& at)
      : path_(at.empty() ? folder_.path() : at) {
    std::filesystem::create_directories(path_);
    static const std::string problem = enter_namespace();
    skipped_ = problem;
    if (!skipped_.empty()) return;
    if (::mount("telemetryd-test", path_.c_str(), "tmpfs", 0, options.c_str()) != 0) {
      skipped_ = "mounting a tmpfs: " + std::string(std::strerror(errno));
    }
  }

  ~SmallDisk() {
    if (skipped_.empty()) ::umount2(path_.c_str(), MNT_DETACH);
  }

  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  // Why there is none; empty: there is one.
  const std::string& skipped() const { return skipped_; }

  const std::filesystem::path& path() const { return path_; }

  // Somebody else takes all there is, or all but `left` bytes.
  void fill(std::uint64_t left = 0) const {
    const int fd = ::open(ballast().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const std::string block(4096, 'b');
    while (std::filesystem::space(path()).available > left &&
           ::write(fd, block.data(), block.size()) > 0) {
    }
    ::close(fd);
  }

  void take_files() const {
    for (int i = 0;; ++i) {
      const int fd = ::open(
          (path() / ("file" + std::to_string(i))).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
      if (fd < 0) return;
      ::close(fd);
    }
  }

  void empty() const {
    std::filesystem::remove(ballast());
    for (int i = 0; std::filesystem::remove(path() / ("file" + std::to_string(i))); ++i) {
    }
  }

  std::uint64_t free_bytes() const { return std::filesystem::space(path()).available; }

 private:
  std::filesystem::path ballast() const { return path() / "ballast"; }

  // Root needs only the mount namespace, anybody else a user namespace around it.
  static std::string enter_namespace() {
    const auto uid = std::to_string(::geteuid());
    const auto gid = std::to_string(::getegid());
    if (::unshare(CLONE_NEWNS) != 0) {
      if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
        return "no mount namespace here: " + std::string(std::strerror(errno));
      }
      std::ofstream("/proc/self/setgroups") << "deny";
      std::ofstream("/proc/self/uid_map") << uid + " " + uid + " 1";
      std::ofstream("/proc/self/gid_map") << gid + " " + gid + " 1";
    }
    // Nothing that is mounted from here on reaches others.
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      return "no private mounts here: " + std::string(std::strerror(errno));
    }
    return "";
  }

  TempDir folder_;
  std::filesystem::path path_;
  std::string skipped_;
};

}  // namespace telemetryd::test
