// load_client: how many events a telemetryd makes durable and acknowledges in a second, and how
// long a sender waits for it.
//
// Speaks the frames of docs/formats/frame.md itself, so that the client library is not what is
// measured: frames are built once, and per frame only its number changes. One thread serves all
// connections; each keeps `--in-flight` frames under way and sends as many as the last ACK settled
// in one call. With `--rate` every connection waits for its answer and keeps to its share of the
// pace.
//
// Prints one line of JSON. Ends with 1 when the daemon refuses a frame or closes a connection.

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <span>
#include <string>
#include <string_view>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

#include "bench/event_bytes.h"
#include "frame/frame.h"

namespace {

using namespace telemetryd;
using bench::kEventBytes;
using bench::put_bytes;
using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kWarmUp{200};
constexpr std::size_t kLatenciesMax = 4u << 20;
constexpr int kPatienceMs = 20'000;

struct Options {
  std::string socket;
  std::string app = "bench";
  std::uint32_t connections = 1;
  std::uint32_t events_per_frame = 1;
  std::uint32_t in_flight = 1;
  std::uint32_t rate = 0;  // frames per second over all connections; 0: as fast as acknowledged
  double seconds = 2;
  std::uint64_t frames_max = UINT64_MAX;
};

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view flag = argv[i];
    const char* value = argv[i + 1];
    const auto number = static_cast<std::uint32_t>(std::strtoul(value, nullptr, 10));
    if (flag == "--socket") {
      options.socket = value;
    } else if (flag == "--app") {
      options.app = value;
    } else if (flag == "--connections") {
      options.connections = number;
    } else if (flag == "--events-per-frame") {
      options.events_per_frame = number;
    } else if (flag == "--in-flight") {
      options.in_flight = number;
    } else if (flag == "--rate") {
      options.rate = number;
    } else if (flag == "--seconds") {
      options.seconds = std::strtod(value, nullptr);
    } else if (flag == "--frames") {
      options.frames_max = std::strtoull(value, nullptr, 10);
    } else {
      return false;
    }
  }
  return argc % 2 == 1 && !options.socket.empty() && options.connections > 0 &&
         options.events_per_frame > 0 && options.in_flight > 0;
}

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "load_client: %s\n", why.c_str());
  std::exit(1);
}

std::string event_of_now() {
  const auto now =
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                     std::chrono::system_clock::now().time_since_epoch())
                                     .count());
  return bench::make_event({"\1\2\3\4\5\6\x71\x08\x81\x0a\x0b\x0c\0\0\0\0", 16}, now);
}

std::string make_frame(const Options& options, bool commit_now) {
  const std::string event = event_of_now();
  std::string batch;
  for (std::uint32_t i = 0; i < options.events_per_frame; ++i) put_bytes(batch, 1, event);
  std::array<std::uint8_t, frame::kHeaderBytes + frame::kEventsPrefixBytes> head{};
  frame::encode_header(
      {.length = static_cast<std::uint32_t>(frame::kEventsPrefixBytes + batch.size()),
       .type = frame::Type::kEvents,
       .flags = commit_now ? frame::kFlagCommitNow : std::uint8_t{0}},
      head.data());
  frame::encode_events_prefix({.number = 0, .count = options.events_per_frame},
                              head.data() + frame::kHeaderBytes);
  return std::string(reinterpret_cast<const char*>(head.data()), head.size()) + batch;
}

std::string make_hello(const std::string& app) {
  std::array<char, 16> instance{};
  if (getrandom(instance.data(), instance.size(), 0) != 16) give_up("no randomness");
  std::string context;
  put_bytes(context, 1, app);
  std::string hello;
  put_bytes(hello, 1, {instance.data(), instance.size()});
  put_bytes(hello, 2, context);
  hello += static_cast<char>(4 << 3);  // first_frame = 1
  hello += 1;
  std::array<std::uint8_t, frame::kHeaderBytes + frame::kHelloPrefixBytes> head{};
  frame::encode_header(
      {.length = static_cast<std::uint32_t>(frame::kHelloPrefixBytes + hello.size()),
       .type = frame::Type::kHello,
       .flags = 0},
      head.data());
  frame::encode_hello_prefix(head.data() + frame::kHeaderBytes);
  return std::string(reinterpret_cast<const char*>(head.data()), head.size()) + hello;
}

class Connection {
 public:
  Connection(const Options& options, std::string_view one_frame)
      : frame_bytes_(one_frame.size()), in_flight_(options.in_flight) {
    for (std::uint32_t i = 0; i < in_flight_; ++i) frames_ += one_frame;
    sent_at_.resize(in_flight_);
    fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, options.socket.c_str(), sizeof address.sun_path - 1);
    if (fd_ < 0 || connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      give_up(std::string("connect: ") + std::strerror(errno));
    }
    const std::string hello = make_hello(options.app);
    if (send(fd_, hello.data(), hello.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(hello.size())) {
      give_up("hello was not taken");
    }
    fcntl(fd_, F_SETFL, O_NONBLOCK);
  }

  int fd() const { return fd_; }

  bool wants_to_write() const { return written_ < end_; }

  bool idle() const { return next_ - 1 == acked_; }

  std::uint64_t acked() const { return acked_; }

  SteadyClock::time_point due;

  // Begins `count` more frames and sends what the socket takes.
  void begin(std::uint64_t count, SteadyClock::time_point now) {
    for (; count > 0; --count, ++next_) {
      const std::size_t slot = next_ % in_flight_;
      auto* at = reinterpret_cast<std::uint8_t*>(frames_.data() + slot * frame_bytes_);
      frame::put_u64(at + frame::kHeaderBytes, next_);
      sent_at_[slot] = now;
      end_ += frame_bytes_;
    }
    write();
  }

  void write() {
    const std::size_t ring = frames_.size();
    while (written_ < end_) {
      // Frame n lives in slot n % in_flight, and the first is number 1.
      const std::size_t at = static_cast<std::size_t>((written_ + frame_bytes_) % ring);
      const auto size =
          static_cast<std::size_t>(std::min<std::uint64_t>(ring - at, end_ - written_));
      const ssize_t sent = send(fd_, frames_.data() + at, size, MSG_NOSIGNAL);
      if (sent < 0) {
        if (errno == EAGAIN) return;
        give_up(std::string("send: ") + std::strerror(errno));
      }
      written_ += static_cast<std::uint64_t>(sent);
    }
  }

  // Returns how many frames were settled now; their waiting times go to `latencies`.
  std::uint64_t read(SteadyClock::time_point now, std::vector<std::uint32_t>& latencies) {
    std::array<std::uint8_t, 65536> buffer;
    const ssize_t got = recv(fd_, buffer.data(), buffer.size(), 0);
    if (got == 0) give_up("the daemon closed the connection");
    if (got < 0) {
      if (errno == EAGAIN) return 0;
      give_up(std::string("recv: ") + std::strerror(errno));
    }
    input_.append(reinterpret_cast<const char*>(buffer.data()), static_cast<std::size_t>(got));
    const std::uint64_t before = acked_;
    std::size_t at = 0;
    while (input_.size() - at >= frame::kHeaderBytes) {
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(input_.data() + at);
      const frame::Header header = frame::decode_header(bytes);
      if (input_.size() - at < frame::kHeaderBytes + header.length) break;
      take(header, bytes + frame::kHeaderBytes);
      at += frame::kHeaderBytes + header.length;
    }
    input_.erase(0, at);
    for (std::uint64_t number = before + 1; number <= acked_; ++number) {
      if (latencies.size() == kLatenciesMax) break;
      const auto waited =
          std::chrono::duration_cast<std::chrono::nanoseconds>(now - sent_at_[number % in_flight_]);
      latencies.push_back(
          static_cast<std::uint32_t>(std::min<std::int64_t>(waited.count(), UINT32_MAX)));
    }
    return acked_ - before;
  }

 private:
  void take(const frame::Header& header, const std::uint8_t* payload) {
    if (header.type == frame::Type::kAck) acked_ = frame::get_u64(payload);
    if (header.type == frame::Type::kRefuse) {
      const frame::Refuse refuse = frame::decode_refuse_prefix(payload);
      give_up("frame " + std::to_string(refuse.number) +
              " refused: " + frame::code_name(refuse.code));
    }
    if (header.type == frame::Type::kClosing) give_up("the daemon closes the connection");
  }

  std::string frames_;  // in_flight frames behind each other, a ring
  std::size_t frame_bytes_;
  std::uint32_t in_flight_;
  int fd_ = -1;
  std::uint64_t next_ = 1;
  std::uint64_t acked_ = 0;
  std::uint64_t written_ = 0;  // bytes of all frames so far
  std::uint64_t end_ = 0;
  std::string input_;
  std::vector<SteadyClock::time_point> sent_at_;
};

struct Outcome {
  std::uint64_t frames = 0;  // settled after the warm-up
  double seconds = 0;
  std::uint64_t all_frames = 0;
  std::vector<std::uint32_t> latencies;
};

// Until `wake_up`, waits for sockets; polls only as long as the next paced frame allows.
void wait_for(std::vector<Connection>& connections,
              std::vector<pollfd>& polls,
              SteadyClock::time_point wake_up,
              bool paced) {
  for (std::size_t i = 0; i < connections.size(); ++i) {
    const short out = connections[i].wants_to_write() ? POLLOUT : short{0};
    polls[i] = {connections[i].fd(), static_cast<short>(POLLIN | out), 0};
  }
  timespec patience{kPatienceMs / 1000, 0};
  if (paced) {
    const auto left = std::max(std::chrono::nanoseconds(0),
                               std::chrono::nanoseconds(wake_up - SteadyClock::now()));
    patience = {left.count() / 1'000'000'000, left.count() % 1'000'000'000};
  }
  const int ready = ppoll(polls.data(), polls.size(), &patience, nullptr);
  if (ready == 0 && !paced) give_up("no answer within 20 s");
}

// What a paced sender has begun is answered too, so that who counts finds no frame in between.
void finish(std::vector<Connection>& connections, std::vector<pollfd>& polls, Outcome& outcome) {
  const auto waits = [](const Connection& connection) { return !connection.idle(); };
  while (std::any_of(connections.begin(), connections.end(), waits)) {
    wait_for(connections, polls, {}, false);
    const auto now = SteadyClock::now();
    for (std::size_t i = 0; i < connections.size(); ++i) {
      if ((polls[i].revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
      outcome.all_frames += connections[i].read(now, outcome.latencies);
    }
  }
}

Outcome run(const Options& options) {
  const bool paced = options.rate > 0;
  const std::string one_frame = make_frame(options, options.in_flight == 1);
  std::vector<Connection> connections;
  connections.reserve(options.connections);
  const auto begun = SteadyClock::now();
  const auto period =
      paced ? std::chrono::nanoseconds(1'000'000'000ull * options.connections / options.rate)
            : std::chrono::nanoseconds(0);
  for (std::uint32_t i = 0; i < options.connections; ++i) {
    connections.emplace_back(options, one_frame);
    connections.back().due = begun + period * i / options.connections;
    if (!paced) connections.back().begin(options.in_flight, begun);
  }
  const auto warm = begun + kWarmUp;
  const auto end = warm + std::chrono::duration_cast<SteadyClock::duration>(
                              std::chrono::duration<double>(options.seconds));
  std::vector<pollfd> polls(connections.size());
  Outcome outcome;
  auto measured_from = warm;
  for (auto now = SteadyClock::now(); now < end && outcome.all_frames < options.frames_max;
       now = SteadyClock::now()) {
    auto next_due = end;
    if (paced) {
      for (auto& connection : connections) {
        if (connection.due <= now && connection.idle()) {
          connection.begin(1, now);
          // A late frame does not make the next ones hurry: the pace is an upper bound.
          connection.due = std::max(connection.due + period, now);
        }
        next_due = std::min(next_due, connection.idle() ? connection.due : end);
      }
    }
    wait_for(connections, polls, next_due, paced);
    now = SteadyClock::now();
    for (std::size_t i = 0; i < connections.size(); ++i) {
      if ((polls[i].revents & POLLOUT) != 0) connections[i].write();
      if ((polls[i].revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
      const std::uint64_t settled = connections[i].read(now, outcome.latencies);
      outcome.all_frames += settled;
      if (now >= warm) outcome.frames += settled;
      if (!paced && settled > 0) connections[i].begin(settled, now);
    }
    if (now < warm) {
      outcome.latencies.clear();
      measured_from = now;
    }
  }
  outcome.seconds = std::chrono::duration<double>(SteadyClock::now() - measured_from).count();
  if (paced) finish(connections, polls, outcome);
  return outcome;
}

double percentile_us(std::vector<std::uint32_t>& sorted, double share) {
  if (sorted.empty()) return 0;
  const auto at = static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1));
  return sorted[at] / 1000.0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fprintf(
        stderr,
        "usage: load_client --socket PATH [--app A] [--connections N] [--events-per-frame N] "
        "[--in-flight N] [--rate FRAMES_PER_S] [--seconds S] [--frames N]\n");
    return 2;
  }
  Outcome outcome = run(options);
  std::sort(outcome.latencies.begin(), outcome.latencies.end());
  const double events = static_cast<double>(outcome.frames) * options.events_per_frame;
  std::printf("{\"events_per_s\":%.0f,\"events_all\":%" PRIu64
              ",\"event_bytes\":%zu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f}\n",
              outcome.seconds > 0 ? events / outcome.seconds : 0.0,
              outcome.all_frames * options.events_per_frame,
              kEventBytes,
              percentile_us(outcome.latencies, 0.5),
              percentile_us(outcome.latencies, 0.99),
              percentile_us(outcome.latencies, 0.999));
  return 0;
}
