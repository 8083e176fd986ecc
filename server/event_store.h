// server/event_store.h: what the endpoints need from storage, whichever database is behind it.
//
// SQLite is the one there is (sqlite_store.h); another one implements these two classes.
//
// Thread:  any for both.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "server/crypto.h"
#include "server/mutes.h"
#include "server/tier.h"

namespace telemetryd::server {

struct Credential {
  std::int64_t token = 0;
  std::int64_t application = 0;
  std::string organization_name;
  std::string application_name;
  Tier tier = Tier::kEnterprise;
  bool active = false;  // neither revoked nor expired
  Secret secret;
  std::vector<Mute> mutes;  // of the application

  bool is_for(std::string_view org, std::string_view app) const {
    return org == organization_name && app == application_name;
  }
};

class CredentialStore {
 public:
  virtual ~CredentialStore() = default;
  // Reads afresh each time: a token made or revoked elsewhere counts at once.
  [[nodiscard]] virtual Result<std::optional<Credential>> find(const Digest& token_digest) = 0;
  // Those of an application whose tokens are active, the newest first and kActiveFoundMax at most.
  [[nodiscard]] virtual Result<std::vector<Credential>> find_active(
      std::string_view organization, std::string_view application) = 0;

  static constexpr std::int64_t kActiveFoundMax = 4;
};

// What the bytes of an event are; the numbers are in the database.
enum class EventFormat : std::uint8_t {
  kNative = 0,        // event.proto, with a context
  kTelemetryKit = 1,  // the JSON as it came
};

// Views point into what the submission owns.
struct NewEvent {
  std::string_view id;
  std::string_view name;
  std::string_view payload;
  std::string_view context;
  std::string_view machine_id;
  std::string_view app;
  std::int64_t kind = 0;
  std::int64_t time_unix_nano = 0;
};

struct RejectedEvent {
  std::uint32_t index = 0;
  std::string code;
  std::string message;
};

struct Stored {
  std::uint32_t accepted = 0;
  std::uint32_t duplicates = 0;
  std::uint32_t id_conflict = 0;  // their ID was here with other content, which stayed

  // What the sender is told: it is done with all of these.
  std::uint32_t known() const { return duplicates + id_conflict; }
};

struct Submission {
  std::int64_t application = 0;
  std::int64_t token = 0;
  Bytes16 nonce{};
  std::int64_t nonce_expires_s = 0;
  UnixMs received = 0;
  std::unique_ptr<const std::string> body;
  std::shared_ptr<const void> texts;  // what views point into that is not in the body
  EventFormat format = EventFormat::kNative;
  std::vector<NewEvent> events;
  std::uint32_t rejected = 0;
  // The sender asked not to be tracked: `withheld` events are counted and nothing else is kept.
  bool do_not_track = false;
  std::uint32_t withheld = 0;
  // Called exactly once, on the storage's thread; a value means that it is on stable storage.
  std::function<void(Result<Stored>)> done;
};

class EventStore {
 public:
  virtual ~EventStore() = default;
  // Never waits. A full queue calls `done` with kResourceExhausted before it returns.
  virtual void submit(Submission submission) = 0;
  // Proves by a write that the next submission can be stored; calls back on the storage's thread.
  virtual void probe(std::function<void(bool)> done) = 0;
};

}  // namespace telemetryd::server
