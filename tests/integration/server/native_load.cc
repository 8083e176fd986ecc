// How many events a second telemetry-server makes durable; load.h has the arguments.

#include "integration/server/load.h"

namespace telemetryd::test {
namespace {

v1::NativeBatch realistic_batch(std::uint32_t first, std::uint32_t count) {
  v1::NativeBatch batch = make_batch(first, count);
  for (auto& event : *batch.mutable_groups(0)->mutable_events()) {
    for (const char* key : {"os", "arch", "shell", "flags"}) {
      auto* attribute = event.add_attributes();
      attribute->set_key(key);
      attribute->set_string_value("a value of some size");
    }
    event.set_session_id(std::string(16, 's'));
    event.set_duration_ms(12.5);
  }
  return batch;
}

Upload make_upload(const LoadPlan& plan, std::uint32_t number) {
  Upload made;
  made.token = plan.token;
  made.secret = plan.secret;
  made.timestamp_s = SystemClock().unix_ms() / 1000;
  made.body = realistic_batch(number * plan.events, plan.events).SerializeAsString();
  made.batch_size = plan.events;
  return made;
}

}  // namespace
}  // namespace telemetryd::test

int main(int argc, char** argv) {
  using namespace telemetryd::test;
  return load_main(argc, argv, {.events = 1000, .batches = 100}, make_upload);
}
