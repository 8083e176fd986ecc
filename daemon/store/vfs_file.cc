#include "store/vfs_file.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "store/database.h"

namespace telemetryd::store {
namespace {

// The type tells the VFS nothing but "an ordinary file that stays": main databases and WALs would
// bring locks and a look at their neighbours with them.
constexpr int kOpenFlags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_SUPER_JOURNAL;

}  // namespace

void VfsFile::Close::operator()(sqlite3_file* file) const {
  if (file->pMethods != nullptr) file->pMethods->xClose(file);
  std::free(file);
}

Result<VfsFile> VfsFile::open(const std::string& path, const std::string& vfs_name) {
  // SQLite registers its own VFS only when it is initialised.
  sqlite3_initialize();
  sqlite3_vfs* vfs = sqlite3_vfs_find(vfs_name.empty() ? nullptr : vfs_name.c_str());
  if (vfs == nullptr) return fail(ErrorCode::kInternal, "no SQLite VFS named " + vfs_name);
  VfsFile result(path);
  void* memory = std::calloc(1, static_cast<std::size_t>(vfs->szOsFile));
  if (memory == nullptr) throw std::bad_alloc();
  result.file_.reset(static_cast<sqlite3_file*>(memory));
  const int code = vfs->xOpen(vfs, result.path_.c_str(), result.file_.get(), kOpenFlags, nullptr);
  if (code != SQLITE_OK) return fail(error_from_sqlite(code, nullptr, "opening " + path));
  return result;
}

Result<std::uint64_t> VfsFile::size() {
  sqlite3_int64 bytes = 0;
  const int code = file_->pMethods->xFileSize(file_.get(), &bytes);
  if (code != SQLITE_OK) return fail(error_from_sqlite(code, nullptr, "size of " + path_));
  return static_cast<std::uint64_t>(bytes);
}

Result<std::string> VfsFile::read(std::uint64_t offset, std::size_t bytes) {
  TELEMETRYD_ASSIGN(const std::uint64_t available, size());
  if (offset >= available) return std::string();
  std::string content(std::min<std::uint64_t>(bytes, available - offset), '\0');
  const int code = file_->pMethods->xRead(file_.get(),
                                          content.data(),
                                          static_cast<int>(content.size()),
                                          static_cast<sqlite3_int64>(offset));
  if (code != SQLITE_OK) return fail(error_from_sqlite(code, nullptr, "reading " + path_));
  return content;
}

Result<void> VfsFile::write(std::uint64_t offset, std::string_view bytes) {
  const int code = file_->pMethods->xWrite(file_.get(),
                                           bytes.data(),
                                           static_cast<int>(bytes.size()),
                                           static_cast<sqlite3_int64>(offset));
  if (code != SQLITE_OK) return fail(error_from_sqlite(code, nullptr, "writing " + path_));
  return {};
}

Result<void> VfsFile::sync() {
  const int code = file_->pMethods->xSync(file_.get(), SQLITE_SYNC_NORMAL);
  if (code != SQLITE_OK) return fail(error_from_sqlite(code, nullptr, "syncing " + path_));
  return {};
}

}  // namespace telemetryd::store
