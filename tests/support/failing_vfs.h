// support/failing_vfs.h: a disk that refuses what the test says, when the test says.
//
// A SQLite VFS in front of the platform's. While armed it counts the operations of the chosen
// kinds; the n-th fails, alone or with all that follow.
//
// Thread:  the store's; not two at a time.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

struct sqlite3_vfs;

namespace telemetryd::test {

class FailingVfs {
 public:
  enum class Op { kRead, kWrite, kSync, kTruncate, kOpen, kGrow };

  struct Plan {
    Op op{};
    int code = 0;          // the SQLite error
    int after = 0;         // operations that still work
    bool for_good = true;  // and all later ones fail too
    std::string file_end;  // only of files whose names end like this
    bool half = false;     // a write leaves its first half on the disk
    std::string bytes;     // only reads of pages that hold these bytes
  };

  FailingVfs();
  ~FailingVfs();

  FailingVfs(const FailingVfs&) = delete;
  FailingVfs& operator=(const FailingVfs&) = delete;

  // For store::Options::vfs.
  const std::string& name() const { return name_; }

  void fail(Plan plan);

  void heal() { plan_.reset(); }

  // How often the last plan failed something.
  int failures() const { return failures_; }

  // The error for an operation; 0: it may go on.
  int judge(Op op, const char* file, const std::string& bytes = "");

  bool leaves_half() const { return plan_ && plan_->half; }

  bool looks_at_bytes() const { return plan_ && !plan_->bytes.empty(); }

 private:
  std::string name_;
  std::unique_ptr<sqlite3_vfs> vfs_;
  std::optional<Plan> plan_;
  int seen_ = 0;
  int failures_ = 0;
};

}  // namespace telemetryd::test
