// support/recording_vfs.h: writes down everything SQLite does to files, and plays power cuts.
//
// A SQLite VFS in front of the platform's: every write, truncation, sync and deletion goes through
// and is remembered. Afterwards a PowerCut replays the record up to any point and makes up what a
// disk may legally hold then: all that was synced, and of the rest any part, in sectors.
//
// Thread:  any; one lock.

#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

struct sqlite3_vfs;

namespace telemetryd::test {

struct FileOp {
  enum class Kind { kCreate, kWrite, kTruncate, kSync, kDelete, kDirectorySync } kind{};
  std::string file;  // without the folder
  std::uint64_t offset = 0;
  std::string bytes;  // kWrite
};

class RecordingVfs {
 public:
  RecordingVfs();
  ~RecordingVfs();

  RecordingVfs(const RecordingVfs&) = delete;
  RecordingVfs& operator=(const RecordingVfs&) = delete;

  // For store::Options::vfs.
  const std::string& name() const { return name_; }

  // How many operations have happened: a place in the record.
  std::size_t position() const;
  // The store syncs its folder itself; the test says when that is known to have happened.
  void note_directory_sync();
  std::vector<FileOp> record() const;
  // Begins a new record.
  void forget();

  void note(FileOp op);

 private:
  std::string name_;
  std::unique_ptr<sqlite3_vfs> vfs_;
  mutable std::mutex mutex_;
  std::vector<FileOp> record_;
};

// What the disk holds; moved forward operation by operation.
class PowerCut {
 public:
  using Image = std::map<std::string, std::string>;  // file to content

  PowerCut() = default;
  // All of it was on disk before the record began.
  explicit PowerCut(const Image& base);

  void apply(const FileOp& op);
  // A legal content of the disk, were the power cut now.
  Image image(std::mt19937_64& random) const;

 private:
  struct File {
    std::string durable;
    std::vector<FileOp> pending;  // not synced
    bool entry_durable = false;   // its name in the folder
    bool deleted = false;         // but the folder was not synced since
  };

  std::map<std::string, File> files_;
};

std::uint64_t hash_of(const PowerCut::Image& image);
// The files of a folder that no program has open.
PowerCut::Image read_image(const std::filesystem::path& folder);
void write_image(const PowerCut::Image& image, const std::filesystem::path& folder);

}  // namespace telemetryd::test
