#include "salvage/event_lines.h"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <memory>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/io.h"
#include "base/unique_fd.h"
#include "event/event.h"
#include "store/row_bytes.h"

namespace telemetryd::salvage {
namespace {

class Lines {
 public:
  static Result<Lines> open(const std::string& path) {
    Lines lines;
    if (path == "-") {
      lines.file_.reset(stdout);
      return lines;
    }
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd && errno == EEXIST) {
      return fail(ErrorCode::kFailedPrecondition,
                  path + " is there already and stays as it is; name another file");
    }
    if (!fd) return fail(error_from_errno(errno, path));
    lines.unfinished_ = path;
    lines.file_.reset(::fdopen(fd.get(), "w"));
    if (!lines.file_) return fail(error_from_errno(errno, path));
    (void)fd.release();
    return lines;
  }

  Lines(Lines&& other) noexcept
      : file_(std::move(other.file_)), unfinished_(std::exchange(other.unfinished_, {})) {}

  Lines& operator=(Lines&&) = delete;
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;

  ~Lines() {
    if (!unfinished_.empty()) (void)::unlink(unfinished_.c_str());
  }

  void write(const nlohmann::json& json) {
    const auto text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    (void)std::fwrite(text.data(), 1, text.size(), file_.get());
  }

  // On disk: the folder that they come from may be removed next.
  Result<void> finish() {
    std::FILE* const file = file_.get();
    const bool synced = std::fflush(file) == 0 && std::ferror(file) == 0 &&
                        (unfinished_.empty() || ::fsync(::fileno(file)) == 0);
    if (!synced) return fail(error_from_errno(errno, "writing the output"));
    unfinished_.clear();
    return {};
  }

 private:
  struct Close {
    void operator()(std::FILE* file) const {
      if (file != stdout) std::fclose(file);
    }
  };

  Lines() = default;

  std::unique_ptr<std::FILE, Close> file_;
  std::string unfinished_;  // the path, until all is on disk
};

}  // namespace

Result<Written> write_events(PageFile& file, const Plan& plan, const std::string& path) {
  TELEMETRYD_ASSIGN(Lines lines, Lines::open(path));
  Written written;
  for (const auto& [who, sender] : plan.senders) {
    const auto& [uid, context] = who;
    TELEMETRYD_TRY(for_each_frame(file, sender, [&](const Frame& frame) -> Result<void> {
      std::string_view rest = frame.batch;
      while (const auto framed = store::take_event(rest)) {
        auto json = event::to_json(store::event_body(*framed), context);
        if (!json) {
          ++written.unreadable;
          continue;
        }
        (*json)["uid"] = uid;
        lines.write(*json);
        ++written.events;
      }
      return {};
    }));
  }
  TELEMETRYD_TRY(lines.finish());
  return written;
}

}  // namespace telemetryd::salvage
