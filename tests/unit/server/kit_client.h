// unit/server/kit_client.h: a telemetry-kit SDK as a server meets it: its events, its two ways to
// sign, its headers. Written from the description of that wire, not from the code that reads it.

#pragma once

#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "unit/server/support.h"

namespace telemetryd::test {

using OrderedJson = nlohmann::ordered_json;

inline std::string kit_event_id(std::uint32_t number) {
  char text[40];
  std::snprintf(text, sizeof text, "550e8400-e29b-41d4-a716-4466%08x", number);
  return text;
}

// A command event with every member that the SDK can send, in the SDK's order.
inline OrderedJson kit_event(std::uint32_t number) {
  return {{"schema_version", "1.0.0"},
          {"event_id", kit_event_id(number)},
          {"timestamp", "2024-11-19T08:00:00.123456Z"},
          {"service",
           {{"name", "mytool"},
            {"version", "1.2.3"},
            {"language", "rust"},
            {"language_version", "1.75.0"}}},
          {"user_id", "client_bc6187cce3a831fc6cc42895c9c746146d323d0a307d66fd664eeb542cf60c61"},
          {"session_id", "sess_0123456789abcdef0123456789abcdef"},
          {"environment",
           {{"os", "linux"},
            {"os_version", "12"},
            {"arch", "x86_64"},
            {"ci", false},
            {"shell", "bash"}}},
          {"event",
           {{"type", "command_execution"},
            {"category", "usage"},
            {"data",
             {{"command", "build"},
              {"subcommand", "all"},
              {"flags", {"--release", "--quiet"}},
              {"success", true},
              {"duration_ms", 1234},
              {"exit_code", 0}}}}},
          {"metadata",
           {{"sdk_version", "telemetry-kit-rust/0.3.0"},
            {"transmission_timestamp", "2024-11-19T08:00:00.123456Z"},
            {"batch_size", 1},
            {"retry_count", 0}}}};
}

inline OrderedJson kit_events(std::uint32_t first, std::uint32_t count) {
  OrderedJson events = OrderedJson::array();
  for (std::uint32_t i = 0; i < count; ++i) events.push_back(kit_event(first + i));
  return events;
}

struct KitUpload {
  std::string path = "/v1/ingest/acme/tools";
  std::string token;  // empty: the SDK's way, without Authorization
  std::string secret;
  std::int64_t timestamp_s = 1'732'003'200;
  std::string nonce = uuid_text(random_bytes16());
  std::string body;
  std::string batch_size;  // empty: not sent
  bool plain = false;

  void set_events(const OrderedJson& events) {
    body = path == "/events/batch" ? events.dump() : OrderedJson{{"events", events}}.dump();
    batch_size = std::to_string(events.size());
  }

  std::string signature() const {
    std::string text = std::to_string(timestamp_s) + ":";
    if (!plain) text += nonce + ":";
    return to_hex(hmac_sha256(secret, text + body));
  }

  std::map<std::string, std::string> headers() const {
    std::map<std::string, std::string> all = {{"Host", "localhost"},
                                              {"Content-Type", "application/json"},
                                              {"X-Signature", signature()},
                                              {"X-Timestamp", std::to_string(timestamp_s)},
                                              {"X-SDK-Version", "telemetry-kit-rust/0.3.0"},
                                              {"X-Schema-Version", "1.0.0"},
                                              {"X-Clacks-Overhead", "GNU Terry Pratchett"},
                                              {"Content-Length", std::to_string(body.size())}};
    if (!plain) all["X-Nonce"] = nonce;
    if (!token.empty()) all["Authorization"] = "Bearer " + token;
    if (!batch_size.empty()) all["X-Batch-Size"] = batch_size;
    return all;
  }
};

inline std::string request_text(const KitUpload& upload) {
  return request_text("POST", upload.path, upload.headers(), upload.body);
}

}  // namespace telemetryd::test
