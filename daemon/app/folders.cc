#include "app/folders.h"

#include <cerrno>
#include <string>
#include <sys/stat.h>
#include <system_error>

#include "base/io.h"

namespace telemetryd::app {

Result<void> make_folder(const std::filesystem::path& folder, mode_t mode) {
  std::error_code error;
  std::filesystem::create_directories(folder.parent_path(), error);
  if (error) return fail(error_from_errno(error.value(), folder.parent_path().native()));
  if (::mkdir(folder.c_str(), mode) == 0) {
    // The umask took bits away.
    if (::chmod(folder.c_str(), mode) == 0) return {};
    return fail(error_from_errno(errno, folder.native()));
  }
  if (errno != EEXIST) return fail(error_from_errno(errno, folder.native()));
  if (!std::filesystem::is_directory(folder, error)) {
    return fail(ErrorCode::kFailedPrecondition, folder.native() + ": is there and is no folder");
  }
  return {};
}

Result<void> publish_policy(const std::filesystem::path& runtime_dir,
                            consent::MachinePolicy policy) {
  const std::string text = std::string("mode = ") + consent::policy_name(policy) + "\n";
  return replace_file(runtime_dir / "policy", text, 0644);
}

}  // namespace telemetryd::app
