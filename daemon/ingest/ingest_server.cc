#include "ingest/ingest_server.h"

#include <algorithm>
#include <fcntl.h>
#include <map>
#include <optional>
#include <sys/socket.h>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "ingest/app_limits.h"
#include "ingest/connection.h"
#include "ingest/control.h"
#include "ingest/uid_limits.h"

namespace telemetryd::ingest {
namespace {

// Who is over the rate is read again after a moment in which a group comes together: a commit for
// every few events would keep the disk from everybody else.
constexpr std::chrono::milliseconds kThrottleStepMin{10};
constexpr std::chrono::milliseconds kThrottleStepMax{100};

// At least two frames of the largest size fit.
std::uint64_t kept_bytes_max(std::uint64_t usual, const Options& options) {
  return std::max<std::uint64_t>(usual, 2 * std::uint64_t{options.frame_bytes_max});
}

UidLimits::Options limits_of(const Options& options) {
  UidLimits::Options limits;
  limits.connections_max = options.connections_max;
  limits.connections_per_uid_max = options.connections_per_uid_max;
  limits.events_per_second_per_uid_max = options.events_per_second_per_uid_max;
  limits.kept_bytes_per_uid_max = kept_bytes_max(limits.kept_bytes_per_uid_max, options);
  limits.kept_bytes_max = kept_bytes_max(limits.kept_bytes_max, options);
  return limits;
}

std::optional<Peer> peer_of(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
  return Peer{.pid = peer.pid, .uid = peer.uid};
}

}  // namespace

struct IngestServer::Impl {
  Impl(loop::Loop& on_loop,
       UniqueFd listening,
       store::StoreThread& store,
       const Clock& clock,
       Decide decide_mode,
       const Options& server_options)
      : options(server_options),
        decide(std::move(decide_mode)),
        limits(clock, limits_of(options)),
        app_limits(clock, options.events_per_second_per_app_max),
        throttle(on_loop, [this] { resume_all(); }),
        shared{.loop = on_loop,
               .clock = clock,
               .store = store,
               .options = options,
               .decide = decide,
               .limits = limits,
               .app_limits = app_limits,
               .stats = stats,
               .on_work = nullptr,
               .finished = [this](Connection& connection) { remove(connection); },
               .wake_throttled_after = [this](auto wait) { wake_after(wait); },
               .share_waker =
                   std::make_shared<ShareWaker>(ShareWaker{on_loop, [this] { resume_all(); }})} {
    listener.emplace(on_loop, std::move(listening), [this](UniqueFd connection) {
      try {
        accept(std::move(connection));
      } catch (const std::bad_alloc&) {
        // Hung up on before it was counted.
      }
    });
  }

  ~Impl() { shared.share_waker->wake = nullptr; }

  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void accept(UniqueFd fd) {
    const auto peer = peer_of(fd.get());
    if (!peer) return;
    const bool gateway = is_gateway && is_gateway(*peer);
    const auto admission = gateway ? limits.admit_gateway() : limits.admit(peer->uid);
    if (admission != UidLimits::Admission::kAdmitted) {
      refuse(fd, peer->uid, admission);
      return;
    }
    UniqueFd duplicate(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
    if (!duplicate) {
      ++stats.connections_refused;
      leave(gateway ? std::nullopt : std::optional(peer->uid));
      return;
    }
    ++stats.connections_total;
    try {
      auto connection = std::make_unique<Connection>(
          shared, std::move(fd), std::move(duplicate), Connection::Sender{peer->uid, gateway});
      Connection* const key = connection.get();
      connections.emplace(key, std::move(connection));
    } catch (const std::bad_alloc&) {
      ++stats.connections_refused;
      leave(gateway ? std::nullopt : std::optional(peer->uid));
    }
  }

  void refuse(const UniqueFd& fd, std::uint32_t uid, UidLimits::Admission admission) {
    ++stats.connections_refused;
    const bool all = admission == UidLimits::Admission::kTooMany;
    log::debug("client_refused", {{"uid", uid}, {"limit", all ? "machine" : "uid"}});
    const std::string text =
        all ? "connections_max is " + std::to_string(options.connections_max)
            : "connections_per_uid_max is " + std::to_string(options.connections_per_uid_max);
    const std::string closing = closing_frame(frame::Code::kTooManyConnections, text);
    // An empty socket buffer takes this or the client is gone; both are fine.
    static_cast<void>(
        ::send(fd.get(), closing.data(), closing.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
  }

  void remove(Connection& connection) {
    // Whoever has left asks for no commit any more, and would not send again what waits for one.
    shared.store.commit_now();
    leave(connection.counted_for());
    connections.erase(&connection);
  }

  void leave(const std::optional<std::uint32_t>& uid) {
    if (uid) {
      limits.leave(*uid);
    } else {
      limits.leave_gateway();
    }
  }

  // Each time another connection is the first: who comes first takes what there is of rate and
  // room.
  void resume_all() {
    ++first_resumed;
    each([](Connection& connection) { connection.resume(); });
  }

  // Over a copy of the list: what is called may remove connections.
  void each(const std::function<void(Connection&)>& call) {
    std::vector<Connection*> all;
    all.reserve(connections.size());
    for (const auto& [key, connection] : connections) all.push_back(key);
    if (!all.empty()) {
      const auto first = static_cast<std::ptrdiff_t>(first_resumed % all.size());
      std::ranges::rotate(all, all.begin() + first);
    }
    for (Connection* connection : all) {
      if (connections.contains(connection)) connection->guard([&] { call(*connection); });
    }
  }

  void wake_after(std::chrono::milliseconds wait) {
    if (!throttle.active()) {
      throttle.start_once(std::clamp(wait, kThrottleStepMin, kThrottleStepMax));
    }
  }

  Options options;
  Decide decide;
  IsGateway is_gateway;
  Stats stats;
  UidLimits limits;
  AppLimits app_limits;
  loop::Timer throttle;
  Connection::Shared shared;
  std::map<Connection*, std::unique_ptr<Connection>> connections;
  std::size_t first_resumed = 0;
  std::optional<loop::Listener> listener;
};

IngestServer::IngestServer(loop::Loop& loop,
                           UniqueFd listening,
                           store::StoreThread& store,
                           const Clock& clock,
                           Decide decide,
                           const Options& options)
    : impl_(std::make_unique<Impl>(
          loop, std::move(listening), store, clock, std::move(decide), options)) {}

IngestServer::~IngestServer() = default;

void IngestServer::believe(IsGateway is_gateway) {
  TELEMETRYD_CHECK(impl_->shared.loop.on_loop_thread());
  impl_->is_gateway = std::move(is_gateway);
}

void IngestServer::refresh_modes() {
  TELEMETRYD_CHECK(impl_->shared.loop.on_loop_thread());
  impl_->each([](Connection& connection) { connection.refresh_mode(); });
}

void IngestServer::resume_reading() {
  TELEMETRYD_CHECK(impl_->shared.loop.on_loop_thread());
  impl_->resume_all();
}

void IngestServer::on_work(std::function<void()> hook) {
  TELEMETRYD_CHECK(impl_->shared.loop.on_loop_thread());
  impl_->shared.on_work = std::move(hook);
}

void IngestServer::stop() {
  TELEMETRYD_CHECK(impl_->shared.loop.on_loop_thread());
  impl_->listener.reset();
  impl_->each([](Connection& connection) { connection.stop(); });
}

Stats IngestServer::stats() const {
  Stats stats = impl_->stats;
  stats.connections = impl_->connections.size();
  stats.kept_bytes = impl_->limits.kept_bytes();
  return stats;
}

}  // namespace telemetryd::ingest
