#include "salvage/plan.h"

#include <algorithm>
#include <optional>

#include "base/digest.h"
#include "salvage/carve.h"
#include "store/row_bytes.h"

namespace telemetryd::salvage {
namespace {

// The rows of the page read last: neighbours in seq are neighbours on a page.
class Rows {
 public:
  explicit Rows(PageFile& file) : file_(file) {}

  Result<CarvedRow> read(std::uint64_t seq, std::uint32_t page) {
    if (page != page_) {
      rows_.clear();
      Carver carver;
      carver.on_row = [this](CarvedRow row) -> Result<void> {
        rows_.emplace(row.seq, std::move(row));
        return {};
      };
      TELEMETRYD_TRY(carve_page(file_, page, carver));
      page_ = page;
    }
    const auto found = rows_.find(seq);
    if (found == rows_.end()) {
      return fail(ErrorCode::kUnavailable, "the files changed while they were read");
    }
    return found->second;
  }

 private:
  PageFile& file_;
  std::uint32_t page_ = 0;
  std::map<std::uint64_t, CarvedRow> rows_;
};

bool fits(const Frame& frame, const CarvedRow& row, std::size_t bytes, std::uint32_t count) {
  return frame.persistence_class == row.persistence_class && frame.urgency == row.urgency &&
         frame.batch.size() + bytes <= kFrameBytesMax && frame.count + count <= kFrameEventsMax;
}

}  // namespace

Result<Plan> make_plan(PageFile& file) {
  Plan plan;
  std::map<std::uint64_t, std::uint32_t> progress;
  Carver carver;
  carver.on_row = [&](CarvedRow row) -> Result<void> {
    plan.senders[{row.uid, std::move(row.context)}].try_emplace(
        row.seq, PlacedRow{row.page, 0, row.count, row.crc});
    return {};
  };
  carver.on_progress = [&](CarvedProgress found) { progress[found.seq] = found.next_index; };
  TELEMETRYD_TRY(carve(file, carver));
  plan.damaged_rows = carver.damaged_rows;
  plan.damaged_pages = carver.damaged_pages;
  for (auto& [who, sender] : plan.senders) {
    for (auto& [seq, row] : sender) {
      if (const auto found = progress.find(seq); found != progress.end()) {
        row.next_index = std::min(found->second, row.count);
      }
      ++plan.rows;
      plan.events += row.count - row.next_index;
    }
  }
  return plan;
}

Bytes16 instance_of(std::uint32_t uid, const std::string& context, const Sender& sender) {
  std::string text = "telemetryd-salvage " + std::to_string(uid) + " " +
                     std::to_string(context.size()) + " " + context;
  for (const auto& [seq, row] : sender) {
    text += " " + std::to_string(seq) + " " + std::to_string(row.crc) + " " +
            std::to_string(row.next_index);
  }
  const Digest digest = sha256(text);
  Bytes16 instance{};
  std::copy_n(digest.begin(), instance.size(), instance.begin());
  return instance;
}

Result<void> for_each_frame(PageFile& file,
                            const Sender& sender,
                            const std::function<Result<void>(const Frame&)>& visit) {
  Rows rows(file);
  Frame frame{.number = 1};
  for (const auto& [seq, place] : sender) {
    if (place.next_index >= place.count) continue;
    TELEMETRYD_ASSIGN(const CarvedRow row, rows.read(seq, place.page));
    const std::uint32_t count = place.count - place.next_index;
    const auto events = store::cut_events(row.blob, place.next_index, count);
    if (!events) return fail(ErrorCode::kUnavailable, "the files changed while they were read");
    if (frame.count > 0 && !fits(frame, row, events->size(), count)) {
      TELEMETRYD_TRY(visit(frame));
      frame = {.number = frame.number + 1};
    }
    frame.persistence_class = row.persistence_class;
    frame.urgency = row.urgency;
    frame.count += count;
    frame.batch += *events;
  }
  if (frame.count > 0) TELEMETRYD_TRY(visit(frame));
  return {};
}

}  // namespace telemetryd::salvage
