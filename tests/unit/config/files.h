// unit/config/files.h: a configuration folder of one test.

#pragma once

#include <fstream>
#include <string>
#include <string_view>

#include "config/config.h"
#include "support/temp_dir.h"

namespace telemetryd::config {

class Files {
 public:
  void write(const std::string& name, std::string_view text) {
    const auto path = folder_.path() / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }

  std::filesystem::path main() const { return folder_.path() / "telemetryd.toml"; }

  Loaded load() const {
    return config::load(
        {.file = main(), .file_required = true, .state_dir = "/state", .runtime_dir = "/runtime"});
  }

  // Writes `text` as the one file and loads it.
  Loaded load(std::string_view text) {
    write("telemetryd.toml", text);
    return load();
  }

  // Every problem of `text`, without the folder's name, one a line.
  std::string problems(std::string_view text) { return problems_of(load(text)); }

  std::string problems_of(const Loaded& loaded) const {
    std::string out;
    for (const Problem& problem : loaded.problems) {
      std::string line = to_string(problem);
      const std::string prefix = folder_.path().native() + "/";
      for (std::size_t at = 0; (at = line.find(prefix, at)) != std::string::npos;) {
        line.erase(at, prefix.size());
      }
      out += line + "\n";
    }
    return out;
  }

 private:
  test::TempDir folder_;
};

}  // namespace telemetryd::config
