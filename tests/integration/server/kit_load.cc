// How many telemetry-kit events a second telemetry-server makes durable; load.h has the arguments.

#include "integration/server/load.h"
#include "unit/server/kit_client.h"

namespace telemetryd::test {
namespace {

// IDs are random, as the SDK makes them: that is what the index has to bear.
std::string body_of(std::uint32_t count) {
  OrderedJson events = kit_events(0, count);
  for (auto& event : events) event["event_id"] = uuid_text(random_bytes16());
  return events.dump();
}

KitUpload make_upload(const LoadPlan& plan, std::uint32_t) {
  KitUpload made;
  made.path = "/events/batch";
  made.token = plan.token;
  made.secret = plan.secret;
  made.timestamp_s = SystemClock().unix_ms() / 1000;
  made.body = body_of(plan.events);
  made.batch_size = std::to_string(plan.events);
  return made;
}

}  // namespace
}  // namespace telemetryd::test

int main(int argc, char** argv) {
  using namespace telemetryd::test;
  return load_main(argc, argv, {.events = 100, .batches = 200}, make_upload);
}
