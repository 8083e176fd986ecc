#include "salvage/page_file.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "salvage/big_endian.h"
#include "store/schema.h"

namespace telemetryd::salvage {
namespace {

constexpr std::size_t kLogHeaderBytes = store::kWalHeaderBytes;
constexpr std::size_t kFrameHeaderBytes = store::kWalFrameBytes - store::kPageBytes;
constexpr std::size_t kSaltAt = 16;      // in the log's header, 8 bytes
constexpr std::size_t kFrameSaltAt = 8;  // in a frame's
// https://www.sqlite.org/fileformat2.html, section 1.8: five bytes an entry, the first one its
// type.
constexpr std::uint32_t kMapEntryBytes = 5;
constexpr std::uint32_t kMapEvery = store::kPageBytes / kMapEntryBytes + 1;
constexpr char kRootPage = 1;
constexpr char kFreePage = 2;
constexpr char kTreePage = 5;  // the highest type

std::uint32_t map_page_of(std::uint32_t page) {
  return (page - 2) / kMapEvery * kMapEvery + 2;
}

Result<UniqueFd> open_if_there(const std::filesystem::path& file) {
  UniqueFd fd(::open(file.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd && errno != ENOENT) return fail(error_from_errno(errno, file.native()));
  return fd;
}

std::uint64_t size_of(const UniqueFd& fd) {
  struct stat info{};
  if (!fd || ::fstat(fd.get(), &info) != 0) return 0;
  return static_cast<std::uint64_t>(info.st_size);
}

std::string read_at(const UniqueFd& fd, std::uint64_t offset, std::size_t bytes) {
  std::string content(bytes, '\0');
  std::size_t have = 0;
  while (fd && have < bytes) {
    const ssize_t got =
        ::pread(fd.get(), content.data() + have, bytes - have, static_cast<off_t>(offset + have));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    have += static_cast<std::size_t>(got);
  }
  content.resize(have);
  return content;
}

}  // namespace

Result<PageFile> PageFile::open(const std::filesystem::path& folder) {
  PageFile file;
  TELEMETRYD_ASSIGN(file.database_, open_if_there(folder / "events.db"));
  TELEMETRYD_ASSIGN(file.log_, open_if_there(folder / "events.db-wal"));
  if (!file.database_ && !file.log_) {
    return fail(ErrorCode::kNotFound,
                folder.native() + " holds neither events.db nor events.db-wal");
  }
  file.pages_ = static_cast<std::uint32_t>(size_of(file.database_) / store::kPageBytes);
  file.read_log();
  return file;
}

// Frames of the log as it was last begun have its salt; what is behind them is older.
void PageFile::read_log() {
  const std::string header = read_at(log_, 0, kLogHeaderBytes);
  if (header.size() < kLogHeaderBytes) return;
  const std::string salt = header.substr(kSaltAt, 8);
  const std::uint64_t size = size_of(log_);
  for (std::uint64_t at = kLogHeaderBytes; at + store::kWalFrameBytes <= size;
       at += store::kWalFrameBytes) {
    const std::string frame = read_at(log_, at, kFrameHeaderBytes);
    if (frame.size() < kFrameHeaderBytes || frame.substr(kFrameSaltAt, 8) != salt) continue;
    const auto page = static_cast<std::uint32_t>(big_endian(frame, 0, 4));
    const std::uint64_t largest = pages_ + size / store::kWalFrameBytes;
    if (page == 0 || page > largest) continue;
    in_log_[page] = at + kFrameHeaderBytes;
    pages_ = std::max(pages_, page);
  }
}

std::string PageFile::read(std::uint32_t page) const {
  const auto logged = in_log_.find(page);
  if (logged != in_log_.end()) return read_at(log_, logged->second, store::kPageBytes);
  return read_at(database_, (page - std::uint64_t{1}) * store::kPageBytes, store::kPageBytes);
}

// 0 where the map is cut short, and for the pages that it has no entry for.
char PageFile::map_entry(std::uint32_t page) {
  if (page <= 2) return 0;
  const std::uint32_t map_page = map_page_of(page);
  if (page == map_page) return 0;
  if (map_page != map_page_) {
    map_ = read(map_page);
    map_page_ = map_page;
  }
  const std::size_t at = std::size_t{page - map_page - 1} * kMapEntryBytes;
  return at < map_.size() ? map_[at] : '\0';
}

bool PageFile::unused(std::uint32_t page) {
  if (page < 2) return false;
  return page == map_page_of(page) || map_entry(page) == kFreePage;
}

bool PageFile::of_a_tree(std::uint32_t page) {
  const char entry = map_entry(page);
  return entry == kRootPage || entry == kTreePage;
}

bool PageFile::broken_map(std::uint32_t page) {
  if (page < 2 || page != map_page_of(page)) return false;
  const std::uint32_t last = std::min(pages_, page + kMapEvery - 1);
  if (read(page).size() < store::kPageBytes) return true;
  // The file grows ahead of the database: its last pages have no type yet.
  for (std::uint32_t next = page + 1; next <= last; ++next) {
    if (map_entry(next) < 0 || map_entry(next) > kTreePage) return true;
  }
  return page == 2 && last > page && map_entry(page + 1) == 0;
}

}  // namespace telemetryd::salvage
