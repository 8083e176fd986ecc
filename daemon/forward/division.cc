#include "forward/division.h"

#include <algorithm>
#include <iterator>
#include <ranges>

#include "event/event.h"
#include "forward/sink.h"

namespace telemetryd::forward {

Division::Division(v1::Lease lease, BatchSize& size, LeaseProgress& progress)
    : lease_(std::move(lease)),
      size_(size),
      progress_(progress),
      rest_(progress.rest_of(lease_)),
      size_before_(size) {
  for (int row = 0; row < lease_.rows_size(); ++row) add_row(row);
  fates_.resize(items_.size(), Fate::kOpen);
  recall();
  std::size_t end = items_.size();
  for (const std::size_t cut : cuts_ | std::views::reverse) {
    waiting_.push_back({cut, end});
    end = cut;
  }
  if (end > 0) waiting_.push_back({0, end});
}

void Division::add_row(int number) {
  const v1::LeasedRow& row = lease_.rows(number);
  std::uint32_t seen = 0;
  const auto visited =
      event::for_each(row.events(), [&](std::uint32_t index, std::string_view bytes) {
        items_.push_back({bytes, number, index});
        seen = index + 1;
        return true;
      });
  if (!visited && seen < row.count()) {
    reject(
        broken_rows_, row, seen, row.count() - seen, "invalid_event: " + visited.error().message());
  }
}

// Takes up what earlier tries achieved.
void Division::recall() {
  const LeaseProgress::Row* known = nullptr;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (i == 0 || items_[i].row != items_[i - 1].row) known = progress_.find(row_of(i));
    if (known == nullptr) continue;
    const std::uint32_t index = items_[i].index;
    if (known->taken.contains(index)) fates_[i] = Fate::kTaken;
    if (known->cuts.contains(index)) cuts_.insert(i);
    if (const auto why = known->refused.find(index); why != known->refused.end()) {
      refuse(i, why->second);
    }
  }
  const auto taken = static_cast<std::size_t>(std::ranges::count(fates_, Fate::kTaken));
  duplicates_ = std::min(progress_.duplicates, taken);
  refused_alone_ = progress_.refused_alone;
}

// For when the rows come again.
void Division::remember(bool refusals_too) {
  progress_.clear();
  LeaseProgress::Row known;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const std::uint32_t index = items_[i].index;
    if (fates_[i] == Fate::kTaken) known.taken.insert(index);
    if (refusals_too && cuts_.contains(i)) known.cuts.insert(index);
    if (refusals_too && fates_[i] == Fate::kRefused) known.refused.insert({index, reasons_.at(i)});
    if (i + 1 < items_.size() && items_[i + 1].row == items_[i].row) continue;
    progress_.keep(row_of(i), std::exchange(known, {}));
  }
  progress_.duplicates = duplicates_;
  progress_.refused_alone = refusals_too ? refused_alone_ : 0;
}

std::optional<ItemRange> Division::next() {
  if (waiting_.empty() && !ask_again()) return std::nullopt;
  asked_ = waiting_.back();
  waiting_.pop_back();
  return asked_;
}

// What is refused now says nothing about the event when all that was taken was taken before: one of
// those is asked for again. False when there is no need, or was already.
bool Division::ask_again() {
  const auto taken = first(Fate::kTaken);
  if (fresh_ || !taken || !first(Fate::kRefused) || std::exchange(asked_again_, true)) return false;
  fates_[*taken] = Fate::kOpen;
  waiting_.push_back({*taken, *taken + 1});
  return true;
}

std::optional<std::size_t> Division::first(Fate fate) const {
  const auto found = std::ranges::find(fates_, fate);
  if (found == fates_.end()) return std::nullopt;
  return static_cast<std::size_t>(found - fates_.begin());
}

void Division::refuse(std::size_t item, const std::string& reason) {
  fates_[item] = Fate::kRefused;
  reasons_.insert_or_assign(item, reason);
}

void Division::unsendable(std::size_t item, std::string reason) {
  fates_[item] = Fate::kUnsendable;
  reasons_.insert_or_assign(item, std::move(reason));
}

void Division::take(std::size_t item) {
  fates_[item] = Fate::kTaken;
  fresh_ = true;
  asked_again_ = false;
  refused_alone_ = 0;
  rest_ = 0;
}

void Division::took(const Part& part,
                    std::span<const RefusedEvent> refused,
                    std::size_t duplicates,
                    bool certain) {
  fresh_ = fresh_ || certain;
  for (const RefusedEvent& event : refused) refuse(part.items[event.place], event.reason);
  for (const std::size_t item : part.items) {
    if (fates_[item] == Fate::kOpen) take(item);
  }
  duplicates_ += duplicates;
  for (const auto& [item, sent] : part.twins) {
    if (fates_[sent] == Fate::kRefused) {
      refuse(item, reasons_.at(sent));
    } else {
      take(item);
      ++duplicates_;
    }
  }
  size_.passed(part.full);
}

bool Division::refused(const Part& part, Refusal why, const v1::Outcome& otherwise) {
  const auto [begin, end] = part.range;
  const bool ahead = !waiting_.empty() && waiting_.back().begin < begin;
  if (begin >= search_end_ && !ahead) {
    search_end_ = end;
    fresh_ = false;
  }
  if (rest_ > 0) {
    against_ = otherwise;
    return false;
  }
  if (part.items.size() == 1) return refused_alone(part, why, otherwise);
  if (why == Refusal::kSize) learn(part);
  // Between two events that were sent, so that neither half is empty.
  const std::size_t middle = part.items[part.items.size() / 2];
  cuts_.insert(middle);
  waiting_.push_back({middle, end});
  waiting_.push_back({begin, middle});
  return true;
}

bool Division::refused_alone(const Part& part, Refusal why, const v1::Outcome& otherwise) {
  const std::size_t item = part.items.front();
  if (why == Refusal::kSize) unlearn(item, part.range.end);
  refuse(item, otherwise.error());
  for (const auto& twin : part.twins) refuse(twin.first, otherwise.error());
  // What a person must settle counts more than what time heals.
  if (!against_ || otherwise.verdict() == v1::VERDICT_HOLD) against_ = otherwise;
  if (++refused_alone_ < kRefusedAloneMax) {
    // One that is refused alone may well be bad; of the second one on it may be all around it.
    if (!fresh_ && refused_alone_ > 1) ask_ahead();
    return true;
  }
  // It may refuse everything by now, whatever it took before.
  fresh_ = false;
  return ask_again();
}

void Division::ask_ahead() {
  auto item = first_of_another_app();
  if (!item) item = farthest_from_refused();
  if (item) waiting_.push_back({*item, *item + 1});
}

std::optional<std::size_t> Division::first_of_another_app() const {
  std::set<std::string_view> refused;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (fates_[i] == Fate::kRefused) refused.insert(row_of(i).app());
  }
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (!settled(i) && !refused.contains(row_of(i).app())) return i;
  }
  return std::nullopt;
}

// The last one, when all that was refused stands at the head.
std::optional<std::size_t> Division::farthest_from_refused() const {
  std::vector<std::size_t> refused;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (fates_[i] == Fate::kRefused) refused.push_back(i);
  }
  std::optional<std::size_t> farthest;
  std::size_t distance_max = 0;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (settled(i)) continue;
    const auto after = std::ranges::lower_bound(refused, i);
    std::size_t distance = items_.size();
    if (after != refused.end()) distance = *after - i;
    if (after != refused.begin()) distance = std::min(distance, i - *std::prev(after));
    if (distance <= distance_max) continue;
    distance_max = distance;
    farthest = i;
  }
  return farthest;
}

void Division::learn(const Part& part) {
  if (lessons_.empty()) size_before_ = size_;
  lessons_.push_back({part.range, part.items.size(), part.bytes});
  size_.too_large(part.items.size(), part.bytes);
}

void Division::unlearn(std::size_t begin, std::size_t end) {
  const auto wrong = [&](const Lesson& lesson) {
    return lesson.range.begin < end && begin < lesson.range.end;
  };
  if (std::erase_if(lessons_, wrong) == 0) return;
  size_ = size_before_;
  for (const Lesson& lesson : lessons_) size_.too_large(lesson.events, lesson.bytes);
}

v1::Outcome Division::finish() {
  if (first(Fate::kRefused) && !fresh_) return nothing_taken();
  v1::Outcome outcome = delivered();
  *outcome.mutable_rejected() = broken_rows_.rejected();
  std::size_t taken = 0;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (fates_[i] == Fate::kTaken) {
      ++taken;
    } else {
      reject(outcome, row_of(i), items_[i].index, 1, reasons_.at(i));
    }
  }
  outcome.set_duplicates(static_cast<std::uint32_t>(std::min(duplicates_, taken)));
  progress_.clear();
  return outcome;
}

v1::Outcome Division::nothing_taken() {
  unlearn(0, items_.size());
  // That it was refused says nothing about the time after this one.
  remember(false);
  progress_.rest(lease_, rest_ > 0 ? rest_ - 1 : kRestTries);
  v1::Outcome outcome = against_.value_or(hold(""));
  if (!against_) outcome.set_cause(v1::CAUSE_BAD_REQUEST);
  const std::string words = against_ ? against_->error() : reasons_.at(*first(Fate::kRefused));
  const std::string all =
      first(Fate::kTaken) ? "it refuses everything now, also what it took before: "
                          : "none of " + std::to_string(items_.size()) + " events was accepted: ";
  outcome.set_error(printable(all + words));
  return outcome;
}

v1::Outcome Division::stop(v1::Outcome outcome) {
  // A division that is not over may yet end with one event that is too large.
  std::size_t begin = asked_.begin;
  for (const ItemRange& range : waiting_) begin = std::min(begin, range.begin);
  unlearn(begin, items_.size());
  remember(outcome.verdict() == v1::VERDICT_RETRY);
  return outcome;
}

}  // namespace telemetryd::forward
