// Any bytes as a batch: checked, cut, and shown; what passes the check must pass the rest.

#include <string_view>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "event/event.h"

using namespace telemetryd;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view batch(reinterpret_cast<const char*>(data), size);
  std::uint32_t valid = 0;
  for (const auto persistence_class : {event::Class::kNormal, event::Class::kCritical}) {
    for (const auto urgency : {event::Urgency::kNormal, event::Urgency::kUrgent}) {
      const auto summary =
          event::validate(batch, persistence_class, urgency, {.event_bytes_max = 4096});
      if (!summary) continue;
      TELEMETRYD_CHECK(valid == 0);
      TELEMETRYD_CHECK(summary->count > 0 && summary->id_ms_min <= summary->id_ms_max);
      valid = summary->count;
    }
  }
  std::uint32_t visited = 0;
  const auto walked = event::for_each(batch, [&](std::uint32_t index, std::string_view each) {
    TELEMETRYD_CHECK(index == visited++);
    const auto json = event::to_json(each, each);
    const auto alone = event::to_json(each, "");
    TELEMETRYD_CHECK(!json || alone);
    if (alone) TELEMETRYD_CHECK(!alone->dump().empty());  // throws on text that is not UTF-8
    TELEMETRYD_CHECK(valid == 0 || (alone && event::id_of(each)));
    return true;
  });
  if (valid == 0) return 0;
  TELEMETRYD_CHECK(walked && visited == valid);
  const auto front = event::slice(batch, 0, valid / 2);
  const auto back = event::slice(batch, valid / 2, valid - valid / 2);
  TELEMETRYD_CHECK(front && back && front->size() + back->size() == batch.size());
  TELEMETRYD_CHECK(!event::slice(batch, valid, 1));
  return 0;
}
