// base/secret.h: text that leaves no copy of itself behind in freed memory.
//
// Nothing is cached by whoever reads one from a file: a rotated file counts from the next use on,
// and a core of an idle process holds no secret.
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

namespace telemetryd {

class Secret {
 public:
  static constexpr std::size_t kBytesMax = 4096;

  // The file's one line, without its end.
  [[nodiscard]] static Result<Secret> read(const std::filesystem::path& path);

  Secret() = default;

  // Takes the text over and wipes it with everything else.
  explicit Secret(std::string text) : text_(std::move(text)) {}

  // A moved-from secret is empty.
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

}  // namespace telemetryd
