// forward/ingest_verdict.h: what an answer of a telemetry-kit server means for the events it is
// about.
//
// Every row of the table in docs/formats/ingest.md. Delivered is only what the server says in its
// own shape, about each event; a sentence that does not add up settles nothing.
//
// Thread:  any; no state.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "forward/http.h"
#include "kit/write_event.h"

namespace telemetryd::forward {

// From this try in a row on an event that the server cannot store, while it stores others, counts
// as refused.
inline constexpr std::uint32_t kUnstorableTries = 10;

struct IngestVerdict {
  enum class Kind {
    kTaken,   // each event is at the server, or refused for what it is itself
    kDivide,  // all were refused together: send the halves
    kRetry,   // time heals it
    kHold,    // a person must act
  };

  struct Refused {
    std::size_t event = 0;  // its place in the request
    std::string reason;
  };

  Kind kind = Kind::kHold;
  std::vector<Refused> refused;  // kTaken
  std::size_t duplicates = 0;    // kTaken
  bool too_large = false;        // kDivide: for its size
  bool unstorable = false;       // the server could not store some; kTaken: too often
  std::chrono::milliseconds retry_after{0};
  std::string words;                        // unless kTaken: one line
  v1::Cause cause = v1::CAUSE_UNSPECIFIED;  // unless kTaken
};

// `tries` with this one, as many as ended in a row with what the server could not store.
IngestVerdict judge_ingest(const HttpResponse& response,
                           std::span<const kit::WrittenEvent> sent,
                           std::uint32_t tries);

// One line about an answer, with the next step for this kind of upstream.
std::string describe_ingest(const HttpResponse& response);

}  // namespace telemetryd::forward
