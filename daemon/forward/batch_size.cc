#include "forward/batch_size.h"

#include <algorithm>
#include <optional>

#include <nlohmann/json.hpp>

#include "forward/answer.h"

namespace telemetryd::forward {
namespace {

constexpr std::uint64_t kVersion = 1;

std::optional<std::size_t> bounded(const nlohmann::json& object,
                                   const char* member,
                                   std::size_t least,
                                   std::size_t most) {
  const auto found = count_of(object, member);
  if (!found || *found < least || *found > most) return std::nullopt;
  return static_cast<std::size_t>(*found);
}

}  // namespace

void BatchSize::passed(bool full) {
  if (!full) return;
  if (trying_) {
    known_ = trial_;
    trying_ = false;
    passes_ = 0;
    return;
  }
  if (++passes_ >= patience_) grow();
}

void BatchSize::grow() {
  passes_ = 0;
  const auto more = [](std::size_t known, std::size_t most) {
    return std::min(most, known + std::max<std::size_t>(1, known / 4));
  };
  trial_ = {more(known_.events, format_.events), more(known_.bytes, format_.bytes)};
  trying_ = trial_ != known_;
}

void BatchSize::too_large(std::size_t events, std::size_t bytes) {
  passes_ = 0;
  if (trying_) {
    trying_ = false;
    patience_ = std::min(kPatienceMax, patience_ * 2);
    // It was the try that was refused, and what was known before still holds.
    if (events > known_.events || bytes > known_.bytes) return;
  }
  known_.events = std::min(known_.events, std::max<std::size_t>(1, events / 2));
  // Events differ in size; the second half of a batch may be a little larger than the first.
  known_.bytes = std::min(known_.bytes, std::max<std::size_t>(1, bytes / 2 + bytes / 16));
}

std::string BatchSize::text() const {
  const bool nothing = known_ == format_ && !trying_ && patience_ == kPassesToGrow;
  if (nothing) return "";
  // In quarters, so that not every full request is a reason to write; a try that is not over begins
  // again.
  const std::size_t quarter = patience_ / 4;
  const std::size_t passes = trying_ ? patience_ : passes_ / quarter * quarter;
  return nlohmann::json{{"version", kVersion},
                        {"events", known_.events},
                        {"bytes", known_.bytes},
                        {"passes", passes},
                        {"patience", patience_}}
      .dump();
}

void BatchSize::read(const std::string& text) {
  *this = BatchSize(format_);
  const nlohmann::json known = parse_answer(text);
  if (!known.is_object() || count_of(known, "version") != kVersion) return;
  const auto events = bounded(known, "events", 1, format_.events);
  const auto bytes = bounded(known, "bytes", 1, format_.bytes);
  const auto patience = bounded(known, "patience", kPassesToGrow, kPatienceMax);
  const auto passes = bounded(known, "passes", 0, kPatienceMax);
  if (!events || !bytes || !patience || !passes) return;
  known_ = {*events, *bytes};
  passes_ = *passes;
  patience_ = *patience;
  if (passes_ >= patience_) grow();
}

}  // namespace telemetryd::forward
