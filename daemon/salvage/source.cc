#include "salvage/source.h"

#include <cerrno>
#include <fcntl.h>
#include <string>
#include <sys/file.h>

#include "base/io.h"
#include "store/witness.h"

namespace telemetryd::salvage {
namespace {

namespace fs = std::filesystem;

Error with_next_step(const Error& error) {
  if (error.code() != ErrorCode::kPermissionDenied) return error;
  return {error.code(), error.message() + "; run telemetryd-salvage as root"};
}

Result<void> want_folder(const fs::path& folder) {
  std::error_code problem;
  const fs::file_status status = fs::status(folder, problem);
  if (status.type() == fs::file_type::directory) return {};
  if (status.type() != fs::file_type::none && status.type() != fs::file_type::not_found) {
    return fail(ErrorCode::kInvalidArgument,
                folder.native() + " is not a folder; name the folder that holds events.db");
  }
  return fail(error_from_errno(problem ? problem.value() : ENOENT, folder.native()));
}

// A store in use changes while it is read.
Result<UniqueFd> keep_telemetryd_out(const fs::path& folder) {
  const fs::path path = folder / "lock";
  UniqueFd lock(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!lock && (errno == ENOENT || errno == EROFS)) return lock;
  if (!lock) return fail(error_from_errno(errno, path.native()));
  if (::flock(lock.get(), LOCK_SH | LOCK_NB) == 0) return lock;
  if (errno != EWOULDBLOCK) return fail(error_from_errno(errno, "locking " + path.native()));
  return fail(ErrorCode::kFailedPrecondition,
              folder.native() +
                  " is in use by telemetryd; stop it, or name a folder below "
                  "quarantine/");
}

std::optional<std::uint64_t> queued_by_witness(const fs::path& folder) {
  const auto bytes = read_file(folder / "witness", store::kWitnessBytes);
  const auto witness = bytes ? store::decode_witness(*bytes) : std::nullopt;
  if (!witness || !witness->places) return std::nullopt;
  static_assert(store::account::kPlaces.front() == store::account::kQueued);
  return witness->places->front();
}

bool below_quarantine(const fs::path& folder) {
  std::error_code problem;
  const fs::path whole = fs::canonical(folder, problem);
  return !problem && whole.parent_path().filename() == "quarantine";
}

Result<Source> open(const fs::path& folder) {
  TELEMETRYD_TRY(want_folder(folder));
  TELEMETRYD_ASSIGN(UniqueFd lock, keep_telemetryd_out(folder));
  TELEMETRYD_ASSIGN(PageFile file, PageFile::open(folder));
  const bool set_aside = !lock && below_quarantine(folder);
  return Source{std::move(lock), std::move(file), set_aside, queued_by_witness(folder)};
}

}  // namespace

Result<Source> open_source(const fs::path& folder) {
  auto source = open(folder);
  if (!source) return fail(with_next_step(source.error()));
  return source;
}

}  // namespace telemetryd::salvage
