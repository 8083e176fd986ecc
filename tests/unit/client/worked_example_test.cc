// The bytes printed in docs/formats/frame.md are the bytes this client writes.

#include <cctype>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "telemetry_core/control.h"
#include "telemetry_core/encoder.h"
#include "telemetry_core/session.h"
#include "telemetry_core/window.h"

namespace telemetryd::client {
namespace {

using Bytes = std::vector<std::uint8_t>;

// The hex dump in the section "Worked example" below the line that names it: two digits per byte,
// up to a semicolon in each line, until the fence.
Bytes documented(const std::string& name) {
  std::ifstream file(TELEMETRYD_FRAME_DOCUMENT);
  std::string line;
  while (std::getline(file, line) && line != "## Worked example") continue;
  while (std::getline(file, line) && line.find(name) == std::string::npos) continue;
  while (std::getline(file, line) && line.rfind("```", 0) != 0) continue;
  Bytes bytes;
  while (std::getline(file, line) && line.rfind("```", 0) != 0) {
    std::istringstream words(line.substr(0, line.find(';')));
    for (std::string word; words >> word;) {
      bytes.push_back(static_cast<std::uint8_t>(std::stoul(word, nullptr, 16)));
    }
  }
  return bytes;
}

std::string hex(const Bytes& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
    text += ' ';
  }
  return text;
}

void count_up(std::uint8_t* out, std::uint8_t first) {
  for (std::uint8_t i = 0; i < 16; ++i) out[i] = static_cast<std::uint8_t>(first + i);
}

TEST(WorkedExample, TheHelloIsTheDocumentedOne) {
  Hello hello{};
  count_up(hello.instance, 0x00);
  count_up(hello.session_id, 0x10);
  hello.app = "mytool";
  hello.app_version = "1.2.3";
  hello.language = "c";
  hello.sdk = "libtelemetry/0.1.0";
  hello.consent = Collection::kOn;
  hello.consent_rule = "opt_out_default";
  Bytes out(kHelloFrameBytesMax);
  out.resize(write_hello_frame(hello, 1, out.data()));
  EXPECT_EQ(hex(out), hex(documented("HELLO")));
}

TEST(WorkedExample, TheEventsFrameIsTheDocumentedOne) {
  std::uint8_t session[16];
  count_up(session, 0x10);
  std::uint8_t id[16] = {0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x00, 0x70, 0x00, 0x80};
  id[15] = 0x01;
  telemetry_attribute_t attribute{};
  attribute = {.key = "n", .type = TELEMETRY_VALUE_INT, .value = {.int_value = 3}};
  telemetry_event_t event = TELEMETRY_EVENT_INIT;
  event.id = id;
  event.name = "started";
  event.attributes = &attribute;
  event.attribute_count = 1;

  Bytes memory(4096);
  Session connection;
  connection.reset(Hello{}, memory.data(), memory.size(), 1);
  std::size_t room = 0;
  std::uint8_t* out = connection.window().open(1024, 1024, room);
  ASSERT_NE(out, nullptr);
  std::uint8_t buffer[512];
  EncodedEvent encoded{};
  ASSERT_EQ(encode_event(event,
                         {.session = session, .time_unix_nano = 1'700'000'000'000'000'000},
                         sizeof buffer,
                         buffer,
                         sizeof buffer,
                         encoded),
            TELEMETRY_OK);
  std::memcpy(out + Window::kFrameOverhead, encoded.record, encoded.record_bytes);
  connection.close_frame({.number = 1,
                          .count = 1,
                          .persistence_class = 0,
                          .urgency = 0,
                          .record_bytes = static_cast<std::uint32_t>(encoded.record_bytes),
                          .commit_now = true,
                          .mark = 1});
  const Frame& frame = connection.window().at(0);
  const std::uint8_t* begin = connection.window().bytes_of(frame);
  EXPECT_EQ(hex(Bytes(begin, begin + frame.bytes)), hex(documented("EVENTS")));
}

}  // namespace
}  // namespace telemetryd::client
