// The real telemetryd-forward, as telemetryd starts it and as a service manager does.

#include <csignal>
#include <fstream>
#include <spawn.h>
#include <sys/wait.h>

#include <gtest/gtest.h>

#include "base/io.h"
#include "integration/forward/daemon_rig.h"
#include "integration/forward/scripted_server.h"

extern char** environ;

namespace telemetryd::test {
namespace {

using namespace std::chrono_literals;

class ForwardProgram : public DaemonRig {
 protected:
  ~ForwardProgram() override {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  std::string config_file(const std::string& destination) {
    const auto path = dir_ / "telemetryd.toml";
    EXPECT_TRUE(replace_file(path, "[[destination]]\nname = \"main\"\n" + destination, 0600));
    return path.native();
  }

  std::string native_config(const std::string& url) {
    EXPECT_TRUE(replace_file(dir_ / "token", "tk_1\n", 0600));
    EXPECT_TRUE(replace_file(dir_ / "secret", "secret\n", 0600));
    return config_file("kind = \"native\"\nurl = \"" + url +
                       "\"\norg = \"acme\"\napp = \"tools\"\ntoken_file = \"" +
                       (dir_ / "token").native() + "\"\nsecret_file = \"" +
                       (dir_ / "secret").native() + "\"\n");
  }

  std::string file_config() {
    return config_file("kind = \"file\"\nurl = \"" + (dir_ / "out.jsonl").native() + "\"\n");
  }

  // Starts the program with one end of a socket pair as fd 3; the other is link_.
  void start(std::vector<std::string> arguments) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    link_ = UniqueFd(ends[0]);
    const UniqueFd theirs(ends[1]);
    arguments.insert(arguments.begin(), TELEMETRYD_FORWARD);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, theirs.get(), 3);
    ASSERT_EQ(::posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
  }

  int wait_for_exit() {
    int status = -1;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }

  // The next message but for those about the machine's surroundings, which come when they like.
  v1::FromForwarder read() const {
    v1::FromForwarder message;
    do {
      EXPECT_TRUE(read_message(link_.get(), message));
    } while (message.has_conditions() || message.has_route_change());
    return message;
  }

  static v1::ToForwarder lease(std::uint64_t id, const std::string& destination = "main") {
    v1::ToForwarder message;
    message.mutable_lease()->set_id(id);
    message.mutable_lease()->set_destination(destination);
    v1::LeasedRow* row = message.mutable_lease()->add_rows();
    row->set_count(2);
    row->set_events(make_batch(2));
    row->set_context(make_context("tool"));
    return message;
  }

  std::size_t lines_written() const {
    std::ifstream in(dir_ / "out.jsonl");
    std::size_t count = 0;
    for (std::string line; std::getline(in, line);) ++count;
    return count;
  }

  UniqueFd link_;
  pid_t pid_ = -1;
};

TEST_F(ForwardProgram, GreetsDeliversAndEndsAtEndOfFile) {
  start({"--config", file_config()});
  EXPECT_EQ(read().hello().protocol(), 1u);
  ASSERT_TRUE(write_message(link_.get(), lease(5)));
  const v1::FromForwarder reply = read();
  EXPECT_EQ(reply.outcome().lease_id(), 5u);
  EXPECT_EQ(reply.outcome().verdict(), v1::VERDICT_DELIVERED) << reply.outcome().error();
  EXPECT_EQ(lines_written(), 2u);
  link_.reset();
  EXPECT_EQ(wait_for_exit(), 0);
}

TEST_F(ForwardProgram, EndsAtOnceWhenTelemetrydIsGone) {
  std::atomic<bool> asked = false;
  ScriptedServer server([&](const auto&) {
    asked = true;
    asked.notify_all();
    return std::string("hang");
  });
  start({"--config", native_config(server.url())});
  read();
  ASSERT_TRUE(write_message(link_.get(), lease(5)));
  asked.wait(false);
  const auto before = std::chrono::steady_clock::now();
  link_.reset();
  EXPECT_EQ(wait_for_exit(), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - before, 5s);
}

TEST_F(ForwardProgram, AMessageThatIsNoneEndsIt) {
  start({"--config", file_config()});
  read();
  ASSERT_EQ(::send(link_.get(), "\xff\xff\xff\xff", 4, MSG_NOSIGNAL), 4);
  EXPECT_EQ(wait_for_exit(), 1);
}

TEST_F(ForwardProgram, AnUnknownDestinationIsHeld) {
  start({"--config", file_config()});
  read();
  ASSERT_TRUE(write_message(link_.get(), lease(5, "elsewhere")));
  const v1::FromForwarder reply = read();
  EXPECT_EQ(reply.outcome().verdict(), v1::VERDICT_HOLD);
  EXPECT_NE(reply.outcome().error().find("elsewhere"), std::string::npos);
}

TEST_F(ForwardProgram, ABrokenConfigurationIsShownAndReloadMendsIt) {
  const std::string path = config_file("kind = \"carrier_pigeon\"\n");
  start({"--config", path});
  read();
  ASSERT_TRUE(write_message(link_.get(), lease(5)));
  const v1::FromForwarder held = read();
  EXPECT_EQ(held.outcome().verdict(), v1::VERDICT_HOLD);
  EXPECT_NE(held.outcome().error().find("telemetryd.toml"), std::string::npos);

  file_config();
  v1::ToForwarder reload;
  reload.mutable_reload();
  ASSERT_TRUE(write_message(link_.get(), reload));
  ASSERT_TRUE(write_message(link_.get(), lease(6)));
  EXPECT_EQ(read().outcome().verdict(), v1::VERDICT_DELIVERED);
}

TEST_F(ForwardProgram, AsAServiceItServesADaemonOfItsOwnUser) {
  const std::string path = (dir_ / "service.sock").native();
  start({"--config", file_config(), "--listen", path});
  for (int round = 0; round < 2; ++round) {
    run_until([&] {
      auto connected = loop::connect_unix(path);
      if (connected) link_ = std::move(*connected);
      return connected.has_value();
    });
    const int flags = ::fcntl(link_.get(), F_GETFL);
    ::fcntl(link_.get(), F_SETFL, flags & ~O_NONBLOCK);
    EXPECT_TRUE(read().has_hello());
    ASSERT_TRUE(write_message(link_.get(), lease(5)));
    EXPECT_EQ(read().outcome().verdict(), v1::VERDICT_DELIVERED);
  }
  EXPECT_EQ(lines_written(), 4u);
}

TEST_F(ForwardProgram, AWrongCommandLineIsExplained) {
  start({"--frobnicate"});
  EXPECT_EQ(wait_for_exit(), 2);
}

TEST_F(ForwardProgram, WithoutALinkItSaysSo) {
  start({"--fd", "77"});
  EXPECT_EQ(wait_for_exit(), 1);
}

TEST_F(ForwardProgram, IsStartedAsAChildWhenSomethingIsDueAndDeliversIt) {
  options_.forward_command = {TELEMETRYD_FORWARD, "--config", file_config()};
  start_scheduler();
  append("tool", 3);
  const auto flushed = flush();
  EXPECT_TRUE(flushed) << flushed.error().message();
  EXPECT_EQ(account("tool", store::account::kDelivered), 3);
  EXPECT_EQ(lines_written(), 3u);
}

TEST_F(ForwardProgram, KilledInTheMiddleOfARequestItLeavesTheLeaseQueued) {
  std::atomic<int> asked = 0;
  ScriptedServer server([&](const SeenRequest& request) {
    if (++asked == 1) return std::string("hang");
    return http_success(std::stoi(request.header("X-Batch-Size")));
  });
  const std::string pid_file = (dir_ / "pid").native();
  options_.forward_command = {"/bin/sh",
                              "-c",
                              "echo $$ > " + pid_file + "; exec " TELEMETRYD_FORWARD " --config " +
                                  native_config(server.url())};
  start_scheduler();
  append("tool", 3);
  std::optional<Result<void>> flushed;
  scheduler_->flush([&](Result<void> result) { flushed = std::move(result); }, 20s);
  run_until([&] { return asked == 1; });

  pid_t forwarder = 0;
  std::ifstream(pid_file) >> forwarder;
  ASSERT_GT(forwarder, 1);
  ASSERT_EQ(::kill(forwarder, SIGKILL), 0);
  run_until([&] { return flushed.has_value(); });
  EXPECT_EQ(flushed->error().message(), "main: forwarder ended");
  EXPECT_EQ(account("tool", store::account::kQueued), 3);

  const auto again = flush();
  EXPECT_TRUE(again) << again.error().message();
  EXPECT_EQ(account("tool", store::account::kDelivered), 3);
}

TEST_F(ForwardProgram, StopEndsTheChild) {
  options_.forward_command = {TELEMETRYD_FORWARD, "--config", file_config()};
  start_scheduler();
  append("tool", 3);
  bool stopped = false;
  scheduler_->stop(true, 20s, [&] { stopped = true; });
  run_until([&] { return stopped; });
  EXPECT_EQ(lines_written(), 3u);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
}

}  // namespace
}  // namespace telemetryd::test
