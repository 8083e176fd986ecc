// integration/forward/daemon_rig.h: store, loop and scheduler as telemetryd has them, with a clock
// that the test turns and a scripted forwarder at the other end of forward.sock.

#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <fcntl.h>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "event/event.h"
#include "loop/loop.h"
#include "schedule/destination.h"
#include "schedule/queue_number.h"
#include "schedule/scheduler.h"
#include "store/store_thread.h"
#include "support/balanced.h"
#include "support/fake_clock.h"
#include "support/temp_dir.h"
#include "telemetry/v1/event.pb.h"
#include "telemetry/v1/lease.pb.h"

namespace telemetryd::test {

namespace v1 = ::telemetry::v1;

inline std::string make_batch(std::uint32_t count, bool urgent = false) {
  v1::EventBatch batch;
  for (std::uint32_t i = 0; i < count; ++i) {
    v1::Event* event = batch.add_events();
    Bytes16 id = random_bytes16();
    id[6] = static_cast<std::uint8_t>(0x70 | (id[6] & 0x0f));
    id[8] = static_cast<std::uint8_t>(0x80 | (id[8] & 0x3f));
    event->set_id(id.data(), id.size());
    event->set_name("event_" + std::to_string(i));
    event->set_time_unix_nano(1'700'000'000'000'000'000ull + i);
    if (urgent) event->set_urgency(v1::URGENCY_URGENT);
  }
  return batch.SerializeAsString();
}

inline std::string make_context(const std::string& app) {
  v1::Context context;
  context.set_app(app);
  return context.SerializeAsString();
}

inline bool read_exactly(int fd, void* into, std::size_t size) {
  auto* bytes = static_cast<char*>(into);
  while (size > 0) {
    const ssize_t got = ::recv(fd, bytes, size, 0);
    if (got <= 0) return false;
    bytes += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

template <typename Message>
bool read_message(int fd, Message& message) {
  std::uint32_t length = 0;
  if (!read_exactly(fd, &length, sizeof length)) return false;
  std::string body(length, '\0');
  return read_exactly(fd, body.data(), body.size()) && message.ParseFromString(body);
}

template <typename Message>
bool write_message(int fd, const Message& message) {
  const std::string body = message.SerializeAsString();
  const auto length = static_cast<std::uint32_t>(body.size());
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  bytes += body;
  return ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

// Plays a list of answers and records what it saw. An answer without a message hangs up.
class ScriptedForwarder {
 public:
  using Answer = std::function<std::optional<v1::FromForwarder>(const v1::ToForwarder&)>;

  ScriptedForwarder(const std::string& path, Answer otherwise, std::uint32_t protocol = 1)
      : otherwise_(std::move(otherwise)), protocol_(protocol) {
    auto listener = loop::listen_unix(path, 0600, 8);
    EXPECT_TRUE(listener) << (listener ? "" : listener.error().message());
    listener_ = std::move(*listener);
    const int flags = ::fcntl(listener_.get(), F_GETFL);
    ::fcntl(listener_.get(), F_SETFL, flags & ~O_NONBLOCK);
    thread_ = std::jthread([this] { serve(); });
  }

  ~ScriptedForwarder() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    {
      const std::lock_guard lock(mutex_);
      if (link_ >= 0) ::shutdown(link_, SHUT_RDWR);
      closing_ = true;
    }
    thread_.join();
  }

  void then(Answer answer) {
    const std::lock_guard lock(mutex_);
    script_.push_back(std::move(answer));
  }

  std::vector<v1::ToForwarder> seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }

  // Now, and after each greeting to come.
  void say(v1::Network network,
           v1::Power power = v1::POWER_UNSPECIFIED,
           std::uint32_t percent = 0) {
    const std::lock_guard lock(mutex_);
    conditions_.emplace();
    v1::Conditions* conditions = conditions_->mutable_conditions();
    conditions->set_network(network);
    conditions->set_power(power);
    conditions->set_battery_percent(percent);
    if (link_ >= 0) write_message(link_, *conditions_);
  }

  void say_route_change() {
    v1::FromForwarder message;
    message.mutable_route_change();
    const std::lock_guard lock(mutex_);
    write_message(link_, message);
  }

  void say_nothing() {
    const std::lock_guard lock(mutex_);
    conditions_.reset();
  }

  int connections() const { return connections_; }

  int ended() const { return ended_; }

 private:
  static v1::FromForwarder unspecified() {
    v1::FromForwarder message;
    message.mutable_conditions();
    return message;
  }

  void serve() {
    for (;;) {
      const UniqueFd link(::accept(listener_.get(), nullptr, nullptr));
      if (!link) return;
      ++connections_;
      v1::FromForwarder hello;
      hello.mutable_hello()->set_protocol(protocol_);
      hello.mutable_hello()->set_version("scripted");
      {
        const std::lock_guard lock(mutex_);
        if (closing_) return;
        link_ = link.get();
        write_message(link_, hello);
        if (conditions_) write_message(link_, *conditions_);
      }
      while (serve_one(link.get())) {
      }
      const std::lock_guard lock(mutex_);
      link_ = -1;
      ++ended_;
    }
  }

  bool serve_one(int fd) {
    v1::ToForwarder message;
    if (!read_message(fd, message)) return false;
    Answer answer = otherwise_;
    {
      const std::lock_guard lock(mutex_);
      seen_.push_back(message);
      if (message.has_reload()) return true;
      if (!script_.empty()) {
        answer = std::move(script_.front());
        script_.pop_front();
      }
    }
    const auto reply = answer(message);
    return reply && write_message(fd, *reply);
  }

  Answer otherwise_;
  std::uint32_t protocol_;
  UniqueFd listener_;
  mutable std::mutex mutex_;
  std::deque<Answer> script_;
  std::vector<v1::ToForwarder> seen_;
  std::optional<v1::FromForwarder> conditions_ = unspecified();
  int link_ = -1;
  bool closing_ = false;
  std::atomic<int> connections_ = 0;
  std::atomic<int> ended_ = 0;
  std::jthread thread_;
};

inline std::optional<v1::FromForwarder> answer_with(const v1::ToForwarder& message,
                                                    v1::Verdict verdict,
                                                    const std::string& error = "",
                                                    std::uint64_t retry_after_ms = 0) {
  v1::FromForwarder reply;
  reply.mutable_outcome()->set_lease_id(message.lease().id());
  reply.mutable_outcome()->set_verdict(verdict);
  reply.mutable_outcome()->set_error(error);
  reply.mutable_outcome()->set_retry_after_ms(retry_after_ms);
  return reply;
}

inline std::optional<v1::FromForwarder> deliver(const v1::ToForwarder& message) {
  return answer_with(message, v1::VERDICT_DELIVERED);
}

class DaemonRig : public ::testing::Test {
 protected:
  // Generous: only a failure ever takes this long.
  static constexpr int kPatienceMs = 20000;

  DaemonRig() { open_store(); }

  ~DaemonRig() override {
    scheduler_.reset();
    if (store_ != nullptr) {
      EXPECT_TRUE(store_->stop());
    }
    store_.reset();
    settle_loop();
    expect_balanced_in(store_options(), clock_);
  }

  std::string socket_path() const { return (dir_ / "forward.sock").native(); }

  store::Options store_options() const {
    store::Options options;
    options.state_dir = dir_ / "state";
    options.wal_pregrow_bytes = 0;
    options.event_age_max = event_age_max_;
    return options;
  }

  void open_store() {
    const store::Options options = store_options();
    std::filesystem::create_directory(options.state_dir);
    std::filesystem::permissions(options.state_dir, std::filesystem::perms::owner_all);
    auto opened = store::open_sqlite_store(options, clock_);
    ASSERT_TRUE(opened) << opened.error().message();
    (*opened)->observe_queue(
        [this](const store::QueueChange& change) {
          EXPECT_TRUE(loop_.post([this, change, number = schedule::next_queue_number()] {
            if (scheduler_) scheduler_->queue_changed(change, number);
          }));
        },
        options_.batch_events_max,
        options_.batch_bytes_max);
    store_ = std::make_unique<store::StoreThread>(
        std::move(*opened), store::StoreThreadOptions{}, store::StoreThread::Hooks{});
  }

  void make_scheduler() {
    schedule::Scheduler::Hooks hooks;
    hooks.route = [this](const std::string& app) -> std::optional<std::string> {
      if (app == "unrouted") return std::nullopt;
      return route_;
    };
    hooks.held = [this] { return held_; };
    hooks.min_age = [this] { return min_age_; };
    hooks.machine_id = [this](const std::string& app,
                              const std::function<void(std::string)>& done) {
      done(identity_known_ ? "machine-of-" + app : "");
    };
    hooks.on_busy = [this](bool busy) { busy_ = busy; };
    scheduler_ = std::make_unique<schedule::Scheduler>(
        loop_, *store_, clock_, options_, specs_, std::move(hooks));
  }

  void start_scheduler() {
    if (options_.forward_command.empty()) options_.forward_socket = socket_path();
    make_scheduler();
    EXPECT_TRUE(loop_.post([this] { scheduler_->start(); }));
    status();
  }

  class Acked final : public store::AckSink {
   public:
    void acknowledge(std::uint64_t) noexcept override { settled = true; }

    void refuse(std::uint64_t, const store::Refusal&) noexcept override { settled = true; }

    void abandon() noexcept override { settled = true; }

    std::atomic<bool> settled = false;
  };

  void append(const std::string& app, std::uint32_t count, bool urgent = false) {
    auto info = std::make_shared<store::ClientInfo>();
    info->key = {1000, random_bytes16()};
    info->app = app;
    info->context = make_context(app);
    store::Append frame;
    frame.client = info;
    frame.number = 1;
    frame.urgency = urgent ? event::Urgency::kUrgent : event::Urgency::kNormal;
    frame.events = make_batch(count, urgent);
    const auto summary = event::validate(frame.events, event::Class::kNormal, frame.urgency, {});
    ASSERT_TRUE(summary) << summary.error().message();
    frame.summary = *summary;
    auto sink = std::make_shared<Acked>();
    ASSERT_TRUE(store_->submit(std::move(frame), sink, store::StoreThread::Commit::kNow));
    run_until([&] { return sink->settled.load(); });
  }

  void run_until(const std::function<bool()>& done) {
    for (int waited = 0; !done(); ++waited) {
      ASSERT_LT(waited, kPatienceMs) << "gave up waiting";
      loop_.poll();
      ::poll(nullptr, 0, 1);
    }
  }

  // Everything posted to the store before has run; its answers wait for the loop.
  void wait_for_store() {
    std::atomic<bool> reached = false;
    ASSERT_TRUE(store_->post([&](store::Store&) {
      reached = true;
      reached.notify_all();
    }));
    reached.wait(false);
  }

  // Until `go_on`, the store thread is busy and takes no further work.
  void fill_store_posts(std::atomic<bool>& go_on) {
    std::atomic<bool> reached = false;
    ASSERT_TRUE(store_->post([&](store::Store&) {
      reached = true;
      reached.notify_all();
      go_on.wait(false);
    }));
    reached.wait(false);
    while (store_->post([](store::Store&) {})) {
    }
  }

  void settle_loop() {
    for (int i = 0; i < 20; ++i) loop_.poll();
  }

  schedule::DestinationStatus status() {
    std::optional<std::vector<schedule::DestinationStatus>> all;
    scheduler_->status([&](auto given) { all = std::move(given); });
    run_until([&] { return all.has_value(); });
    return all && !all->empty() ? all->front() : schedule::DestinationStatus{};
  }

  Result<void> flush(std::chrono::milliseconds deadline = std::chrono::milliseconds(kPatienceMs)) {
    std::optional<Result<void>> flushed;
    scheduler_->flush([&](Result<void> result) { flushed = std::move(result); }, deadline);
    run_until([&] { return flushed.has_value(); });
    return flushed ? *flushed : fail(ErrorCode::kInternal, "no answer");
  }

  std::int64_t account(const std::string& app, std::string_view name) {
    std::atomic<bool> read = false;
    std::int64_t value = -1;
    EXPECT_TRUE(store_->post([&](store::Store& store) {
      if (const auto ledger = store.ledger()) {
        const auto found = ledger->find(app);
        value = found == ledger->end() ? 0 : found->second.total(name);
      }
      const auto check = store.check_ledger();
      EXPECT_TRUE(check && check->balanced);
      read = true;
    }));
    run_until([&] { return read.load(); });
    return value;
  }

  FakeClock clock_;
  TempDir dir_;
  loop::Loop loop_;
  schedule::Options options_;
  std::vector<schedule::DestinationSpec> specs_ = {{"main", "native"}};
  std::string route_ = "main";
  std::set<std::pair<std::uint32_t, std::string>> held_;
  std::chrono::milliseconds min_age_{0};
  std::chrono::milliseconds event_age_max_{0};
  bool identity_known_ = true;
  bool busy_ = false;
  std::unique_ptr<store::StoreThread> store_;
  std::unique_ptr<schedule::Scheduler> scheduler_;
};

}  // namespace telemetryd::test
