#include "support/failing_vfs.h"

#include <atomic>
#include <cstdio>
#include <string_view>

#include <sqlite3.h>

namespace telemetryd::test {
namespace {

using Op = FailingVfs::Op;

// The platform's file lies behind ours in the memory that SQLite gives.
struct FailingFile {
  sqlite3_file base;
  FailingVfs* vfs;
  char file[256];

  sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }

  const sqlite3_io_methods& methods() { return *real()->pMethods; }

  int judge(Op op) { return vfs->judge(op, file); }
};

FailingFile* ours(sqlite3_file* file) {
  return reinterpret_cast<FailingFile*>(file);
}

FailingVfs* owner(sqlite3_vfs* vfs) {
  return static_cast<FailingVfs*>(vfs->pAppData);
}

sqlite3_vfs* platform() {
  return sqlite3_vfs_find("unix");
}

int on_close(sqlite3_file* file) {
  return ours(file)->methods().xClose(ours(file)->real());
}

int on_read(sqlite3_file* file, void* out, int bytes, sqlite3_int64 offset) {
  FailingFile* const self = ours(file);
  const int code = self->methods().xRead(self->real(), out, bytes, offset);
  std::string content;
  if (self->vfs->looks_at_bytes()) {
    content.assign(static_cast<const char*>(out), static_cast<std::size_t>(bytes));
  }
  if (const int bad = self->vfs->judge(Op::kRead, self->file, content)) return bad;
  return code;
}

int on_write(sqlite3_file* file, const void* data, int bytes, sqlite3_int64 offset) {
  FailingFile* const self = ours(file);
  const int bad = self->judge(Op::kWrite);
  if (bad == SQLITE_OK) return self->methods().xWrite(self->real(), data, bytes, offset);
  if (self->vfs->leaves_half()) {
    (void)self->methods().xWrite(self->real(), data, bytes / 2, offset);
  }
  return bad;
}

int on_truncate(sqlite3_file* file, sqlite3_int64 size) {
  if (const int bad = ours(file)->judge(Op::kTruncate)) return bad;
  return ours(file)->methods().xTruncate(ours(file)->real(), size);
}

// What a failed sync leaves on the disk is unknown; here it is everything.
int on_sync(sqlite3_file* file, int flags) {
  if (const int bad = ours(file)->judge(Op::kSync)) return bad;
  return ours(file)->methods().xSync(ours(file)->real(), flags);
}

int on_size(sqlite3_file* file, sqlite3_int64* size) {
  return ours(file)->methods().xFileSize(ours(file)->real(), size);
}

int on_lock(sqlite3_file* file, int level) {
  return ours(file)->methods().xLock(ours(file)->real(), level);
}

int on_unlock(sqlite3_file* file, int level) {
  return ours(file)->methods().xUnlock(ours(file)->real(), level);
}

int on_check_lock(sqlite3_file* file, int* out) {
  return ours(file)->methods().xCheckReservedLock(ours(file)->real(), out);
}

int on_control(sqlite3_file* file, int op, void* argument) {
  if (op == SQLITE_FCNTL_SIZE_HINT) {
    if (const int bad = ours(file)->judge(Op::kGrow)) return bad;
  }
  return ours(file)->methods().xFileControl(ours(file)->real(), op, argument);
}

int on_sector_size(sqlite3_file* file) {
  return ours(file)->methods().xSectorSize(ours(file)->real());
}

int on_characteristics(sqlite3_file* file) {
  return ours(file)->methods().xDeviceCharacteristics(ours(file)->real());
}

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
  FailingFile* const self = ours(file);
  self->base.pMethods = nullptr;
  self->vfs = owner(vfs);
  std::snprintf(self->file, sizeof self->file, "%s", path == nullptr ? "temp" : path);
  if (const int bad = self->judge(Op::kOpen)) return bad;
  const int code = platform()->xOpen(platform(), path, self->real(), flags, out_flags);
  if (code == SQLITE_OK) self->base.pMethods = &kMethods;
  return code;
}

int on_delete(sqlite3_vfs* /*vfs*/, const char* path, int sync_directory) {
  return platform()->xDelete(platform(), path, sync_directory);
}

int on_access(sqlite3_vfs* /*vfs*/, const char* path, int flags, int* out) {
  return platform()->xAccess(platform(), path, flags, out);
}

int on_full_path(sqlite3_vfs* /*vfs*/, const char* path, int size, char* out) {
  return platform()->xFullPathname(platform(), path, size, out);
}

}  // namespace

FailingVfs::FailingVfs() : vfs_(std::make_unique<sqlite3_vfs>()) {
  static std::atomic<int> count = 0;
  sqlite3_initialize();
  name_ = "failing-" + std::to_string(++count);
  *vfs_ = *platform();
  vfs_->pNext = nullptr;
  vfs_->szOsFile = static_cast<int>(sizeof(FailingFile)) + platform()->szOsFile;
  vfs_->zName = name_.c_str();
  vfs_->pAppData = this;
  vfs_->xOpen = on_open;
  vfs_->xDelete = on_delete;
  vfs_->xAccess = on_access;
  vfs_->xFullPathname = on_full_path;
  sqlite3_vfs_register(vfs_.get(), 0);
}

FailingVfs::~FailingVfs() {
  sqlite3_vfs_unregister(vfs_.get());
}

void FailingVfs::fail(Plan plan) {
  plan_ = std::move(plan);
  seen_ = 0;
  failures_ = 0;
}

int FailingVfs::judge(Op op, const char* file, const std::string& bytes) {
  if (!plan_ || plan_->op != op) return SQLITE_OK;
  if (!std::string_view(file).ends_with(plan_->file_end)) return SQLITE_OK;
  if (!plan_->bytes.empty() && bytes.find(plan_->bytes) == std::string::npos) return SQLITE_OK;
  const int number = seen_++;
  const bool fails = plan_->for_good ? number >= plan_->after : number == plan_->after;
  if (!fails) return SQLITE_OK;
  ++failures_;
  return plan_->code;
}

}  // namespace telemetryd::test
