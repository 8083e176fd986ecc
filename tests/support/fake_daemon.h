// support/fake_daemon.h: a daemon for clients under test: real sockets, no store, and a script.
//
// Without a script it does what the real one does: welcomes, keeps each frame once per (instance,
// number), acknowledges. A script replaces the answer to a HELLO or to an EVENTS frame and runs on
// the daemon's thread.
//
// Thread:  its own; public functions from the test's thread.

#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <poll.h>
#include <stdexcept>
#include <string>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "frame/frame.h"
#include "telemetry/v1/event.pb.h"
#include "telemetry/v1/frame.pb.h"

namespace telemetryd::test {

namespace v1 = ::telemetry::v1;

// One EVENTS frame as it arrived.
struct ReceivedFrame {
  std::string instance;
  frame::EventsPrefix prefix;
  std::uint8_t flags;
  std::string bytes;  // header and payload, to compare repetitions
  std::string batch;
  int connection;  // counted from 1
};

class FakeDaemon {
 public:
  class Peer {
   public:
    Peer(int fd, int connection) : fd_(fd), connection_(connection) {}

    ~Peer() { hang_up(); }

    Peer(const Peer&) = delete;
    Peer& operator=(const Peer&) = delete;

    void welcome(std::uint64_t high_water,
                 v1::CollectionMode mode = v1::COLLECTION_MODE_ON,
                 const std::string& rule = "opt_out_default",
                 std::uint32_t frame_bytes_max = frame::kFrameBytesMaxDefault) {
      v1::DaemonWelcome message;
      message.set_mode(mode);
      message.set_mode_rule(rule);
      message.set_high_water(high_water);
      message.set_event_bytes_max(frame::kEventBytesMaxDefault);
      message.set_frame_bytes_max(frame_bytes_max);
      message.set_frames_in_flight_max(frame::kFramesInFlightMax);
      std::string payload(frame::kWelcomePrefixBytes, '\0');
      frame::put_u16(bytes(payload), frame::kVersion);
      reply(frame::Type::kWelcome, payload + message.SerializeAsString());
    }

    void ack(std::uint64_t number) {
      std::string payload(frame::kAckBytes, '\0');
      frame::put_u64(bytes(payload), number);
      reply(frame::Type::kAck, payload);
    }

    void refuse(const frame::Refuse& refuse, const std::string& text) {
      std::string payload(frame::kRefusePrefixBytes, '\0');
      frame::encode_refuse_prefix(refuse, bytes(payload));
      reply(frame::Type::kRefuse, payload + text);
    }

    void mode(v1::CollectionMode mode, const std::string& rule) {
      std::string payload(frame::kModePrefixBytes, '\0');
      payload[0] = static_cast<char>(mode);
      reply(frame::Type::kMode, payload + rule);
    }

    void closing(frame::Code code, const std::string& reason) {
      std::string payload(frame::kClosingPrefixBytes, '\0');
      frame::put_u16(bytes(payload), static_cast<std::uint16_t>(code));
      reply(frame::Type::kClosing, payload + reason);
      hang_up();
    }

    // Bytes that are no frame.
    void garbage(const std::string& noise) {
      [[maybe_unused]] const ssize_t wrote = ::send(fd_, noise.data(), noise.size(), MSG_NOSIGNAL);
    }

    void hang_up() {
      if (fd_ >= 0) ::close(fd_);
      fd_ = -1;
    }

    const v1::ClientHello& hello() const { return hello_; }

    int connection() const { return connection_; }

   private:
    friend class FakeDaemon;

    static std::uint8_t* bytes(std::string& text) {
      return reinterpret_cast<std::uint8_t*>(text.data());
    }

    void reply(frame::Type type, const std::string& payload) {
      std::string out(frame::kHeaderBytes, '\0');
      frame::encode_header(
          {.length = static_cast<std::uint32_t>(payload.size()), .type = type, .flags = 0},
          bytes(out));
      out += payload;
      std::size_t done = 0;
      while (fd_ >= 0 && done < out.size()) {
        const ssize_t wrote = ::send(fd_, out.data() + done, out.size() - done, MSG_NOSIGNAL);
        if (wrote <= 0) return hang_up();
        done += static_cast<std::size_t>(wrote);
      }
    }

    int fd_;
    int connection_;
    std::string input_;
    v1::ClientHello hello_;
  };

  using OnHello = std::function<void(Peer&)>;
  using OnEvents = std::function<void(Peer&, const ReceivedFrame&)>;

  explicit FakeDaemon(std::string path) : path_(std::move(path)) {
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
    ::unlink(path_.c_str());
    if (::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_, 64) != 0) {
      throw std::runtime_error("cannot listen on " + path_);
    }
    wake_ = ::eventfd(0, EFD_CLOEXEC);
  }

  ~FakeDaemon() { stop(); }

  // Scripts are set before start().
  void on_hello(OnHello script) { on_hello_ = std::move(script); }

  void on_events(OnEvents script) { on_events_ = std::move(script); }

  void start() {
    thread_ = std::thread([this] { run(); });
  }

  void stop() {
    if (thread_.joinable()) {
      stopping_ = true;
      const std::uint64_t one = 1;
      [[maybe_unused]] const ssize_t wrote = ::write(wake_, &one, sizeof one);
      thread_.join();
    }
    peers_.clear();
    if (listener_ >= 0) ::close(listener_);
    if (wake_ >= 0) ::close(wake_);
    listener_ = -1;
    wake_ = -1;
    ::unlink(path_.c_str());
  }

  // What the real daemon would do with a frame: keep it once, say how far everything is durable.
  void accept(Peer& peer, const ReceivedFrame& frame) {
    {
      const std::lock_guard lock(mutex_);
      if (stored_[frame.instance].emplace(frame.prefix.number, frame.batch).second) {
        events_stored_ += frame.prefix.count;
      } else {
        ++duplicates_;
      }
    }
    changed_.notify_all();
    peer.ack(frame.prefix.number);
  }

  std::uint64_t high_water(const std::string& instance) {
    const std::lock_guard lock(mutex_);
    const auto found = stored_.find(instance);
    return found == stored_.end() || found->second.empty() ? 0 : found->second.rbegin()->first;
  }

  // Waits until `condition`, evaluated under the lock, holds. The bound is for broken code only.
  template <typename Condition>
  bool wait_until(Condition condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), condition);
  }

  bool wait_for_events(std::uint64_t count) {
    return wait_until([&] { return events_stored_ >= count; });
  }

  bool wait_for_frames(std::size_t count) {
    return wait_until([&] { return received_.size() >= count; });
  }

  std::vector<ReceivedFrame> received() const {
    const std::lock_guard lock(mutex_);
    return received_;
  }

  // Every stored event, in order of frame numbers, by instance.
  std::map<std::string, std::vector<v1::Event>> events() const {
    const std::lock_guard lock(mutex_);
    std::map<std::string, std::vector<v1::Event>> all;
    for (const auto& [instance, frames] : stored_) {
      for (const auto& [number, batch] : frames) {
        v1::EventBatch parsed;
        if (!parsed.ParseFromString(batch)) throw std::runtime_error("stored batch is malformed");
        for (const auto& event : parsed.events()) all[instance].push_back(event);
      }
    }
    return all;
  }

  std::vector<v1::ClientHello> hellos() const {
    const std::lock_guard lock(mutex_);
    return hellos_;
  }

  std::vector<v1::ClientReport> reports() const {
    const std::lock_guard lock(mutex_);
    return reports_;
  }

  std::uint64_t events_stored() const {
    const std::lock_guard lock(mutex_);
    return events_stored_;
  }

  int connections() const {
    const std::lock_guard lock(mutex_);
    return connections_;
  }

  int flushes() const {
    const std::lock_guard lock(mutex_);
    return flushes_;
  }

  int goodbyes() const {
    const std::lock_guard lock(mutex_);
    return goodbyes_;
  }

  int protocol_errors() const {
    const std::lock_guard lock(mutex_);
    return protocol_errors_;
  }

  // For conditions given to wait_until(), which runs under the lock.
  int connections_locked() const { return connections_; }

  int flushes_locked() const { return flushes_; }

  int goodbyes_locked() const { return goodbyes_; }

  std::size_t reports_locked() const { return reports_.size(); }

  const std::string& path() const { return path_; }

  // Runs `action` on the daemon's thread for every connected peer.
  void with_peers(const std::function<void(Peer&)>& action) {
    {
      const std::lock_guard lock(mutex_);
      posted_.push_back(action);
    }
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t wrote = ::write(wake_, &one, sizeof one);
  }

 private:
  void run() {
    while (!stopping_) {
      std::vector<pollfd> fds{{wake_, POLLIN, 0}, {listener_, POLLIN, 0}};
      for (const auto& peer : peers_) fds.push_back({peer->fd_, POLLIN, 0});
      ::poll(fds.data(), fds.size(), -1);
      if (fds[0].revents != 0) run_posted();
      for (std::size_t i = 2; i < fds.size(); ++i) {
        if (fds[i].revents != 0 && peers_[i - 2]->fd_ >= 0) read_from(*peers_[i - 2]);
      }
      std::erase_if(peers_, [](const auto& peer) { return peer->fd_ < 0; });
      if (fds[1].revents != 0) take_connection();
    }
  }

  void run_posted() {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(wake_, &count, sizeof count);
    std::vector<std::function<void(Peer&)>> actions;
    {
      const std::lock_guard lock(mutex_);
      actions.swap(posted_);
    }
    for (const auto& action : actions) {
      for (const auto& peer : peers_) action(*peer);
    }
  }

  void take_connection() {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    int connection = 0;
    {
      const std::lock_guard lock(mutex_);
      connection = ++connections_;
    }
    peers_.push_back(std::make_unique<Peer>(fd, connection));
    changed_.notify_all();
  }

  void read_from(Peer& peer) {
    char buffer[64 * 1024];
    const ssize_t got = ::recv(peer.fd_, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return peer.hang_up();
    peer.input_.append(buffer, static_cast<std::size_t>(got));
    while (peer.fd_ >= 0 && peer.input_.size() >= frame::kHeaderBytes) {
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(peer.input_.data());
      const frame::Header header = frame::decode_header(bytes);
      const std::size_t whole = frame::kHeaderBytes + header.length;
      if (peer.input_.size() < whole) return;
      const std::string frame = peer.input_.substr(0, whole);
      peer.input_.erase(0, whole);
      if (!take_frame(peer, header, frame)) {
        {
          const std::lock_guard lock(mutex_);
          ++protocol_errors_;
        }
        peer.closing(frame::Code::kProtocol, "malformed");
      }
      changed_.notify_all();
    }
  }

  bool take_frame(Peer& peer, const frame::Header& header, const std::string& whole) {
    const std::string payload = whole.substr(frame::kHeaderBytes);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(payload.data());
    switch (header.type) {
      case frame::Type::kHello: {
        if (payload.size() < frame::kHelloPrefixBytes || !frame::hello_magic_matches(bytes) ||
            frame::hello_version(bytes) != frame::kVersion ||
            !peer.hello_.ParseFromString(payload.substr(frame::kHelloPrefixBytes))) {
          return false;
        }
        const std::lock_guard lock(mutex_);
        hellos_.push_back(peer.hello_);
        break;
      }
      case frame::Type::kEvents: return take_events(peer, header, whole, payload);
      case frame::Type::kFlush: {
        const std::lock_guard lock(mutex_);
        ++flushes_;
        return true;
      }
      case frame::Type::kReport: {
        v1::ClientReport report;
        if (!report.ParseFromString(payload)) return false;
        const std::lock_guard lock(mutex_);
        reports_.push_back(report);
        return true;
      }
      case frame::Type::kGoodbye: {
        const std::lock_guard lock(mutex_);
        ++goodbyes_;
        return true;
      }
      default: return false;
    }
    if (on_hello_) {
      on_hello_(peer);
    } else {
      peer.welcome(high_water(peer.hello_.instance()));
    }
    return true;
  }

  bool take_events(Peer& peer,
                   const frame::Header& header,
                   const std::string& whole,
                   const std::string& payload) {
    if (payload.size() < frame::kEventsPrefixBytes || peer.hello_.instance().empty()) return false;
    ReceivedFrame received{.instance = peer.hello_.instance(),
                           .prefix = frame::decode_events_prefix(
                               reinterpret_cast<const std::uint8_t*>(payload.data())),
                           .flags = header.flags,
                           .bytes = whole,
                           .batch = payload.substr(frame::kEventsPrefixBytes),
                           .connection = peer.connection_};
    v1::EventBatch batch;
    if (!batch.ParseFromString(received.batch) ||
        static_cast<std::uint32_t>(batch.events_size()) != received.prefix.count) {
      return false;
    }
    {
      const std::lock_guard lock(mutex_);
      received_.push_back(received);
    }
    if (on_events_) {
      on_events_(peer, received);
    } else {
      accept(peer, received);
    }
    return true;
  }

  std::string path_;
  int listener_ = -1;
  int wake_ = -1;
  std::thread thread_;
  std::atomic<bool> stopping_ = false;
  OnHello on_hello_;
  OnEvents on_events_;
  std::vector<std::unique_ptr<Peer>> peers_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::function<void(Peer&)>> posted_;
  std::vector<ReceivedFrame> received_;
  std::vector<v1::ClientHello> hellos_;
  std::vector<v1::ClientReport> reports_;
  std::map<std::string, std::map<std::uint64_t, std::string>> stored_;
  std::uint64_t events_stored_ = 0;
  std::uint64_t duplicates_ = 0;
  int connections_ = 0;
  int flushes_ = 0;
  int goodbyes_ = 0;
  int protocol_errors_ = 0;
};

}  // namespace telemetryd::test
