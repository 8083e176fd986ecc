#include "app/gateway_starter.h"

#include <csignal>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "schedule/backoff.h"

namespace telemetryd::app {
namespace {

constexpr unsigned kSocketMode = 0666;
// A gateway is idle for at least a second before it leaves; one that was faster did not serve.
constexpr std::chrono::milliseconds kShortestRun{1000};
// One that ran as long did start, so what ended it is not what ended the one before: the waits
// begin anew. Otherwise a gateway that is killed now and then is away longer each time.
constexpr std::chrono::milliseconds kSoundRun{5000};

std::string words_for(const loop::Child::Exit& exit) {
  return exit.signal != 0 ? fmt::format("signal {}", exit.signal)
                          : fmt::format("exit status {}", exit.status);
}

}  // namespace

GatewayStarter::GatewayStarter(loop::Loop& loop, const Clock& clock, Options options)
    : loop_(loop), clock_(clock), options_(std::move(options)), timer_(loop, [this] {
        if (wanted_ && !child_) return wait_for_connection();
        if (child_) log::warn("gateway_killed", {{"cause", "it did not stop in time"}});
        child_.reset();
        stopped();
      }) {}

GatewayStarter::~GatewayStarter() {
  close_socket();
}

void GatewayStarter::start() {
  const bool back = !std::exchange(wanted_, true);
  if (back && child_) {
    // It was told to end; what follows its end is now a start.
    on_stopped_ = nullptr;
    return;
  }
  if (!listening_) listen();
}

void GatewayStarter::listen() {
  if (program_missing()) return;
  auto socket = loop::listen_unix(options_.socket.native(), kSocketMode, kBacklog);
  if (!socket) {
    problem_ = fmt::format("events over gRPC are not taken: {}", socket.error().message());
    log::error("gateway_not_listening", {{"cause", socket.error().message()}});
    return;
  }
  problem_.clear();
  listening_ = std::move(*socket);
  wait_for_connection();
}

// Without a listener a connection is refused at once, which says more than waiting would.
bool GatewayStarter::program_missing() {
  const std::string& program = options_.command.front();
  missing_ = ::access(program.c_str(), X_OK) != 0;
  if (!missing_) return false;
  const std::string was = std::exchange(
      problem_,
      fmt::format("events over gRPC are not taken: {} cannot be run; install it and reload, or set "
                  "[gateway] enabled = false",
                  program));
  if (was != problem_) log::warn("gateway_missing", {{"program", program}});
  return true;
}

void GatewayStarter::wait_for_connection() {
  if (options_.always) return launch();
  connection_.emplace(loop_, listening_.get(), [this] { launch(); });
  connection_->start(loop::Poll::Until::kReadable);
}

void GatewayStarter::launch() {
  connection_.reset();
  UniqueFd inherited(::fcntl(listening_.get(), F_DUPFD_CLOEXEC, 0));
  if (!inherited) return failed("no descriptor is left for it");
  auto child = loop::Child::spawn(
      loop_, options_.command, std::move(inherited), [this](const loop::Child::Exit& exit) {
        ended(exit);
      });
  if (!child) return failed(child.error().message());
  child_ = std::move(*child);
  started_boot_ms_ = clock_.boot_ms();
  ++starts_;
  log::info("gateway_started", {{"pid", child_->pid()}});
}

std::chrono::milliseconds GatewayStarter::ran() const {
  return std::chrono::milliseconds(clock_.boot_ms() - started_boot_ms_);
}

void GatewayStarter::ended(const loop::Child::Exit& exit) {
  const auto lived = ran();
  child_.reset();
  timer_.stop();
  last_exit_ = words_for(exit);
  if (!wanted_) return stopped();
  // It was told to end before it was wanted again.
  if (!listening_) return listen();
  const bool idle = exit.status == 0 && exit.signal == 0 && lived >= kShortestRun;
  if (lived >= kSoundRun || idle) failures_ = 0;
  if (!idle || options_.always) return failed(last_exit_);
  problem_.clear();
  log::info("gateway_left", {{"after_s", lived.count() / 1000}});
  wait_for_connection();
}

void GatewayStarter::failed(const std::string& cause) {
  ++failures_;
  const auto top = schedule::backoff_cap(
      {.delay_min = options_.delay_min, .delay_max = options_.delay_max}, failures_);
  const auto wait = schedule::uniform(top / 2, top, prng_);
  const std::string often =
      failures_ == 1 ? "once, with" : fmt::format("{} times in a row, last with", failures_);
  problem_ = fmt::format(
      "telemetryd-gateway failed {} {}; its log says why, and events over gRPC wait meanwhile",
      often,
      cause);
  log::warn("gateway_child_failed",
            {{"cause", cause}, {"failures", failures_}, {"again_in_ms", wait.count()}});
  timer_.start_once(wait);
}

void GatewayStarter::stop(std::function<void()> done) {
  wanted_ = false;
  on_stopped_ = std::move(done);
  timer_.stop();
  close_socket();
  problem_.clear();
  missing_ = false;
  failures_ = 0;
  if (!child_) return stopped();
  child_->kill(SIGTERM);
  timer_.start_once(options_.stop_max);
}

void GatewayStarter::close_socket() {
  connection_.reset();
  if (listening_) ::unlink(options_.socket.c_str());
  listening_.reset();
}

void GatewayStarter::stopped() {
  if (wanted_) return listen();
  if (const auto done = std::exchange(on_stopped_, nullptr)) done();
}

bool GatewayStarter::is_child(const ingest::Peer& peer) const {
  return child_ && peer.pid == child_->pid() && peer.uid == ::geteuid();
}

GatewayStarter::Status GatewayStarter::status() const {
  Status status{.state = "off",
                .starts = starts_,
                .last_exit = last_exit_,
                .problem = problem_,
                .missing = missing_};
  if (child_) {
    status.state = "running";
  } else if (listening_) {
    status.state = "listening";
  }
  // A failure is a problem until the next one runs; after several in a row that one must hold too.
  const bool again = timer_.active() || (child_ && failures_ > 1 && ran() < kShortestRun);
  if (listening_ && !again) status.problem.clear();
  return status;
}

}  // namespace telemetryd::app
