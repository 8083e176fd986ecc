// server/cli/handout.h: fresh credentials on their way to the person who asked for them.
//
// They are shown or written once. With a folder they go into files of mode 0600 there and are not
// shown; the files are made before the transaction commits, so that no token exists that nobody
// has.
//
// Fails:   kFailedPrecondition when a file is there already; kInvalidArgument for a bad url.

#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/result.h"
#include "server/registry.h"

namespace telemetryd::server {

struct HandoutOptions {
  std::string url = "http://127.0.0.1:8080";
  bool print_config = false;
  std::string out_dir;  // empty: show the credentials
};

class Handout {
 public:
  [[nodiscard]] static Result<Handout> prepare(const HandoutOptions& options,
                                               const Application& application,
                                               NewToken token);
  // Takes the files away again unless it was shown.
  ~Handout();
  Handout(Handout&& other) noexcept;
  Handout& operator=(Handout&&) = delete;

  // After the commit.
  void show();

 private:
  Handout(HandoutOptions options, Application application, NewToken token)
      : options_(std::move(options)),
        application_(std::move(application)),
        token_(std::move(token)) {}

  [[nodiscard]] Result<void> write_files();
  void print_config() const;

  HandoutOptions options_;
  Application application_;
  NewToken token_;
  std::filesystem::path token_file_;
  std::filesystem::path secret_file_;
  bool written_ = false;
  bool shown_ = false;
};

}  // namespace telemetryd::server
