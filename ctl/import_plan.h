// ctl/import_plan.h: a file of events as numbered blocks that come out the same every time.
//
// An import may be repeated, after a crash of either side or a month later, and must then change
// nothing. So everything that the daemon and the server recognise repetition by follows from the
// content: the instance is a hash of app and content, frame numbers count blocks from 1, blocks are
// cut by rule, and IDs that lines lack are made from the line.
//
// Thread:  any; no state.
// Limits:  blocks of kBlockEventsMax events and about kBlockBytesMax; events as in
//          docs/formats/frame.md. Memory grows by about 40 bytes for each line without an ID, for
//          at most kLinesWithoutIdMax lines.
// Fails:   kUnavailable when reading fails, kFailedPrecondition when the file is changed meanwhile.

#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "event/event.h"

namespace telemetryd::ctl {

constexpr std::uint32_t kBlockEventsMax = 500;
constexpr std::size_t kBlockBytesMax = 256 * 1024;
constexpr std::size_t kProblemsKept = 20;
constexpr std::size_t kLinesWithoutIdMax = 20'000'000;

struct LineProblem {
  std::uint64_t line = 0;
  std::string reason;
};

struct ImportPlan {
  Bytes16 instance{};
  std::uint64_t lines = 0;  // without empty ones
  std::uint64_t events = 0;
  std::uint64_t invalid = 0;
  std::uint64_t blocks = 0;
  std::vector<LineProblem> problems;  // the first kProblemsKept
};

struct Block {
  std::uint64_t number = 0;  // from 1
  std::uint32_t count = 0;
  event::Class persistence_class = event::Class::kNormal;
  event::Urgency urgency = event::Urgency::kNormal;
  std::string batch;  // encoded EventBatch
};

struct ImportSource {
  int fd = -1;
  std::string app;
  std::uint64_t now_unix_nano = 0;  // for events without a time
};

// First pass: reads everything, sends nothing.
[[nodiscard]] Result<ImportPlan> plan_import(const ImportSource& source);

// Second pass: hands out the blocks in order; lines that are not valid are left out. `visit` ends
// the pass by returning an error.
[[nodiscard]] Result<void> for_each_block(const ImportSource& source,
                                          const ImportPlan& plan,
                                          const std::function<Result<void>(const Block&)>& visit);

}  // namespace telemetryd::ctl
