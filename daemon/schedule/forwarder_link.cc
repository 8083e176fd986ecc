#include "schedule/forwarder_link.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <sys/socket.h>
#include <utility>

#include "base/check.h"
#include "base/io.h"
#include "base/log.h"
#include "schedule/owed_answers.h"

namespace telemetryd::schedule {

struct ForwarderLink::Impl {
  // A child outlives its link by the time it takes to exit; it is kept until the loop has seen
  // that.
  struct Process {
    std::unique_ptr<loop::Child> child;
    bool exited = false;
  };

  Impl(ForwarderLink& link_arg,
       loop::Loop& loop_arg,
       const Clock& clock_arg,
       Options options_arg,
       Prng& prng_arg,
       Hooks hooks_arg)
      : link(link_arg),
        loop(loop_arg),
        clock(clock_arg),
        options(std::move(options_arg)),
        prng(prng_arg),
        hooks(std::move(hooks_arg)),
        timeout(loop,
                [this] {
                  // What is ending already must not take the next link along.
                  if (ending) return;
                  end(said_hello ? "forwarder gave no answer in time"
                                 : "forwarder sent no greeting in time");
                }),
        grace(loop, [this] { kill_all(); }) {}

  ForwarderLink& link;
  loop::Loop& loop;
  const Clock& clock;
  Options options;
  Prng& prng;
  Hooks hooks;
  std::unique_ptr<loop::Stream> stream;
  MessageReader reader;
  bool said_hello = false;
  bool ending = false;  // broken while the stream was calling us; ends on the next turn
  OwedAnswers owed;
  std::uint32_t failures = 0;
  loop::Timer timeout;
  loop::Timer grace;
  std::vector<std::shared_ptr<Process>> processes;
  std::function<void()> on_shut_down;
  // Posted work looks here before it touches us.
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);

  Result<UniqueFd> start_child();
  Result<void> open();
  void on_data(std::span<const std::uint8_t> bytes);
  Result<void> on_message(FromForwarder message);
  Result<void> on_hello(const Hello& hello);
  Result<void> answered(std::uint64_t id);
  void start_answer_timeout();
  void end_later(std::string why);
  void end(const std::string& why);
  void count_failure();
  void reset_stream();
  void kill_all();
  void reap();
  bool defer(std::function<void()> work);
};

bool ForwarderLink::Impl::defer(std::function<void()> work) {
  return loop
      .post([token = std::weak_ptr<bool>(alive), work = std::move(work)] {
        if (!token.expired()) work();
      })
      .has_value();
}

Result<UniqueFd> ForwarderLink::Impl::start_child() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return fail(error_from_errno(errno, "socketpair"));
  }
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  auto process = std::make_shared<Process>();
  auto child = loop::Child::spawn(
      loop,
      options.command,
      std::move(theirs),
      [this, token = std::weak_ptr<bool>(alive), weak = std::weak_ptr(process)](
          loop::Child::Exit exit) {
        const auto ended = weak.lock();
        if (token.expired() || !ended) return;
        ended->exited = true;
        log::debug("forwarder_exited", {{"status", exit.status}, {"signal", exit.signal}});
        // Not from inside the child's own callback.
        defer([this] { reap(); });
      });
  if (!child) return fail(child.error().with_context("starting the forwarder"));
  process->child = std::move(*child);
  processes.push_back(std::move(process));
  return ours;
}

Result<void> ForwarderLink::Impl::open() {
  if (stream || ending) return {};
  auto fd = options.socket.empty() ? start_child() : loop::connect_unix(options.socket.native());
  if (!fd) {
    count_failure();
    return fail(options.socket.empty() ? fd.error()
                                       : fd.error().with_context("connecting to the forwarder"));
  }
  reader = MessageReader();
  said_hello = false;
  owed.clear();
  stream = std::make_unique<loop::Stream>(
      loop,
      std::move(*fd),
      loop::Stream::Hooks{[this](std::span<const std::uint8_t> bytes) { on_data(bytes); },
                          [this] { end_later("forwarder ended"); }});
  timeout.start_once(kHelloMax);
  return {};
}

void ForwarderLink::Impl::on_data(std::span<const std::uint8_t> bytes) {
  if (ending) return;
  reader.feed(bytes);
  while (stream && !ending) {
    auto body = reader.next();
    if (!body) return end_later(body.error().message());
    if (!body->has_value()) return;
    auto message = decode_from_forwarder(**body);
    if (!message) return end_later(message.error().message());
    if (auto taken = on_message(std::move(*message)); !taken) {
      return end_later(taken.error().message());
    }
  }
}

Result<void> ForwarderLink::Impl::on_message(FromForwarder message) {
  if (const auto* hello = std::get_if<Hello>(&message)) return on_hello(*hello);
  if (!said_hello) return fail(ErrorCode::kInvalidArgument, "forwarder spoke before its greeting");
  if (auto* outcome = std::get_if<Outcome>(&message)) {
    TELEMETRYD_TRY(answered(outcome->lease_id));
    hooks.on_outcome(std::move(*outcome));
  } else if (auto* result = std::get_if<ProbeResult>(&message)) {
    TELEMETRYD_TRY(answered(result->id));
    hooks.on_probe_result(std::move(*result));
  } else if (const auto* conditions = std::get_if<Conditions>(&message)) {
    hooks.on_conditions(*conditions);
  } else {
    hooks.on_route_change();
  }
  return {};
}

Result<void> ForwarderLink::Impl::on_hello(const Hello& hello) {
  if (said_hello) return fail(ErrorCode::kInvalidArgument, "forwarder greeted twice");
  if (hello.protocol != kLeaseProtocol) {
    return fail(ErrorCode::kInvalidArgument,
                "forwarder " + log::quoted(hello.version) + " speaks lease protocol " +
                    std::to_string(hello.protocol) + ", this telemetryd speaks " +
                    std::to_string(kLeaseProtocol) + "; install matching versions");
  }
  said_hello = true;
  timeout.stop();
  log::debug("forwarder_connected", {{"version", hello.version}});
  hooks.on_ready();
  return {};
}

Result<void> ForwarderLink::Impl::answered(std::uint64_t id) {
  if (!owed.answered(id)) {
    return fail(ErrorCode::kInvalidArgument, "forwarder answered unasked");
  }
  // One answer is worth more than one greeting: a forwarder that dies on each lease keeps its
  // backoff.
  failures = 0;
  link.earliest_ = 0;
  start_answer_timeout();
  return {};
}

void ForwarderLink::Impl::start_answer_timeout() {
  const auto deadline = owed.deadline();
  if (!deadline) return timeout.stop();
  timeout.start_once(std::chrono::milliseconds(*deadline - clock.boot_ms()));
}

void ForwarderLink::Impl::end_later(std::string why) {
  if (ending) return;
  ending = true;
  if (!defer([this, why] { end(why); })) ending = false;
}

void ForwarderLink::Impl::end(const std::string& why) {
  ending = false;
  if (!stream) return;
  reset_stream();
  kill_all();
  count_failure();
  log::warn("forwarder_lost", {{"cause", why}});
  hooks.on_end(why);
}

void ForwarderLink::Impl::count_failure() {
  ++failures;
  link.earliest_ =
      clock.boot_ms() +
      backoff_delay(options.backoff, failures, std::chrono::milliseconds(0), prng).count();
}

void ForwarderLink::Impl::reset_stream() {
  timeout.stop();
  stream.reset();
  said_hello = false;
  owed.clear();
}

void ForwarderLink::Impl::kill_all() {
  for (const auto& process : processes) {
    if (!process->exited) process->child->kill(SIGKILL);
  }
}

void ForwarderLink::Impl::reap() {
  std::erase_if(processes, [](const auto& process) { return process->exited; });
  if (!processes.empty() || !on_shut_down) return;
  grace.stop();
  std::exchange(on_shut_down, nullptr)();
}

ForwarderLink::ForwarderLink(
    loop::Loop& loop, const Clock& clock, Options options, Prng& prng, Hooks hooks)
    : impl_(
          std::make_unique<Impl>(*this, loop, clock, std::move(options), prng, std::move(hooks))) {}

ForwarderLink::~ForwarderLink() {
  impl_->kill_all();
}

Result<void> ForwarderLink::open() {
  if (impl_->clock.boot_ms() < earliest_) return {};
  return impl_->open();
}

bool ForwarderLink::is_open() const {
  return impl_->stream != nullptr;
}

bool ForwarderLink::ready() const {
  return impl_->stream != nullptr && impl_->said_hello && !impl_->ending;
}

void ForwarderLink::send(std::string message, std::optional<std::uint64_t> owed) {
  TELEMETRYD_CHECK(ready());
  if (owed) {
    impl_->owed.owe(*owed, impl_->clock.boot_ms() + kAnswerMax.count());
    impl_->start_answer_timeout();
  }
  impl_->stream->write(std::move(message));
}

void ForwarderLink::close() {
  if (impl_->stream == nullptr || impl_->ending) return;
  // The caller may stand in a callback of this very stream.
  impl_->ending = true;
  const bool posted = impl_->defer([this] {
    impl_->ending = false;
    impl_->reset_stream();
    impl_->hooks.on_closed();
  });
  if (!posted) impl_->ending = false;
}

void ForwarderLink::shutdown(std::chrono::milliseconds grace, std::function<void()> done) {
  close();
  impl_->on_shut_down = std::move(done);
  impl_->grace.start_once(grace);
  impl_->defer([this] { impl_->reap(); });
}

}  // namespace telemetryd::schedule
