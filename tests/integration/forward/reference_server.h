// integration/forward/reference_server.h: the telemetry-kit server that others run, as far as a
// client can tell: its checks in their order, its statuses, its flat errors, its weaknesses.
//
// Plain form of the signature only, a duplicate is an error, a batch of which nothing was accepted
// is a 400. On top of it the faults of the way there: a proxy's size limit, rate limits, a database
// that is away, a connection that breaks after everything was stored.

#pragma once

#include <ctime>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "integration/forward/scripted_server.h"

namespace telemetryd::test {

class ReferenceServer {
 public:
  static constexpr const char* kOrg = "7d444840-9dc0-11d1-b245-5ffdce74fad2";
  static constexpr const char* kApp = "a9b7ba70-783b-317e-9998-dc4dd82eb3c5";
  static constexpr const char* kToken = "tk_reference";
  static constexpr const char* kSecret = "kIRV9eC/2+Dvqc4E9ubP9Cjzd0LG2/Dg0OVEfknKBPQ=";

  // Raw bytes of a response instead of the server's own; empty: hang up. Nothing: as usual.
  using Fault = std::function<std::optional<std::string>(const SeenRequest&)>;

  ReferenceServer() : http_([this](const SeenRequest& request) { return answer(request); }) {}

  std::string url() const { return http_.url(); }

  std::vector<SeenRequest> seen() const { return http_.seen(); }

  // For one of the next uploads, each in its turn.
  void then(Fault fault) {
    const std::lock_guard lock(mutex_);
    faults_.push_back(std::move(fault));
  }

  // The next upload is stored, and its answer breaks off.
  void break_off_next_answer() {
    then([this](const SeenRequest& request) {
      const std::string whole = upload(request);
      return std::string(ScriptedServer::kCut) + whole.substr(0, whole.size() - 10);
    });
  }

  // A proxy in front of it that takes no larger body.
  void body_bytes_max(std::size_t bytes) { set(body_bytes_max_, bytes); }

  // The body of an upload with an event of this type makes its parser fail.
  void indigestible(const std::string& type) { set(indigestible_, type); }

  // Its database has no room for an event of this type.
  void unstorable(const std::string& type) { set(unstorable_, type); }

  // Something on the way adds "DNT: 1".
  void do_not_track(bool on) { set(do_not_track_, on); }

  // event.type of what it stored, in the order of arrival.
  std::vector<std::string> stored() const {
    const std::lock_guard lock(mutex_);
    return types_;
  }

 private:
  using Json = nlohmann::json;

  template <typename Value>
  void set(Value& value, const Value& wanted) {
    const std::lock_guard lock(mutex_);
    value = wanted;
  }

  static std::string reply(const std::string& status, const Json& body) {
    return http_answer(status, body.dump(), "Content-Type: application/json\r\n");
  }

  static std::string refusal(const std::string& status,
                             const std::string& error,
                             const std::string& message) {
    return reply(status, {{"error", error}, {"message", message}});
  }

  static std::string hmac_hex(const std::string& key, const std::string& text) {
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    HMAC(EVP_sha256(),
         key.data(),
         static_cast<int>(key.size()),
         reinterpret_cast<const unsigned char*>(text.data()),
         text.size(),
         mac,
         &size);
    std::string hex;
    for (unsigned i = 0; i < size; ++i) {
      constexpr char kDigits[] = "0123456789abcdef";
      hex += kDigits[mac[i] >> 4];
      hex += kDigits[mac[i] & 15];
    }
    return hex;
  }

  std::string answer(const SeenRequest& request) {
    if (request.head.starts_with("GET /health ")) {
      return reply("200 OK", {{"status", "healthy"}, {"version", "0.1.0"}});
    }
    Fault fault;
    {
      const std::lock_guard lock(mutex_);
      if (!faults_.empty()) {
        fault = std::move(faults_.front());
        faults_.pop_front();
      }
    }
    if (fault) {
      if (auto given = fault(request)) return *given;
    }
    return upload(request);
  }

  std::string upload(const SeenRequest& request) {
    const std::lock_guard lock(mutex_);
    if (body_bytes_max_ > 0 && request.body.size() > body_bytes_max_) {
      return http_answer("413 Request Entity Too Large", "<html>nginx</html>");
    }
    if (auto refused = authenticate(request)) return *refused;
    const Json body = Json::parse(request.body, nullptr, false);
    if (!body.is_object() || !body.contains("events") || !body["events"].is_array()) {
      return refusal("400 Bad Request", "bad_request", "Invalid JSON");
    }
    const Json& events = body["events"];
    if (events.empty()) return refusal("400 Bad Request", "bad_request", "Empty batch");
    if (events.size() > 1000) {
      return refusal("400 Bad Request", "bad_request", "Batch size exceeds 1000");
    }
    const std::string announced = request.header("X-Batch-Size");
    if (!announced.empty() && announced != std::to_string(events.size())) {
      return refusal("400 Bad Request", "bad_request", "Batch size mismatch");
    }
    if (do_not_track_ || request.header("DNT") == "1") return "HTTP/1.1 204 No Content\r\n\r\n";
    for (const Json& event : events) {
      if (!well_formed(event)) return refusal("400 Bad Request", "bad_request", "Invalid JSON");
    }
    return store(events);
  }

  static std::optional<std::string> authenticate(const SeenRequest& request) {
    const auto unauthorized = [](const std::string& message) {
      return std::optional(refusal("401 Unauthorized", "Unauthorized", message));
    };
    if (request.header("X-Signature").empty()) return unauthorized("Missing signature");
    const std::string timestamp = request.header("X-Timestamp");
    if (timestamp.empty()) return unauthorized("Missing timestamp");
    if (request.header("Authorization") != std::string("Bearer ") + kToken) {
      return unauthorized("Invalid token");
    }
    if (request.header("X-Signature") != hmac_hex(kSecret, timestamp + ":" + request.body)) {
      return unauthorized("Invalid signature");
    }
    if (timestamp.find_first_not_of("0123456789") != std::string::npos) {
      return refusal("400 Bad Request", "bad_request", "Invalid timestamp");
    }
    const std::int64_t age = static_cast<std::int64_t>(std::time(nullptr)) - std::stoll(timestamp);
    if (age > 600 || age < -600) return refusal("403 Forbidden", "Forbidden", "Expired timestamp");
    const std::string path = std::string("POST /v1/ingest/") + kOrg + "/" + kApp + " HTTP/1.1\r\n";
    if (!request.head.starts_with(path)) {
      return refusal("403 Forbidden", "Forbidden", "Token not valid for this path");
    }
    return std::nullopt;
  }

  // Its parser wants every member that is not optional, with its type.
  bool well_formed(const Json& event) const {
    const auto text = [&](const char* pointer) {
      const Json::json_pointer at(pointer);
      return event.contains(at) && event[at].is_string();
    };
    const auto number = [&](const char* pointer) {
      const Json::json_pointer at(pointer);
      return event.contains(at) && event[at].is_number_unsigned();
    };
    for (const char* member : {"/schema_version",
                               "/event_id",
                               "/timestamp",
                               "/service/name",
                               "/service/version",
                               "/service/language",
                               "/user_id",
                               "/environment/os",
                               "/event/type",
                               "/metadata/sdk_version",
                               "/metadata/transmission_timestamp"}) {
      if (!text(member)) return false;
    }
    return event["event"].contains("data") && number("/metadata/batch_size") &&
           number("/metadata/retry_count") && event["event_id"].get<std::string>().size() == 36 &&
           (indigestible_.empty() || event["event"]["type"] != indigestible_);
  }

  // The code of what is wrong with it; empty when it is in the table now.
  std::string insert(const Json& event) {
    if (!event["schema_version"].get<std::string>().starts_with("1.")) return "unsupported_schema";
    if (event["service"]["name"] == "" || event["service"]["version"] == "" ||
        !event["user_id"].get<std::string>().starts_with("client_")) {
      return "invalid_schema";
    }
    const std::string type = event["event"]["type"].get<std::string>();
    if (type == unstorable_ || type.size() > 100) return "database_error";
    if (!ids_.insert(event["event_id"].get<std::string>()).second) return "duplicate";
    types_.push_back(type);
    return "";
  }

  std::string store(const Json& events) {
    Json errors = Json::array();
    for (const Json& event : events) {
      const std::string code = insert(event);
      if (code.empty()) continue;
      errors.push_back({{"event_id", event["event_id"]}, {"error", code}, {"message", "refused"}});
    }
    const std::size_t accepted = events.size() - errors.size();
    if (accepted == 0) {
      return reply(
          "400 Bad Request",
          {{"error", "bad_request"}, {"message", "No events accepted"}, {"errors", errors}});
    }
    Json body = {{"status", errors.empty() ? "success" : "partial"},
                 {"accepted", accepted},
                 {"rejected", errors.size()},
                 {"message", "processed"}};
    if (!errors.empty()) body["errors"] = errors;
    return reply(errors.empty() ? "200 OK" : "207 Multi-Status", body);
  }

  mutable std::mutex mutex_;
  std::deque<Fault> faults_;
  std::size_t body_bytes_max_ = 0;
  std::string indigestible_;
  std::string unstorable_;
  bool do_not_track_ = false;
  std::set<std::string> ids_;
  std::vector<std::string> types_;
  ScriptedServer http_;
};

}  // namespace telemetryd::test
