// forward/division.h: one lease in as many requests as it takes: what to send next, and what became
// of it.
//
// What is refused as a whole is sent again in halves, down to single events, so that one event that
// the upstream cannot take does not keep the others: of n events it is found with 2·log2(n)
// requests more than without it. An event is parked only when the upstream took another one of the
// lease since the search began: otherwise the fault is not the event's. Events are sent in order;
// only while everything is refused, single ones are asked for ahead: one of each other app, then
// those farthest from what was refused, because bad events stand side by side.
//
// A plain state machine; nothing here touches the network. A try that ends in the middle settles
// nothing; when the same rows come again, what the upstream has said about their events still
// holds, and only the others are sent.
//
// Owns:    a copy of the lease; writes what it learns into the size and the progress given.
// Thread:  one.
// Limits:  kRefusedAloneMax events refused alone before the first that is taken. The same rows are
// not
//          divided again for kRestTries after nothing was taken: that is one request a try.

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "forward/batch_size.h"
#include "forward/lease_progress.h"
#include "forward/refusal.h"
#include "telemetry/v1/lease.pb.h"

namespace telemetryd::forward {

// Events are called by their place among all of the lease: items.
struct ItemRange {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// What one request holds.
struct Part {
  // What it was made from; not all of it is sent when some are settled or no events.
  ItemRange range;
  std::vector<std::size_t> items;
  // Further events of the range with an ID that is in the request already: they share its fate.
  std::vector<std::pair<std::size_t, std::size_t>> twins;  // their item, and the one sent
  bool full = false;      // more would have been sent if the upstream took it
  std::size_t bytes = 0;  // what it takes, rather too much than too little
};

struct RefusedEvent {
  std::size_t place = 0;  // in the request
  std::string reason;
};

class Division {
 public:
  // With one bad event the second one that is asked for alone is taken, so this leaves room for
  // several. An upstream that refuses everything is found out with it after about
  // log2(n) + kRefusedAloneMax requests.
  static constexpr std::size_t kRefusedAloneMax = 8;
  static constexpr std::uint32_t kRestTries = 11;

  struct Item {
    std::string_view event;  // as event::for_each() gives it; points into the lease
    int row = 0;
    std::uint32_t index = 0;  // within the row's events
  };

  Division(v1::Lease lease, BatchSize& size, LeaseProgress& progress);
  Division(const Division&) = delete;
  Division& operator=(const Division&) = delete;

  const v1::Lease& lease() const { return lease_; }

  const Item& item(std::size_t number) const { return items_[number]; }

  const v1::LeasedRow& row_of(std::size_t item) const { return lease_.rows(items_[item].row); }

  // Nothing more is to be said about it in this try.
  bool settled(std::size_t item) const { return fates_[item] != Fate::kOpen; }

  // From where the next request takes its events; nothing when everything was said.
  std::optional<ItemRange> next();

  // Of the last range, what did not fit into the request.
  void put_back(ItemRange rest) { waiting_.push_back(rest); }

  // This one cannot be put into a request: it is parked.
  void unsendable(std::size_t item, std::string reason);

  // The upstream has each event of the part but those it refused. `certain` when it refused them so
  // that nothing else can be at fault.
  void took(const Part& part,
            std::span<const RefusedEvent> refused,
            std::size_t duplicates,
            bool certain);
  // The upstream refused all of it together. `otherwise` says what holds if it takes nothing else.
  // False when it is to be left alone: see nothing_taken().
  [[nodiscard]] bool refused(const Part& part, Refusal why, const v1::Outcome& otherwise);

  // Everything was sent.
  v1::Outcome finish();
  // Everything that was sent was refused.
  v1::Outcome nothing_taken();
  // `outcome` settles nothing. For when the rows come again, what is known of them is kept.
  v1::Outcome stop(v1::Outcome outcome);

 private:
  enum class Fate : std::uint8_t {
    kOpen,
    kTaken,  // accepted, or there before
    kRefused,
    kUnsendable,
  };

  // A request was too large: for the upstream, unless it turns out to be for one event in it.
  struct Lesson {
    ItemRange range;
    std::size_t events = 0;
    std::size_t bytes = 0;
  };

  void add_row(int row);
  void recall();
  void remember(bool refusals_too);
  void refuse(std::size_t item, const std::string& reason);
  void take(std::size_t item);
  bool refused_alone(const Part& part, Refusal why, const v1::Outcome& otherwise);
  bool ask_again();
  void ask_ahead();
  std::optional<std::size_t> first_of_another_app() const;
  std::optional<std::size_t> farthest_from_refused() const;
  std::optional<std::size_t> first(Fate fate) const;
  void learn(const Part& part);
  // What was learned from requests that held one of these items was not about the upstream.
  void unlearn(std::size_t begin, std::size_t end);

  const v1::Lease lease_;
  BatchSize& size_;
  LeaseProgress& progress_;
  std::vector<Item> items_;
  std::vector<Fate> fates_;                     // by item
  std::map<std::size_t, std::string> reasons_;  // of those refused and unsendable
  std::vector<ItemRange> waiting_;              // the next one is the last
  ItemRange asked_;                             // the last one that was given out
  std::set<std::size_t> cuts_;                  // where divided requests begin
  std::size_t duplicates_ = 0;                  // of those taken
  std::size_t search_end_ = 0;     // of the last request that was refused and no part of another
  bool fresh_ = false;             // something shows that it works, since that one was refused
  bool asked_again_ = false;       // and nothing was taken since
  std::uint32_t rest_;             // tries for which it is not worth dividing these rows
  std::size_t refused_alone_ = 0;  // since the rows first came, or one was taken
  std::optional<v1::Outcome> against_;  // what holds if nothing is taken
  std::vector<Lesson> lessons_;         // learned since `size_before_`
  BatchSize size_before_;
  v1::Outcome broken_rows_;  // rejected: what cannot be read
};

}  // namespace telemetryd::forward
