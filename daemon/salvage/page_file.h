// salvage/page_file.h: the pages of a damaged store, database and WAL together, without SQLite.
//
// SQLite stops at the first wrong page, and Debian's sqlite3 has no .recover. What is on a page
// does not depend on the others, so they are read one by one: the newest version of each, which is
// in the WAL when a frame of the current log has it. Whether a frame was damaged is not asked; the
// rows on it have checksums of their own.
//
// Owns:    two open files, for reading. Nothing is written, so a store on a read-only disk will do.
// Thread:  one.
// Limits:  pages of store::kPageBytes; one index entry per page in the WAL.
// Fails:   kNotFound when the folder has neither file; kUnavailable as the disk says.

#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <unordered_map>

#include "base/result.h"
#include "base/unique_fd.h"

namespace telemetryd::salvage {

class PageFile {
 public:
  [[nodiscard]] static Result<PageFile> open(const std::filesystem::path& folder);

  // Pages are numbered from 1.
  std::uint32_t pages() const { return pages_; }

  // One that the disk cannot read whole is shorter, or empty.
  std::string read(std::uint32_t page) const;

  // By SQLite's pointer map, which a store of ours has: what lies on a free page was removed, and
  // what was removed shall not come back. True too for pages of the map itself.
  bool unused(std::uint32_t page);

  // That the map says the root or a page of a B-tree.
  bool of_a_tree(std::uint32_t page);

  // A page of the map that cannot be read, or says what SQLite never writes.
  bool broken_map(std::uint32_t page);

 private:
  void read_log();
  char map_entry(std::uint32_t page);

  UniqueFd database_;
  UniqueFd log_;
  std::uint32_t pages_ = 0;
  std::unordered_map<std::uint32_t, std::uint64_t> in_log_;  // page to its newest frame's content
  std::uint32_t map_page_ = 0;                               // the one in `map_`
  std::string map_;
};

}  // namespace telemetryd::salvage
