#include "forward/file_sink.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/io.h"
#include "base/unique_fd.h"
#include "event/event.h"

namespace telemetryd::forward {
namespace {

using nlohmann::json;

Result<UniqueFd> open_target(const std::filesystem::path& path) {
  // No O_NOFOLLOW surprise and no pipe that blocks: what is there must be a file.
  UniqueFd fd(::open(path.c_str(),
                     O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
                     0640));
  if (!fd && errno == ENOENT) {
    return fail(ErrorCode::kNotFound,
                path.parent_path().native() + ": the folder does not exist; create it");
  }
  if (!fd && errno == ELOOP) {
    return fail(ErrorCode::kFailedPrecondition, path.native() + ": is a symbolic link");
  }
  if (!fd) return fail(error_from_errno(errno, path.native()));
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return fail(error_from_errno(errno, path.native()));
  if (!S_ISREG(info.st_mode)) {
    return fail(ErrorCode::kFailedPrecondition, path.native() + ": is not a regular file");
  }
  return fd;
}

Result<void> lock(int fd, const std::filesystem::path& path) {
  constexpr std::chrono::milliseconds kStep{5};
  for (auto waited = kStep; ::flock(fd, LOCK_EX | LOCK_NB) != 0; waited += kStep) {
    if (errno != EWOULDBLOCK && errno != EINTR) return fail(error_from_errno(errno, path.native()));
    if (waited > FileSink::kLockWait) {
      return fail(ErrorCode::kUnavailable, path.native() + ": locked by another program");
    }
    std::this_thread::sleep_for(kStep);
  }
  return {};
}

// The text behind the last line end, looking back at most kTailBytesMax.
Result<std::string> torn_tail(int fd, off_t size, const std::filesystem::path& path) {
  std::string tail;
  off_t at = size;
  while (at > 0) {
    const off_t step = std::min<off_t>(at, 1 << 16);
    std::string chunk(static_cast<std::size_t>(step), '\0');
    const ssize_t got = ::pread(fd, chunk.data(), chunk.size(), at - step);
    if (got != step) return fail(error_from_errno(got < 0 ? errno : EIO, path.native()));
    at -= step;
    const std::size_t line_end = chunk.rfind('\n');
    tail.insert(0, line_end == std::string::npos ? chunk : chunk.substr(line_end + 1));
    if (line_end != std::string::npos) return tail;
    if (tail.size() > FileSink::kTailBytesMax) {
      return fail(ErrorCode::kFailedPrecondition,
                  path.native() + ": does not look like JSON lines; choose another file");
    }
  }
  return tail;
}

Result<off_t> repair(int fd, const std::filesystem::path& path) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return fail(error_from_errno(errno, path.native()));
  TELEMETRYD_ASSIGN(const std::string tail, torn_tail(fd, info.st_size, path));
  if (tail.empty()) return info.st_size;
  if (json::accept(tail)) {
    if (::write(fd, "\n", 1) != 1) return fail(error_from_errno(errno, path.native()));
    return info.st_size + 1;
  }
  // Only what begins like a line of ours is ours to cut.
  if (tail.front() != '{') {
    return fail(ErrorCode::kFailedPrecondition,
                path.native() + ": its last line is not JSON; choose another file");
  }
  const off_t kept = info.st_size - static_cast<off_t>(tail.size());
  if (::ftruncate(fd, kept) != 0) return fail(error_from_errno(errno, path.native()));
  return kept;
}

Result<void> write_whole(int fd, std::string_view lines, const std::filesystem::path& path) {
  while (!lines.empty()) {
    const ssize_t written = ::write(fd, lines.data(), lines.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail(error_from_errno(errno, path.native()));
    lines.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fdatasync(fd) != 0) return fail(error_from_errno(errno, path.native()));
  return {};
}

v1::Outcome outcome_of(const Error& error) {
  switch (error.code()) {
    case ErrorCode::kNotFound:
    case ErrorCode::kPermissionDenied:
    case ErrorCode::kFailedPrecondition: return hold(error.message());
    default: return retry(error.message(), v1::CAUSE_CONFIGURATION);
  }
}

}  // namespace

std::string lines_of(const v1::Lease& lease, v1::Outcome& outcome) {
  std::string lines;
  for (const v1::LeasedRow& row : lease.rows()) {
    std::uint32_t seen = 0;
    const auto visited =
        event::for_each(row.events(), [&](std::uint32_t index, std::string_view e) {
          seen = index + 1;
          auto shown = event::to_json(e, row.context());
          if (!shown) {
            reject(outcome, row, index, 1, "invalid_event: " + shown.error().message());
            return true;
          }
          if (!row.machine_id().empty()) (*shown)["machine_id"] = row.machine_id();
          lines += shown->dump(-1, ' ', false, json::error_handler_t::replace);
          lines += '\n';
          return true;
        });
    if (!visited && seen < row.count()) {
      reject(outcome, row, seen, row.count() - seen, "invalid_event: " + visited.error().message());
    }
  }
  return lines;
}

Result<void> append_lines(const std::filesystem::path& path, const std::string& lines) {
  const bool fresh = !std::filesystem::exists(path);
  TELEMETRYD_ASSIGN(const UniqueFd fd, open_target(path));
  TELEMETRYD_TRY(lock(fd.get(), path));
  TELEMETRYD_ASSIGN(const off_t start, repair(fd.get(), path));
  if (auto written = write_whole(fd.get(), lines, path); !written) {
    // Half a batch on disk would only be repeated by the next try; failing here leaves a tail that
    // the next repair takes care of.
    if (::ftruncate(fd.get(), start) != 0) return fail(error_from_errno(errno, path.native()));
    return written;
  }
  // The name of a new file is data of its folder.
  if (fresh) return sync_directory(path.parent_path());
  return {};
}

void FileSink::begin(const v1::Lease& lease, std::function<void(v1::Outcome)> done) {
  v1::Outcome outcome = delivered();
  const std::string lines = lines_of(lease, outcome);
  if (const auto appended = append_lines(path_, lines); !appended) {
    return done(outcome_of(appended.error().with_context("url")));
  }
  outcome.set_body_bytes(lines.size());
  done(std::move(outcome));
}

void FileSink::probe(std::function<void(ProbeOutcome)> done) {
  const auto fd = open_target(path_);
  if (!fd) return done({false, printable(fd.error().with_context("url").message())});
  done({true, printable(path_.native() + " can be written")});
}

}  // namespace telemetryd::forward
