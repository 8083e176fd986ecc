#include "salvage/salvage.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include <CLI/CLI.hpp>

#include "config/config.h"
#include "salvage/daemon_status.h"
#include "salvage/event_lines.h"
#include "salvage/plan.h"
#include "salvage/resubmit.h"
#include "salvage/source.h"

namespace telemetryd::salvage {
namespace {

struct Arguments {
  std::string folder;
  std::string socket;
  std::string output;
  bool dry_run = false;
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

Result<Resubmitter> connect(const std::filesystem::path& socket, const Senders::value_type& entry) {
  const auto& [uid, context] = entry.first;
  return Resubmitter::connect(socket, uid, context, instance_of(uid, context, entry.second));
}

std::uint64_t events_of_others(const Plan& plan) {
  std::uint64_t events = 0;
  for (const auto& [who, sender] : plan.senders) {
    if (Resubmitter::may_send_for(who.first)) continue;
    for (const auto& [seq, row] : sender) events += row.count - row.next_index;
  }
  return events;
}

// What telemetryd does not know yet takes in its store.
Result<std::uint64_t> bytes_to_send(PageFile& file,
                                    const Plan& plan,
                                    const std::filesystem::path& socket) {
  std::uint64_t bytes = 0;
  for (const auto& entry : plan.senders) {
    if (!Resubmitter::may_send_for(entry.first.first)) continue;
    TELEMETRYD_ASSIGN(const Resubmitter to, connect(socket, entry));
    TELEMETRYD_TRY(for_each_frame(file, entry.second, [&](const Frame& frame) -> Result<void> {
      if (frame.number > to.high_water()) {
        bytes += stored_bytes(frame.batch.size(), entry.first.second.size());
      }
      return {};
    }));
  }
  return bytes;
}

// What a full store takes in, it or others lose again.
Result<void> want_room(std::uint64_t needed, const DaemonStatus& status) {
  const std::uint64_t room = room_for_rows(status);
  if (needed <= room) return {};
  return fail(ErrorCode::kResourceExhausted,
              "telemetryd's store has no room for these events, and nothing was sent: raise "
              "[store] bytes_max (needs about " +
                  std::to_string(needed - room) + " more bytes), or use --output");
}

Result<void> resubmit(PageFile& file,
                      const Plan& plan,
                      const std::filesystem::path& socket,
                      Resubmitted& counts) {
  for (const auto& entry : plan.senders) {
    if (!Resubmitter::may_send_for(entry.first.first)) continue;
    TELEMETRYD_ASSIGN(Resubmitter to, connect(socket, entry));
    TELEMETRYD_TRY(for_each_frame(
        file, entry.second, [&](const Frame& frame) { return to.send(frame, counts); }));
  }
  return {};
}

bool is_missing_some(const Source& source, const Plan& plan) {
  return plan.damaged_rows > 0 || plan.damaged_pages > 0 ||
         (source.queued && plan.events < *source.queued);
}

void print_plan(std::FILE* to, const Source& source, const Plan& plan) {
  std::fprintf(to,
               "%llu rows with %llu events to bring back, %llu damaged rows, %llu damaged pages.\n",
               shown(plan.rows),
               shown(plan.events),
               shown(plan.damaged_rows),
               shown(plan.damaged_pages));
  if (source.queued && plan.events < *source.queued) {
    std::fprintf(to,
                 "The witness knew %llu queued events, %llu were found.\n",
                 shown(*source.queued),
                 shown(plan.events));
  }
}

void print_resubmitted(const Resubmitted& counts) {
  std::printf("%llu events resubmitted, %llu known already, %llu refused%s%s.\n",
              shown(counts.events),
              shown(counts.duplicates),
              shown(counts.refused),
              counts.refused > 0 ? ": " : "",
              counts.refused > 0 ? counts.refusal.c_str() : "");
}

// Everything that speaks against removing the folder; true: nothing does.
bool all_is_safe(const Source& source,
                 const Plan& plan,
                 const Resubmitted& counts,
                 const Result<DaemonStatus>& before,
                 const Result<DaemonStatus>& after) {
  bool safe = counts.refused == 0 && !is_missing_some(source, plan);
  if (const std::uint64_t others = events_of_others(plan); others > 0) {
    std::printf(
        "%llu events of other users or machines were left. Root may resubmit those of this "
        "machine's users; --output writes them all.\n",
        shown(others));
    safe = false;
  }
  if (!before || !after) {
    const Error& why = before ? after.error() : before.error();
    std::printf(
        "Whether telemetryd had to evict events is not known (%s). See telemetryctl ledger "
        "show.\n",
        why.message().c_str());
    return false;
  }
  if (after->evicted > before->evicted) {
    std::printf(
        "telemetryd evicted %llu events meanwhile: its store is full. Keep the folder, raise "
        "[store] "
        "bytes_max, and write the events with --output.\n",
        shown(after->evicted - before->evicted));
    return false;
  }
  return safe;
}

int send_back(Source& source, const Plan& plan, const Arguments& arguments) {
  const std::filesystem::path socket = socket_of(arguments);
  const Result<DaemonStatus> before = daemon_status(socket);
  Resubmitted counts;
  const auto done = [&]() -> Result<void> {
    if (before) {
      TELEMETRYD_ASSIGN(const std::uint64_t needed, bytes_to_send(source.file, plan, socket));
      TELEMETRYD_TRY(want_room(needed, *before));
    }
    return resubmit(source.file, plan, socket, counts);
  }();
  if (done || counts.events + counts.duplicates + counts.refused > 0) print_resubmitted(counts);
  if (!done) {
    std::fprintf(stderr, "telemetryd-salvage: %s\n", done.error().message().c_str());
    return kExitFailed;
  }
  if (!all_is_safe(source, plan, counts, before, daemon_status(socket))) {
    std::printf("Not everything is safe with telemetryd. Keep %s.\n", arguments.folder.c_str());
    return kExitPartly;
  }
  if (source.set_aside && counts.events + counts.duplicates > 0) {
    std::printf("What was in it is with telemetryd. %s may be removed.\n",
                arguments.folder.c_str());
  }
  return kExitOk;
}

Result<int> write_out(Source& source, const Plan& plan, const Arguments& arguments) {
  TELEMETRYD_ASSIGN(const Written written, write_events(source.file, plan, arguments.output));
  std::fprintf(
      stderr,
      "%llu events written. telemetryctl event import --app APP FILE sends the lines of one app, "
      "in the name of whoever runs it.\n",
      shown(written.events));
  return written.unreadable > 0 || is_missing_some(source, plan) ? kExitPartly : kExitOk;
}

Result<int> salvage(const Arguments& arguments) {
  TELEMETRYD_ASSIGN(Source source, open_source(arguments.folder));
  TELEMETRYD_ASSIGN(const Plan plan, make_plan(source.file));
  // The events may go to standard output.
  print_plan(arguments.output == "-" ? stderr : stdout, source, plan);
  if (arguments.dry_run) return is_missing_some(source, plan) ? kExitPartly : kExitOk;
  if (!arguments.output.empty()) return write_out(source, plan, arguments);
  return send_back(source, plan, arguments);
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
