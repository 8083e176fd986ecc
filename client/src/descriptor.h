// telemetry_core/descriptor.h: is this number still the descriptor that we opened?
//
// An app that makes itself a daemon closes every descriptor, ours too, and what it opens next gets
// our numbers. Before a number is used it is asked for the inode that it had at first. Between the
// question and the use another thread of the app may still close and open.
//
// Thread:  any; no state.

#pragma once

#include <stdint.h>
#include <sys/stat.h>

namespace telemetryd::client {

// Of an open descriptor of that type (S_IFIFO, S_IFSOCK); 0 for any other.
inline uint64_t inode_of(int fd, mode_t type) {
  struct stat status{};
  if (fd < 0 || fstat(fd, &status) != 0 || (status.st_mode & S_IFMT) != type) return 0;
  return status.st_ino;
}

inline bool still_has_inode(int fd, mode_t type, uint64_t inode) {
  return inode != 0 && inode_of(fd, type) == inode;
}

}  // namespace telemetryd::client
