#include "salvage/salvage.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <memory>
#include <string>
#include <sys/file.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/io.h"
#include "config/config.h"
#include "event/event.h"
#include "salvage/plan.h"
#include "salvage/resubmit.h"
#include "store/row_bytes.h"

namespace telemetryd::salvage {
namespace {

struct Arguments {
  std::string folder;
  std::string socket;
  std::string output;
  bool dry_run = false;
};

struct Left {
  std::uint64_t other_users = 0;  // events
  std::uint64_t unreadable = 0;
};

unsigned long long shown(std::uint64_t number) {
  return static_cast<unsigned long long>(number);
}

std::filesystem::path socket_of(const Arguments& arguments) {
  if (!arguments.socket.empty()) return arguments.socket;
  // Before there are threads.
  const char* const told = std::getenv("TELEMETRYD_SOCKET");  // NOLINT(concurrency-mt-unsafe)
  if (told != nullptr && *told != '\0') return told;
  return config::default_runtime_dir() / "ingest.sock";
}

// A store in use changes while it is read.
Result<UniqueFd> keep_telemetryd_out(const std::filesystem::path& folder) {
  UniqueFd lock(::open((folder / "lock").c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!lock) return lock;
  if (::flock(lock.get(), LOCK_SH | LOCK_NB) == 0) return lock;
  return fail(ErrorCode::kFailedPrecondition,
              folder.native() +
                  " is in use by telemetryd; stop it, or name a folder below "
                  "quarantine/");
}

Result<Resubmitted> resubmit(PageFile& file,
                             const Plan& plan,
                             const std::filesystem::path& socket,
                             Left& left) {
  Resubmitted counts;
  for (const auto& [who, sender] : plan.senders) {
    const auto& [uid, context] = who;
    if (!Resubmitter::may_send_for(uid)) {
      for (const auto& [seq, row] : sender) left.other_users += row.count - row.next_index;
      continue;
    }
    TELEMETRYD_ASSIGN(
        Resubmitter to,
        Resubmitter::connect(socket, uid, context, instance_of(uid, context, sender)));
    TELEMETRYD_TRY(
        for_each_frame(file, sender, [&](const Frame& frame) { return to.send(frame, counts); }));
  }
  return counts;
}

class Lines {
 public:
  static Result<Lines> open(const std::string& path) {
    Lines lines;
    lines.file_.reset(path == "-" ? stdout : std::fopen(path.c_str(), "wxe"));
    if (!lines.file_) return fail(error_from_errno(errno, path));
    return lines;
  }

  void write(const nlohmann::json& json) {
    const auto text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    (void)std::fwrite(text.data(), 1, text.size(), file_.get());
  }

  Result<void> finish() {
    std::FILE* const file = file_.get();
    if (std::fflush(file) == 0 && std::ferror(file) == 0) return {};
    return fail(error_from_errno(errno, "writing the output"));
  }

 private:
  struct Close {
    void operator()(std::FILE* file) const {
      if (file != stdout) std::fclose(file);
    }
  };

  std::unique_ptr<std::FILE, Close> file_;
};

Result<std::uint64_t> write_events(PageFile& file,
                                   const Plan& plan,
                                   const std::string& path,
                                   Left& left) {
  TELEMETRYD_ASSIGN(Lines lines, Lines::open(path));
  std::uint64_t written = 0;
  for (const auto& [who, sender] : plan.senders) {
    const auto& [uid, context] = who;
    TELEMETRYD_TRY(for_each_frame(file, sender, [&](const Frame& frame) -> Result<void> {
      std::string_view rest = frame.batch;
      while (const auto framed = store::take_event(rest)) {
        auto json = event::to_json(store::event_body(*framed), context);
        if (!json) {
          ++left.unreadable;
          continue;
        }
        (*json)["uid"] = uid;
        lines.write(*json);
        ++written;
      }
      return {};
    }));
  }
  TELEMETRYD_TRY(lines.finish());
  return written;
}

int ending(const Plan& plan, const Left& left, std::uint64_t refused) {
  const std::uint64_t stayed = plan.damaged_rows + left.other_users + left.unreadable + refused;
  return stayed == 0 ? kExitOk : kExitPartly;
}

void print_plan(std::FILE* to, const Plan& plan) {
  std::fprintf(to,
               "%llu rows with %llu events to bring back, %llu damaged rows.\n",
               shown(plan.rows),
               shown(plan.events),
               shown(plan.damaged_rows));
}

void print_resubmitted(const Arguments& arguments, const Resubmitted& counts, const Left& left) {
  std::printf("%llu events resubmitted, %llu known already, %llu refused%s%s.\n",
              shown(counts.events),
              shown(counts.duplicates),
              shown(counts.refused),
              counts.refused > 0 ? ": " : "",
              counts.refused > 0 ? counts.refusal.c_str() : "");
  if (left.other_users > 0) {
    std::printf(
        "%llu events of other users or machines were left. Root may resubmit those of this "
        "machine's users; --output writes them all.\n",
        shown(left.other_users));
    return;
  }
  std::printf("What could be read is with telemetryd. %s may be removed.\n",
              arguments.folder.c_str());
}

Result<int> salvage(const Arguments& arguments) {
  TELEMETRYD_ASSIGN(const UniqueFd lock, keep_telemetryd_out(arguments.folder));
  TELEMETRYD_ASSIGN(PageFile file, PageFile::open(arguments.folder));
  TELEMETRYD_ASSIGN(const Plan plan, make_plan(file));
  // The events may go to standard output.
  print_plan(arguments.output == "-" ? stderr : stdout, plan);
  if (arguments.dry_run) return ending(plan, {}, 0);
  Left left;
  if (!arguments.output.empty()) {
    TELEMETRYD_ASSIGN(const std::uint64_t written,
                      write_events(file, plan, arguments.output, left));
    std::fprintf(stderr, "%llu events written.\n", shown(written));
    return ending(plan, left, 0);
  }
  TELEMETRYD_ASSIGN(const Resubmitted counts, resubmit(file, plan, socket_of(arguments), left));
  print_resubmitted(arguments, counts, left);
  return ending(plan, left, counts.refused);
}

int run(int argc, char** argv) {
  Arguments arguments;
  CLI::App program("Brings back the events of a store that telemetryd has set aside as damaged.",
                   "telemetryd-salvage");
  program
      .add_option("DIR",
                  arguments.folder,
                  "A folder below quarantine/, or a copy of a state folder; it is only read")
      ->required();
  auto* const output =
      program.add_option("--output",
                         arguments.output,
                         "Write the events here, one JSON object a line; - is standard "
                         "output. An existing file is left alone");
  program.add_option("--socket", arguments.socket, "telemetryd's ingest socket")->excludes(output);
  program.add_flag("--dry-run", arguments.dry_run, "Only count")->excludes(output);
  program.set_version_flag("--version", "telemetryd-salvage " TELEMETRYD_VERSION);
  try {
    program.parse(argc, argv);
  } catch (const CLI::Success& asked) {
    return program.exit(asked);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "telemetryd-salvage: %s\nTry telemetryd-salvage --help.\n", error.what());
    return kExitUsage;
  }
  const Result<int> done = salvage(arguments);
  if (done) return *done;
  std::fprintf(stderr, "telemetryd-salvage: %s\n", done.error().message().c_str());
  return kExitFailed;
}

}  // namespace

int run_program(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "telemetryd-salvage: %s\n", error.what());
    return kExitFailed;
  }
}

}  // namespace telemetryd::salvage
