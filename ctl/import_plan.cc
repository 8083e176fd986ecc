#include "ctl/import_plan.h"

#include <cstring>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>
#include <openssl/sha.h>
#include <protozero/pbf_writer.hpp>

#include "ctl/import_line.h"
#include "ctl/line_reader.h"

namespace telemetryd::ctl {
namespace {

constexpr protozero::pbf_tag_type kEventsField = 1;  // EventBatch.events
constexpr std::size_t kTagAndLengthMax = 6;

// How often each line was seen. Keyed by 8 bytes of a hash: should two different lines share them,
// the second one's ID counts from 1 instead of 0, and does so every time.
class Occurrences {
 public:
  Result<std::uint32_t> next(std::string_view line) {
    std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest{};
    SHA256(as_bytes(line).data(), line.size(), digest.data());
    std::uint64_t key = 0;
    std::memcpy(&key, digest.data(), sizeof key);
    const auto [entry, fresh] = seen_.try_emplace(key, 0);
    if (fresh && seen_.size() > kLinesWithoutIdMax) {
      return fail(ErrorCode::kResourceExhausted,
                  fmt::format("more than {} different lines; split the file", kLinesWithoutIdMax));
    }
    return entry->second++;
  }

 private:
  std::unordered_map<std::uint64_t, std::uint32_t> seen_;
};

struct Visitor {
  std::function<Result<void>(ImportedEvent&&)> on_event;
  std::function<void(std::uint64_t, std::string)> on_problem;
};

struct Walked {
  Bytes16 hash{};
  std::uint64_t lines = 0;
};

std::string hash_prefix(const std::string& app) {
  std::string prefix = "telemetryd-import-v1";
  prefix += '\0';
  prefix += app;
  prefix += '\0';
  return prefix;
}

std::string batch_of_one(const std::string& event) {
  std::string batch;
  protozero::pbf_writer writer(batch);
  writer.add_message(kEventsField, event);
  return batch;
}

// The rules that the daemon will apply are applied here, so that a line is named and not a frame.
Result<void> check(const ImportedEvent& event) {
  const auto valid = event::validate(
      batch_of_one(event.bytes), event.persistence_class, event.urgency, event::Limits{});
  if (!valid) return fail(valid.error());
  return {};
}

Result<Walked> walk(const ImportSource& source, const Visitor& visitor) {
  LineReader reader(source.fd, hash_prefix(source.app));
  Occurrences occurrences;
  Walked walked;
  Line line;
  while (true) {
    TELEMETRYD_ASSIGN(const bool more, reader.next(line));
    if (!more) break;
    if (line.text.find_first_not_of(" \t") == std::string_view::npos) continue;
    ++walked.lines;
    if (line.too_long) {
      visitor.on_problem(line.number, fmt::format("longer than {} bytes", kLineBytesMax));
      continue;
    }
    TELEMETRYD_ASSIGN(const std::uint32_t occurrence, occurrences.next(line.text));
    auto event = parse_line(line.text, {source.now_unix_nano, occurrence});
    if (event) {
      const auto checked = check(*event);
      if (!checked) event = fail(checked.error());
    }
    if (!event) {
      visitor.on_problem(line.number, event.error().message());
      continue;
    }
    TELEMETRYD_TRY(visitor.on_event(std::move(*event)));
  }
  walked.hash = reader.content_hash();
  return walked;
}

class BlockCutter {
 public:
  // The block that is complete because `event` does not belong to it any more, or an empty one.
  Block add(const ImportedEvent& event) {
    Block complete;
    const bool homogeneous =
        event.persistence_class == block_.persistence_class && event.urgency == block_.urgency;
    const bool full = block_.count >= kBlockEventsMax ||
                      block_.batch.size() + event.bytes.size() + kTagAndLengthMax > kBlockBytesMax;
    if (block_.count > 0 && (!homogeneous || full)) complete = take();
    block_.persistence_class = event.persistence_class;
    block_.urgency = event.urgency;
    protozero::pbf_writer(block_.batch).add_message(kEventsField, event.bytes);
    ++block_.count;
    return complete;
  }

  Block take() {
    if (block_.count > 0) block_.number = ++numbers_;
    return std::exchange(block_, Block{});
  }

 private:
  Block block_;
  std::uint64_t numbers_ = 0;
};

}  // namespace

Result<ImportPlan> plan_import(const ImportSource& source) {
  ImportPlan plan;
  BlockCutter cutter;
  Visitor visitor;
  visitor.on_event = [&](ImportedEvent&& event) -> Result<void> {
    ++plan.events;
    if (cutter.add(event).count > 0) ++plan.blocks;
    return {};
  };
  visitor.on_problem = [&](std::uint64_t line, std::string reason) {
    ++plan.invalid;
    if (plan.problems.size() < kProblemsKept) plan.problems.push_back({line, std::move(reason)});
  };
  TELEMETRYD_ASSIGN(const Walked walked, walk(source, visitor));
  if (cutter.take().count > 0) ++plan.blocks;
  plan.lines = walked.lines;
  plan.instance = walked.hash;
  return plan;
}

Result<void> for_each_block(const ImportSource& source,
                            const ImportPlan& plan,
                            const std::function<Result<void>(const Block&)>& visit) {
  BlockCutter cutter;
  Visitor visitor;
  visitor.on_event = [&](ImportedEvent&& event) -> Result<void> {
    const Block block = cutter.add(event);
    if (block.count == 0) return {};
    return visit(block);
  };
  visitor.on_problem = [](std::uint64_t, const std::string&) {};
  TELEMETRYD_ASSIGN(const Walked walked, walk(source, visitor));
  if (walked.hash != plan.instance) {
    return fail(ErrorCode::kFailedPrecondition,
                "the file was changed while it was imported; import it again");
  }
  const Block last = cutter.take();
  if (last.count == 0) return {};
  return visit(last);
}

}  // namespace telemetryd::ctl
