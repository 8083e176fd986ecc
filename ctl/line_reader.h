// ctl/line_reader.h: lines of a file, bounded in length, with their content hashed on the way.
//
// Owns:    nothing; the descriptor stays the caller's.
// Thread:  the one that made it.
// Limits:  kLineBytesMax; a longer line is reported and skipped.
// Fails:   kUnavailable when reading fails.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace telemetryd::ctl {

constexpr std::size_t kLineBytesMax = 1024 * 1024;

struct Line {
  std::uint64_t number = 0;  // from 1
  std::string_view text;     // without the line's end
  bool too_long = false;     // then `text` is only its beginning
};

class LineReader {
 public:
  // Reads `fd` from its beginning with pread(2), so that it can be read twice. The hash begins with
  // `prefix`.
  LineReader(int fd, std::string_view hash_prefix);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  // False at the end. `line` is good until the next call.
  [[nodiscard]] Result<bool> next(Line& line);

  // First 16 bytes of SHA-256(prefix, everything read); complete once next() said false.
  Bytes16 content_hash() const;

 private:
  struct Hash;
  [[nodiscard]] Result<bool> fill();

  int fd_;
  std::int64_t offset_ = 0;
  std::uint64_t number_ = 0;
  std::string buffer_;
  std::size_t begin_ = 0;
  bool at_end_ = false;
  std::unique_ptr<Hash> hash_;
};

// A descriptor that can be read twice: `path` itself when it is a regular file, otherwise ("-", a
// pipe) a nameless temporary copy of at most `spool_bytes_max`. Fails with kNotFound,
// kPermissionDenied, kResourceExhausted or kUnavailable.
[[nodiscard]] Result<UniqueFd> open_rereadable(const std::string& path,
                                               std::uint64_t spool_bytes_max);

}  // namespace telemetryd::ctl
