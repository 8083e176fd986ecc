#include "support/recording_vfs.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>

#include <sqlite3.h>

namespace telemetryd::test {
namespace {

constexpr std::uint64_t kSectorBytes = 512;

std::string base_name(const char* path) {
  return std::filesystem::path(path).filename().native();
}

// The platform's file lies behind ours in the memory that SQLite gives.
struct RecordedFile {
  sqlite3_file base;
  RecordingVfs* vfs;
  char file[256];

  sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
};

RecordedFile* recorded(sqlite3_file* file) {
  return reinterpret_cast<RecordedFile*>(file);
}

RecordingVfs* recorder(sqlite3_vfs* vfs) {
  return static_cast<RecordingVfs*>(vfs->pAppData);
}

sqlite3_vfs* platform() {
  return sqlite3_vfs_find("unix");
}

int on_close(sqlite3_file* file) {
  return recorded(file)->real()->pMethods->xClose(recorded(file)->real());
}

int on_read(sqlite3_file* file, void* out, int bytes, sqlite3_int64 offset) {
  return recorded(file)->real()->pMethods->xRead(recorded(file)->real(), out, bytes, offset);
}

int on_write(sqlite3_file* file, const void* data, int bytes, sqlite3_int64 offset) {
  RecordedFile* const self = recorded(file);
  const int code = self->real()->pMethods->xWrite(self->real(), data, bytes, offset);
  if (code == SQLITE_OK) {
    self->vfs->note({FileOp::Kind::kWrite,
                     self->file,
                     static_cast<std::uint64_t>(offset),
                     std::string(static_cast<const char*>(data), static_cast<std::size_t>(bytes))});
  }
  return code;
}

int on_truncate(sqlite3_file* file, sqlite3_int64 size) {
  RecordedFile* const self = recorded(file);
  const int code = self->real()->pMethods->xTruncate(self->real(), size);
  if (code == SQLITE_OK) {
    self->vfs->note({FileOp::Kind::kTruncate, self->file, static_cast<std::uint64_t>(size), {}});
  }
  return code;
}

// Noted after it returned: what is written while it runs is not covered by it.
int on_sync(sqlite3_file* file, int flags) {
  RecordedFile* const self = recorded(file);
  const int code = self->real()->pMethods->xSync(self->real(), flags);
  if (code == SQLITE_OK) self->vfs->note({FileOp::Kind::kSync, self->file, 0, {}});
  return code;
}

int on_size(sqlite3_file* file, sqlite3_int64* size) {
  return recorded(file)->real()->pMethods->xFileSize(recorded(file)->real(), size);
}

int on_lock(sqlite3_file* file, int level) {
  return recorded(file)->real()->pMethods->xLock(recorded(file)->real(), level);
}

int on_unlock(sqlite3_file* file, int level) {
  return recorded(file)->real()->pMethods->xUnlock(recorded(file)->real(), level);
}

int on_check_lock(sqlite3_file* file, int* out) {
  return recorded(file)->real()->pMethods->xCheckReservedLock(recorded(file)->real(), out);
}

int on_control(sqlite3_file* file, int op, void* argument) {
  // These would write behind our back.
  if (op == SQLITE_FCNTL_SIZE_HINT || op == SQLITE_FCNTL_CHUNK_SIZE) return SQLITE_NOTFOUND;
  return recorded(file)->real()->pMethods->xFileControl(recorded(file)->real(), op, argument);
}

int on_sector_size(sqlite3_file* file) {
  return recorded(file)->real()->pMethods->xSectorSize(recorded(file)->real());
}

int on_characteristics(sqlite3_file* file) {
  return recorded(file)->real()->pMethods->xDeviceCharacteristics(recorded(file)->real());
}

// Version 1 has no shared memory and no mappings, so a store that needed either would fail here.
constexpr sqlite3_io_methods kMethods = {
    1,
    on_close,
    on_read,
    on_write,
    on_truncate,
    on_sync,
    on_size,
    on_lock,
    on_unlock,
    on_check_lock,
    on_control,
    on_sector_size,
    on_characteristics,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
};

int on_open(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags, int* out_flags) {
  RecordedFile* const self = recorded(file);
  self->base.pMethods = nullptr;
  const bool existed = path != nullptr && std::filesystem::exists(path);
  const int code = platform()->xOpen(platform(), path, self->real(), flags, out_flags);
  if (code != SQLITE_OK) return code;
  self->vfs = recorder(vfs);
  std::snprintf(
      self->file, sizeof self->file, "%s", path == nullptr ? "temp" : base_name(path).c_str());
  if (!existed || std::filesystem::file_size(path) == 0) {
    self->vfs->note({FileOp::Kind::kCreate, self->file, 0, {}});
  }
  self->base.pMethods = &kMethods;
  return code;
}

int on_delete(sqlite3_vfs* vfs, const char* path, int sync_directory) {
  const int code = platform()->xDelete(platform(), path, sync_directory);
  if (code == SQLITE_OK) {
    recorder(vfs)->note({FileOp::Kind::kDelete, base_name(path), 0, {}});
    if (sync_directory != 0) recorder(vfs)->note_directory_sync();
  }
  return code;
}

int on_access(sqlite3_vfs* /*vfs*/, const char* path, int flags, int* out) {
  return platform()->xAccess(platform(), path, flags, out);
}

int on_full_path(sqlite3_vfs* /*vfs*/, const char* path, int size, char* out) {
  return platform()->xFullPathname(platform(), path, size, out);
}

void apply_write(std::string& content, std::uint64_t offset, std::string_view bytes) {
  if (content.size() < offset + bytes.size()) content.resize(offset + bytes.size(), '\0');
  std::ranges::copy(bytes, content.begin() + static_cast<std::ptrdiff_t>(offset));
}

void apply_to(std::string& content, const FileOp& op) {
  if (op.kind == FileOp::Kind::kWrite) apply_write(content, op.offset, op.bytes);
  if (op.kind == FileOp::Kind::kTruncate) content.resize(op.offset, '\0');
}

// Some sectors of a write, the others as they were.
void apply_torn(std::string& content, const FileOp& op, std::mt19937_64& random) {
  std::uint64_t at = 0;
  while (at < op.bytes.size()) {
    const std::uint64_t in_sector = kSectorBytes - (op.offset + at) % kSectorBytes;
    const std::uint64_t step = std::min<std::uint64_t>(in_sector, op.bytes.size() - at);
    if (random() % 2 == 0) {
      apply_write(content, op.offset + at, std::string_view(op.bytes).substr(at, step));
    }
    at += step;
  }
}

}  // namespace

RecordingVfs::RecordingVfs() : vfs_(std::make_unique<sqlite3_vfs>()) {
  static std::atomic<int> count = 0;
  sqlite3_initialize();
  name_ = "recording-" + std::to_string(++count);
  *vfs_ = *platform();
  vfs_->pNext = nullptr;
  vfs_->szOsFile = static_cast<int>(sizeof(RecordedFile)) + platform()->szOsFile;
  vfs_->zName = name_.c_str();
  vfs_->pAppData = this;
  vfs_->xOpen = on_open;
  vfs_->xDelete = on_delete;
  vfs_->xAccess = on_access;
  vfs_->xFullPathname = on_full_path;
  sqlite3_vfs_register(vfs_.get(), 0);
}

RecordingVfs::~RecordingVfs() {
  sqlite3_vfs_unregister(vfs_.get());
}

std::size_t RecordingVfs::position() const {
  const std::lock_guard lock(mutex_);
  return record_.size();
}

void RecordingVfs::note_directory_sync() {
  note({FileOp::Kind::kDirectorySync, {}, 0, {}});
}

std::vector<FileOp> RecordingVfs::record() const {
  const std::lock_guard lock(mutex_);
  return record_;
}

void RecordingVfs::forget() {
  const std::lock_guard lock(mutex_);
  record_.clear();
}

void RecordingVfs::note(FileOp op) {
  const std::lock_guard lock(mutex_);
  record_.push_back(std::move(op));
}

PowerCut::PowerCut(const Image& base) {
  for (const auto& [name, content] : base) {
    File& file = files_[name];
    file.durable = content;
    file.entry_durable = true;
  }
}

void PowerCut::apply(const FileOp& op) {
  using enum FileOp::Kind;
  if (op.kind == kDirectorySync) {
    std::erase_if(files_, [](const auto& entry) { return entry.second.deleted; });
    for (auto& [name, file] : files_) file.entry_durable = true;
    return;
  }
  File& file = files_[op.file];
  switch (op.kind) {
    case kCreate:
      if (file.deleted) file = File();
      break;
    case kWrite:
    case kTruncate: file.pending.push_back(op); break;
    case kSync:
      for (const FileOp& pending : file.pending) apply_to(file.durable, pending);
      file.pending.clear();
      file.entry_durable = true;
      break;
    case kDelete: file.deleted = true; break;
    case kDirectorySync: break;
  }
}

PowerCut::Image PowerCut::image(std::mt19937_64& random) const {
  Image image;
  // Three kinds of cut: nothing unsynced got out, everything did, or anything between.
  const std::uint64_t kind = random() % 8;
  for (const auto& [name, file] : files_) {
    if (file.deleted && random() % 2 == 0) continue;
    if (!file.entry_durable && random() % 2 == 0) continue;
    std::string content = file.durable;
    for (const FileOp& op : file.pending) {
      const std::uint64_t fate = kind == 0 ? 0 : kind == 1 ? 1 : random() % 4;
      if (fate == 0) continue;
      if (fate == 2 && op.kind == FileOp::Kind::kWrite) {
        apply_torn(content, op, random);
      } else {
        apply_to(content, op);
      }
    }
    image[name] = std::move(content);
  }
  return image;
}

std::uint64_t hash_of(const PowerCut::Image& image) {
  std::uint64_t hash = 1469598103934665603ull;
  for (const auto& [name, content] : image) {
    const std::size_t parts[] = {std::hash<std::string>()(name), std::hash<std::string>()(content)};
    for (const std::size_t part : parts) hash = (hash ^ part) * 1099511628211ull;
  }
  return hash;
}

PowerCut::Image read_image(const std::filesystem::path& folder) {
  PowerCut::Image image;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    std::ostringstream content;
    content << in.rdbuf();
    image[entry.path().filename().native()] = content.str();
  }
  return image;
}

void write_image(const PowerCut::Image& image, const std::filesystem::path& folder) {
  for (const auto& [name, content] : image) {
    std::ofstream out(folder / name, std::ios::binary | std::ios::trunc);
    out << content;
  }
}

}  // namespace telemetryd::test
