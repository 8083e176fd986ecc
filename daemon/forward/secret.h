// forward/secret.h: tokens and keys: read from files when used, wiped afterwards.
//
// Nothing is cached: a rotated file counts from the next request on, and a core of an idle
// forwarder holds no secret.
//
// Thread:  any.
// Limits:  Secret::kBytesMax.
// Fails:   kPermissionDenied when everybody may read the file; kInvalidArgument when it is empty or
//          holds more than one line; otherwise as read_file.

#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"

namespace telemetryd::forward {

class Secret {
 public:
  static constexpr std::size_t kBytesMax = 4096;

  // The file's one line, without its end.
  [[nodiscard]] static Result<Secret> read(const std::filesystem::path& path);

  // Takes the text over and wipes it with everything else.
  explicit Secret(std::string text) : text_(std::move(text)) {}

  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret();

  std::string_view text() const { return text_; }

 private:
  std::string text_;
};

// Overwrites the bytes in a way that the compiler keeps, then empties the string.
void wipe(std::string& text);

}  // namespace telemetryd::forward
