// store/vfs_file.h: a small file of the store, reached through SQLite's VFS.
//
// The witness and the growing of the WAL go the same way as the database, so that a test's VFS sees
// every byte the store writes.
//
// Owns:    one open file.
// Thread:  store thread.
// Fails:   kUnavailable; kResourceExhausted when the disk is full.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct sqlite3_file;

namespace telemetryd::store {

class VfsFile {
 public:
  // Creates the file when there is none; follows no link.
  [[nodiscard]] static Result<VfsFile> open(const std::string& path, const std::string& vfs);

  [[nodiscard]] Result<std::uint64_t> size();
  // Short only at the end of the file.
  [[nodiscard]] Result<std::string> read(std::uint64_t offset, std::size_t bytes);
  [[nodiscard]] Result<void> write(std::uint64_t offset, std::string_view bytes);
  [[nodiscard]] Result<void> sync();

 private:
  struct Close {
    void operator()(sqlite3_file* file) const;
  };

  explicit VfsFile(std::string path) : path_(std::move(path)) {}

  std::string path_;
  std::unique_ptr<sqlite3_file, Close> file_;
};

}  // namespace telemetryd::store
