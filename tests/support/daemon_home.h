// support/daemon_home.h: the folders that a telemetryd of a test lives in.

#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "support/temp_dir.h"

namespace telemetryd::test {

// The folders of one daemon; several processes may follow each other in it.
class DaemonHome {
 public:
  explicit DaemonHome(const std::string& config = "") {
    // Other users must reach the sockets.
    std::filesystem::permissions(folder_.path(), std::filesystem::perms(0755));
    std::filesystem::create_directory(folder_ / "etc");
    configure(config);
  }

  void configure(const std::string& text) const { std::ofstream(config_file()) << text; }

  std::filesystem::path path() const { return folder_.path(); }

  std::filesystem::path config_file() const { return path() / "etc/telemetryd.toml"; }

  std::filesystem::path state_dir() const { return path() / "state"; }

  std::filesystem::path runtime_dir() const { return path() / "run"; }

  std::filesystem::path log_file() const { return path() / "log"; }

  std::string admin_socket() const { return (runtime_dir() / "admin.sock").native(); }

  std::string ingest_socket() const { return (runtime_dir() / "ingest.sock").native(); }

  std::vector<std::string> arguments() const {
    return {"--config",
            config_file().native(),
            "--state-dir",
            state_dir().native(),
            "--runtime-dir",
            runtime_dir().native()};
  }

 private:
  TempDir folder_;
};

}  // namespace telemetryd::test
