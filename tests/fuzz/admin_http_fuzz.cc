// Any bytes on the admin socket of a whole daemon with a few events in its store: each request ends
// with an answer in the promised shape, and whoever asks next is served.
//
// The first byte says how: bit 0 another user without rights (when we are root), bit 1 in pieces,
// bit 2 hang up without reading the answer. The rest goes onto the socket as it is.

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <optional>
#include <poll.h>
#include <span>
#include <string>
#include <string_view>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "app/daemon.h"
#include "base/check.h"
#include "base/log.h"
#include "config/config.h"
#include "event/event.h"
#include "store/store.h"
#include "support/daemon_home.h"
#include "support/unix_http.h"
#include "unit/event/sample.h"

using namespace telemetryd;

namespace {

constexpr unsigned char kOtherUser = 1;
constexpr unsigned char kPieces = 2;
constexpr unsigned char kHangUp = 4;
constexpr std::uint32_t kNobody = 65534;
constexpr std::uint32_t kOwner = 12345;  // of the stored events; no input withdraws their consent
constexpr int kTriesMax = 10'000;
constexpr int kPatienceMs = 200;

void store_events(store::Store& store, const std::string& app, std::uint8_t instance) {
  event::v1::EventBatch batch;
  for (int i = 0; i < 40; ++i) *batch.add_events() = event::typical_event();
  auto client = std::make_shared<store::ClientInfo>();
  client->key.uid = kOwner;
  client->key.instance.fill(instance);
  client->app = app;
  store::Append append;
  append.client = std::move(client);
  append.number = 1;
  append.events = batch.SerializeAsString();
  append.summary =
      event::validate(append.events, append.persistence_class, append.urgency, {}).value();
  TELEMETRYD_CHECK(store.commit(std::span(&append, 1)).has_value());
}

Result<std::unique_ptr<store::Store>> open_store(const store::Options& options,
                                                 const Clock& clock) {
  auto store = store::open_sqlite_store(options, clock);
  if (!store) return store;
  store_events(**store, "alpha", 1);
  store_events(**store, "beta", 2);
  return store;
}

// A daemon on a thread of its own, for the whole run.
class Machine {
 public:
  Machine() : home_(config()), thread_([this] { serve(); }) { ready_.get_future().wait(); }

  ~Machine() {
    // The way it stops outside as well.
    ::kill(::getpid(), SIGTERM);
    thread_.join();
  }

  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  std::string socket() const { return home_.admin_socket(); }

 private:
  static std::string config() {
    return "[daemon]\nlog_level = \"error\"\n[policy]\nmode = \"opt-out\"\n"
           "[store]\nbytes_max = 16777216\n";
  }

  void serve() {
    log::open("admin_http_fuzz", log::Level::kError);
    const config::Sources sources{.file = home_.config_file(),
                                  .file_required = true,
                                  .state_dir = home_.state_dir(),
                                  .runtime_dir = home_.runtime_dir()};
    config::Loaded loaded = config::load(sources);
    TELEMETRYD_CHECK(loaded.config.has_value());
    const auto daemon = app::Daemon::open(sources, std::move(loaded), open_store, "0");
    if (!daemon) std::fprintf(stderr, "%s\n", daemon.error().error.message().c_str());
    TELEMETRYD_CHECK(daemon.has_value());
    ready_.set_value();
    TELEMETRYD_CHECK((*daemon)->run() == app::kExitOk);
  }

  test::DaemonHome home_;
  std::promise<void> ready_;
  std::thread thread_;
};

// The kernel tells a thread's own user at the moment it connects.
class AsNobody {
 public:
  explicit AsNobody(bool wanted) : changed_(wanted && ::geteuid() == 0) {
    if (changed_) TELEMETRYD_CHECK(::syscall(SYS_setresuid, -1, kNobody, -1) == 0);
  }

  ~AsNobody() {
    if (!changed_) return;
    TELEMETRYD_CHECK(::syscall(SYS_setresuid, -1, 0, -1) == 0);
    ::prctl(PR_SET_DUMPABLE, 1);  // for the leak sanitizer
  }

  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;

 private:
  bool changed_;
};

test::UnixHttp connect(const std::string& path, bool as_nobody) {
  const AsNobody become(as_nobody);
  return test::UnixHttp(path);
}

struct Answer {
  int status = 0;
  std::string type;
  std::string body;
};

std::string header(std::string_view head, std::string_view name) {
  const std::string wanted = "\r\n" + std::string(name) + ": ";
  const std::size_t begin = head.find(wanted);
  if (begin == std::string_view::npos) return {};
  const std::string_view value = head.substr(begin + wanted.size());
  return std::string(value.substr(0, value.find("\r\n")));
}

// The chunks at the front of `text`; nothing when the last one is not there.
std::optional<std::string> take_chunks(std::string_view& text) {
  std::string body;
  for (;;) {
    const std::size_t end = text.find("\r\n");
    if (end == std::string_view::npos) return std::nullopt;
    const std::size_t size = std::stoul(std::string(text.substr(0, end)), nullptr, 16);
    text.remove_prefix(end + 2);
    if (text.size() < size + 2) return std::nullopt;
    body += text.substr(0, size);
    text.remove_prefix(size + 2);
    if (size == 0) return body;
  }
}

// The answer at the front of `text`; nothing when it does not end within. An answer without any
// length ends with the connection.
std::optional<Answer> take_answer(std::string_view& text) {
  const std::size_t end = text.find("\r\n\r\n");
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view head = text.substr(0, end + 2);
  TELEMETRYD_CHECK(head.starts_with("HTTP/1.") && head.size() > 13);
  Answer answer{.status = std::stoi(std::string(head.substr(9, 3))),
                .type = header(head, "Content-Type"),
                .body = {}};
  text.remove_prefix(end + 4);
  if (answer.status == 100) return answer;
  if (const std::string length = header(head, "Content-Length"); !length.empty()) {
    const std::size_t size = std::stoul(length);
    if (text.size() < size) return std::nullopt;
    answer.body = text.substr(0, size);
    text.remove_prefix(size);
  } else if (header(head, "Transfer-Encoding") == "chunked") {
    auto body = take_chunks(text);
    if (!body) return std::nullopt;
    answer.body = std::move(*body);
  } else {
    answer.body = text;
    text = {};
  }
  return answer;
}

void check_json(std::string_view text) {
  TELEMETRYD_CHECK(nlohmann::json::accept(text));
}

void check_answer(const Answer& answer) {
  // 500 is what a handler that forgot to answer sends.
  TELEMETRYD_CHECK(answer.status >= 100 && answer.status < 600 && answer.status != 500);
  if (answer.type == "application/json") {
    check_json(answer.body);
    const auto json = nlohmann::json::parse(answer.body);
    if (answer.status >= 400) TELEMETRYD_CHECK(json.at("error").at("message").is_string());
  }
  if (answer.type == "application/x-ndjson") {
    std::string_view rest = answer.body;
    for (std::size_t end = 0; (end = rest.find('\n')) != std::string_view::npos;) {
      check_json(rest.substr(0, end));
      rest.remove_prefix(end + 1);
    }
  }
}

void check_answers(std::string_view answers, bool heads_only) {
  while (!answers.empty()) {
    const auto answer = take_answer(answers);
    // What stands behind the answer to HEAD is not where its length says.
    if (heads_only) return;
    // A stream is cut off when its reader is gone; everything else is whole.
    if (!answer) return;
    check_answer(*answer);
  }
}

// The next one is served, whatever the one before did. Those that hung up may still hold their
// places for a moment.
void check_serving(const std::string& path) {
  test::HttpAnswer answer{.status = 503, .headers = {}, .body = {}};
  for (int tries = 0; answer.status == 503 && tries < kTriesMax; ++tries) {
    answer = test::UnixHttp(path).get("/healthz");
  }
  TELEMETRYD_CHECK(answer.status == 200 && answer.body == "ok\n");
}

// What comes until the server closes. It keeps a few odd beginnings of a request until its own time
// is over, which takes too long here.
std::string answers_of(const test::UnixHttp& http) {
  std::string answers;
  char bytes[16384];
  pollfd readable{.fd = http.fd(), .events = POLLIN, .revents = 0};
  while (::poll(&readable, 1, kPatienceMs) > 0) {
    const ssize_t got = ::recv(http.fd(), bytes, sizeof bytes, 0);
    if (got <= 0) break;
    answers.append(bytes, static_cast<std::size_t>(got));
  }
  return answers;
}

bool make_surroundings() {
  // In memory, unless somebody says where.
  ::setenv("TMPDIR", "/dev/shm", 0);
  for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS"}) {
    ::unsetenv(name);
  }
  std::signal(SIGPIPE, SIG_IGN);
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool made = make_surroundings();
  static const Machine machine;
  if (size == 0 || !made) return 0;
  const unsigned char how = data[0];
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  {
    auto http = connect(machine.socket(), (how & kOtherUser) != 0);
    const std::size_t piece = (how & kPieces) != 0 ? bytes.size() / 3 + 1 : bytes.size();
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      if (!http.send(bytes.substr(at, piece))) break;
    }
    if ((how & kHangUp) == 0) {
      ::shutdown(http.fd(), SHUT_WR);
      check_answers(answers_of(http), bytes.find("HEAD") != std::string_view::npos);
    }
  }
  check_serving(machine.socket());
  return 0;
}
