// Sends numbered events to telemetryd over grpc.sock and ends when all are on stable storage.
//
// usage: grpc_example [--socket PATH] [--app NAME] [--count N] [--stream]
// Exit codes: 0 all acknowledged, 1 failed, 2 usage, 3 collection is off.

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <getopt.h>
#include <string>
#include <utility>

#include "sender.h"

namespace {

namespace v1 = ::telemetry::v1;
using example::Sender;

constexpr long kEventsPerRequest = 10;

struct Options {
  std::string socket;
  std::string app = "grpc-example";
  long count = 100;
  bool stream = false;
};

std::filesystem::path absolute(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value == '/' ? value : "";
}

// The system's telemetryd, else the one of this user: never a folder that others may write to.
std::string default_socket() {
  const std::filesystem::path system = "/run/telemetryd";
  if (std::filesystem::is_directory(system)) return system / "grpc.sock";
  if (const auto runtime = absolute("XDG_RUNTIME_DIR"); !runtime.empty()) {
    return runtime / "telemetryd/grpc.sock";
  }
  auto state = absolute("XDG_STATE_HOME");
  if (state.empty()) state = absolute("HOME") / ".local/state";
  return state / "telemetryd/run/grpc.sock";
}

bool parse_count(const std::string& text, long& count) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  return error == std::errc() && end == text.data() + text.size() && count >= 0;
}

bool parse(int argc, char** argv, Options& options) {
  const option known[] = {{"socket", required_argument, nullptr, 's'},
                          {"app", required_argument, nullptr, 'a'},
                          {"count", required_argument, nullptr, 'c'},
                          {"stream", no_argument, nullptr, 'S'},
                          {nullptr, 0, nullptr, 0}};
  options.socket = default_socket();
  for (int flag = 0; (flag = getopt_long(argc, argv, "", known, nullptr)) != -1;) {
    if (flag == 's')
      options.socket = optarg;
    else if (flag == 'a')
      options.app = optarg;
    else if (flag == 'S')
      options.stream = true;
    else if (flag != 'c' || !parse_count(optarg, options.count))
      return false;
  }
  return optind == argc;
}

v1::Event numbered(long number) {
  v1::Event event = example::new_event("example");
  v1::Attribute* attribute = event.add_attributes();
  attribute->set_key("n");
  attribute->set_int_value(number);
  return event;
}

Sender::End send(Sender& sender, const Options& options) {
  if (sender.off()) return Sender::End::kCollectionOff;
  const auto flush = [&] { return options.stream ? sender.flush_stream() : sender.flush(); };
  for (long first = 0; first < options.count; first += kEventsPerRequest) {
    std::vector<v1::Event> events;
    for (long n = first; n < std::min(options.count, first + kEventsPerRequest); ++n) {
      events.push_back(numbered(n));
    }
    while (!sender.add(events)) {
      if (const Sender::End end = flush(); end != Sender::End::kAcknowledged) return end;
    }
  }
  return flush();
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr,
                 "usage: grpc_example [--socket PATH] [--app NAME] [--count N] [--stream]\n");
    return 2;
  }
  Sender sender(options.socket, options.app);
  if (!sender.off() && !std::filesystem::exists(options.socket)) {
    std::fprintf(stderr,
                 "failed: there is no %s: start telemetryd, or name its grpc.sock with --socket\n",
                 options.socket.c_str());
    return 1;
  }
  const Sender::End end = send(sender, options);
  if (end == Sender::End::kCollectionOff) {
    std::fprintf(stderr, "collection is off: %s\n", sender.problem().c_str());
    return 3;
  }
  if (end == Sender::End::kFailed) {
    std::fprintf(stderr, "failed: %s\n", sender.problem().c_str());
    return 1;
  }
  for (const Sender::Refused& refused : sender.refused()) {
    std::fprintf(stderr,
                 "request %llu was refused: %s\n",
                 static_cast<unsigned long long>(refused.number),
                 refused.why.c_str());
  }
  std::printf("acknowledged %ld events, %llu requests sent again\n",
              options.count,
              static_cast<unsigned long long>(sender.resent()));
  return sender.refused().empty() ? 0 : 1;
}
