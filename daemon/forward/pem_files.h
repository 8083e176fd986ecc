// forward/pem_files.h: a destination's certificates and key as they are now, or the last good ones.
//
// Whoever renews a certificate writes two files, one after the other. What is there in between fits
// nothing, and must not take a destination down whose old pair still works: it is said in the log,
// and the old pair serves until a new one fits.
//
// Owns:    what it read, keys included, until it is gone.
// Thread:  the forwarder's.
// Limits:  kBytesMax per file; kSetsMax sets of files, then all are read again.
// Fails:   the first time: as read_file, and kInvalidArgument for what is no certificate or no key,
//          or a key that belongs to another certificate. The key of the configuration is named.

#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/secret.h"

namespace telemetryd::forward {

// Absent ones are empty.
struct PemPaths {
  std::filesystem::path ca_file;
  std::filesystem::path client_cert_file;
  std::filesystem::path client_key_file;

  auto operator<=>(const PemPaths&) const = default;
};

struct Pem {
  std::string authorities;  // empty: the system's; otherwise only these
  std::string certificate;  // with its chain; empty: none
  Secret key;
  std::int64_t expires_s = 0;  // of the certificate, since the epoch; 0: none
};

class PemFiles {
 public:
  static constexpr std::size_t kBytesMax = 4u << 20;
  static constexpr std::size_t kSetsMax = 512;

  [[nodiscard]] Result<std::shared_ptr<const Pem>> load(const PemPaths& paths);

 private:
  // What tells one state of a file from another.
  using Stamp = std::array<std::int64_t, 5>;

  struct Set {
    std::array<Stamp, 3> stamps;
    std::shared_ptr<const Pem> good;
  };

  static std::array<Stamp, 3> stamps_of(const PemPaths& paths);

  std::map<PemPaths, Set> sets_;
};

}  // namespace telemetryd::forward
