#include "gateway/upstreams.h"

#include <utility>

#include "base/io.h"
#include "base/log.h"
#include "consent/consent.h"
#include "gateway/startup.h"

namespace telemetryd::gateway {
namespace {

constexpr std::size_t kPolicyBytesMax = 4096;

// With policy "off" telemetryd takes nothing from ingest.sock, which may be there all the same when
// the service manager holds it. What it says in the file beside the socket is what counts.
bool policy_is_off(const std::filesystem::path& ingest_socket) {
  const auto policy = read_file(ingest_socket.parent_path() / "policy", kPolicyBytesMax);
  return policy &&
         consent::parse_policy_file(policy->data(), policy->size()) == consent::MachinePolicy::kOff;
}

}  // namespace

Upstreams::Upstreams(loop::Loop& loop, std::string ingest_socket, Upstream::OnChange on_change)
    : loop_(loop),
      ingest_socket_(std::move(ingest_socket)),
      on_change_(std::move(on_change)),
      said_refused_(loop, [] {}) {}

Upstreams::~Upstreams() = default;

void Upstreams::submit(std::uint32_t uid,
                       const std::optional<Bytes16>& instance,
                       const std::string& context,
                       Submission submission) {
  const Key key{
      .uid = uid, .alone = !instance, .word = instance ? std::string(as_text(*instance)) : context};
  Status why;
  auto found = upstreams_.find(key);
  if (found != upstreams_.end() && found->second.upstream->closed()) {
    upstreams_.erase(found);
    found = upstreams_.end();
  }
  if (found != upstreams_.end() && instance) {
    const Upstream& upstream = *found->second.upstream;
    if (upstream.sender().context != context && !upstream.idle()) {
      if (const auto waiter = submission.waiter.lock()) {
        waiter->refused({.number = submission.number,
                         .code = frame::Code::kOutOfOrder,
                         .retryable = true,
                         .retry_after = kRetryAfterDefault,
                         .text = "a request of this instance with another context is on its way"},
                        0);
      }
      return;
    }
    // Both are said in HELLO only, so both need a new one.
    if (upstream.sender().context != context || upstream.needs_new_hello(submission)) {
      upstreams_.erase(found);
    }
  }
  Upstream* const upstream =
      find_or_open(key,
                   {.peer_uid = uid,
                    .instance = instance ? *instance : random_bytes16(),
                    .context = context,
                    .first_frame = std::max<std::uint64_t>(submission.oldest_number, 1),
                    .own_numbers = instance.has_value()},
                   why);
  if (upstream == nullptr) {
    if (const auto waiter = submission.waiter.lock()) waiter->lost(why);
    return;
  }
  upstream->submit(std::move(submission));
}

void Upstreams::flush(std::uint32_t uid, const Bytes16& instance) {
  const auto found =
      upstreams_.find({.uid = uid, .alone = false, .word = std::string(as_text(instance))});
  if (found != upstreams_.end()) found->second.upstream->flush();
}

Upstream* Upstreams::find_or_open(const Key& key, Upstream::Sender sender, Status& why) {
  auto found = upstreams_.find(key);
  if (found == upstreams_.end()) {
    if (!make_room(key.uid)) {
      why = unavailable("too many instances of this user send at a time");
      return nullptr;
    }
    if (policy_is_off(ingest_socket_)) {
      why = {.code = StatusCode::kPermissionDenied,
             .text = "collection is off: machine_policy",
             .retry_after = {}};
      return nullptr;
    }
    auto connected = loop::connect_unix(ingest_socket_);
    if (!connected) {
      log::debug("daemon_unreachable", {{"cause", connected.error().message()}});
      why = unavailable("telemetryd is not reachable");
      return nullptr;
    }
    found = upstreams_
                .emplace(key,
                         Entry{.upstream = std::make_unique<Upstream>(
                                   loop_,
                                   std::move(*connected),
                                   std::move(sender),
                                   [this](Change change) { changed(change); })})
                .first;
  }
  found->second.used = ++uses_;
  return found->second.upstream.get();
}

bool Upstreams::make_room(std::uint32_t uid) {
  const std::size_t max = uid == kRemoteUid ? kConnectionsRemoteMax : kConnectionsPerUidMax;
  if (count_of(uid) >= max && !close_idle([uid](const Key& key) { return key.uid == uid; })) {
    return false;
  }
  return upstreams_.size() < kConnectionsMax || close_idle([](const Key&) { return true; });
}

bool Upstreams::close_idle(const std::function<bool(const Key&)>& may_go) {
  auto oldest = upstreams_.end();
  for (auto each = upstreams_.begin(); each != upstreams_.end(); ++each) {
    if (!each->second.upstream->idle() || !may_go(each->first)) continue;
    if (oldest == upstreams_.end() || each->second.used < oldest->second.used) oldest = each;
  }
  if (oldest == upstreams_.end()) return false;
  upstreams_.erase(oldest);
  return true;
}

std::size_t Upstreams::count_of(std::uint32_t uid) const {
  std::size_t count = 0;
  for (const auto& [key, entry] : upstreams_) count += key.uid == uid ? 1 : 0;
  return count;
}

std::size_t Upstreams::requests_unanswered() const {
  std::size_t requests = 0;
  for (const auto& [key, entry] : upstreams_) requests += entry.upstream->requests();
  return requests;
}

bool Upstreams::daemon_reachable() const {
  return loop::connect_unix(ingest_socket_).has_value();
}

// Senders can bring this about, so it is said once in a while.
void Upstreams::say_refused(const std::string& reason) {
  if (said_refused_.active()) return;
  said_refused_.start_once(kSayRefusedAgain);
  log::warn("daemon_refused_gateway", {{"reason", reason}});
}

void Upstreams::changed(Change change) {
  for (const auto& [key, entry] : upstreams_) {
    const std::string& reason = entry.upstream->gateway_refused();
    if (!reason.empty()) say_refused(reason);
  }
  std::erase_if(upstreams_, [](const auto& each) { return each.second.upstream->closed(); });
  on_change_(change);
}

}  // namespace telemetryd::gateway
