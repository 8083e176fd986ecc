#include "admin/admin_server.h"

#include <filesystem>
#include <fstream>
#include <future>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

#include "support/accept_count.h"
#include "support/no_more_descriptors.h"
#include "support/temp_dir.h"
#include "support/unix_http.h"

namespace telemetryd::admin {
namespace {

using test::HttpAnswer;
using test::UnixHttp;

constexpr std::uint32_t kNobody = 65534;

// The kernel tells a thread's own user to the peer.
void become(std::uint32_t uid) {
  syscall(SYS_setresuid, -1, uid, -1);
}

class AdminServing : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::permissions(folder_.path(), std::filesystem::perms(0755));
  }

  std::string path() const { return (folder_ / "a.sock").native(); }

  void route(std::string method,
             std::string at,
             std::function<void(const Call&, Reply)> handle,
             Access access = Access::kEverybody) {
    routes_.push_back({std::move(method), std::move(at), access, std::move(handle)});
  }

  // A path that answers {} at once.
  void route_plain(std::string method, std::string at) {
    route(std::move(method), std::move(at), [](const Call&, const Reply& reply) {
      reply.json(200, "{}");
    });
  }

  // Serves while `client` runs on a thread of its own.
  void serve(std::function<void()> client) {
    auto listening = loop::listen_unix(path(), 0666, 64);
    ASSERT_TRUE(listening) << listening.error().message();
    auto server = AdminServer::start(loop_, std::move(*listening), "no-such-group", routes_);
    ASSERT_TRUE(server) << server.error().message();
    std::thread thread([&] {
      client();
      EXPECT_TRUE(loop_.post([&] { server->reset(); }));
      loop_.stop();
    });
    loop_.run();
    thread.join();
  }

  test::TempDir folder_;
  loop::Loop loop_;
  std::vector<Route> routes_;
};

class AdminServingOthers : public AdminServing {
 protected:
  void SetUp() override {
    AdminServing::SetUp();
    if (geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  }
};

// One path, /s, whose stream the test pushes to.
class AdminStreaming : public AdminServing {
 protected:
  AdminStreaming() {
    route("GET", "/s", [this](const Call&, const Reply& reply) {
      reply.begin_stream();
      begun_.set_value(reply);
    });
  }

  // Asks for the stream; once in a test.
  Reply begin(UnixHttp& http) {
    http.send("GET /s HTTP/1.1\r\nHost: l\r\n\r\n");
    return begun_.get_future().get();
  }

 private:
  std::promise<Reply> begun_;
};

TEST_F(AdminServing, AnswersWithWhatTheHandlerSays) {
  route("GET", "/v1/x", [](const Call& call, const Reply& reply) {
    reply.json(200, "{\"q\":\"" + call.query.at("a") + "\"}");
  });
  serve([&] {
    UnixHttp http(path());
    const HttpAnswer answer = http.get("/v1/x?a=b%20c&d=");
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, "{\"q\":\"b c\"}\n");
    EXPECT_EQ(answer.headers.at("content-type"), "application/json");
  });
}

TEST_F(AdminServing, HandsTheBodyOverWhole) {
  route("POST", "/v1/x", [](const Call& call, const Reply& reply) {
    reply.text(200, "text/plain", call.body);
  });
  serve([&] {
    UnixHttp http(path());
    const std::string body(64u << 10, 'b');
    EXPECT_EQ(http.post("/v1/x", body).body, body);
    EXPECT_EQ(http.post("/v1/x", "again").body, "again");
  });
}

TEST_F(AdminServing, WaitsForALateAnswerWithoutHoldingOthersUp) {
  std::promise<Reply> asked;
  route("GET", "/late", [&](const Call&, const Reply& reply) { asked.set_value(reply); });
  route("GET", "/now", [](const Call&, const Reply& reply) { reply.text(200, "text/plain", "n"); });
  serve([&] {
    UnixHttp first(path());
    first.send("GET /late HTTP/1.1\r\nHost: l\r\n\r\n");
    const Reply late = asked.get_future().get();
    UnixHttp second(path());
    EXPECT_EQ(second.get("/now").body, "n");
    // From a thread that is neither the loop nor the library's.
    late.text(200, "text/plain", "l");
    EXPECT_EQ(first.answer().body, "l");
  });
}

TEST_F(AdminServing, AHandlerThatForgetsToAnswerIsAnError) {
  route("GET", "/x", [](const Call&, const Reply&) {});
  serve([&] {
    UnixHttp http(path());
    EXPECT_EQ(http.get("/x").status, 500);
  });
}

TEST_F(AdminServing, ErrorsHaveTheirStatusAndShape) {
  route("GET", "/x", [](const Call&, const Reply& reply) {
    reply.error(Error(ErrorCode::kFailedPrecondition, "say \"no\""));
  });
  serve([&] {
    UnixHttp http(path());
    const HttpAnswer answer = http.get("/x");
    EXPECT_EQ(answer.status, 409);
    EXPECT_EQ(answer.body,
              "{\"error\":{\"code\":\"failed_precondition\",\"message\":\"say \\\"no\\\"\"}}\n");
  });
}

TEST_F(AdminServing, UnknownPathsAndMethodsAreRefused) {
  route_plain("GET", "/x");
  serve([&] {
    EXPECT_EQ(UnixHttp(path()).get("/y").status, 404);
    EXPECT_EQ(UnixHttp(path()).request("DELETE", "/x").status, 405);
  });
}

TEST_F(AdminServing, ABodyThatIsTooLargeIsRefusedBeforeItIsRead) {
  route_plain("POST", "/x");
  serve([&] {
    UnixHttp http(path());
    // Not a byte of the body is sent, and still the answer comes.
    http.send("POST /x HTTP/1.1\r\nHost: l\r\nContent-Length: 65537\r\n\r\n");
    EXPECT_EQ(http.answer().status, 413);
    UnixHttp absurd(path());
    absurd.send("POST /x HTTP/1.1\r\nHost: l\r\nContent-Length: 18446744073709551615\r\n\r\n");
    const int status = absurd.answer().status;
    EXPECT_TRUE(status == 413 || status == 400) << status;
  });
}

TEST_F(AdminServing, AChunkedBodyIsRefused) {
  route_plain("POST", "/x");
  serve([&] {
    UnixHttp http(path());
    http.send("POST /x HTTP/1.1\r\nHost: l\r\nTransfer-Encoding: chunked\r\n\r\n");
    EXPECT_EQ(http.answer().status, 400);
  });
}

TEST_F(AdminServing, HeadersAreBounded) {
  route_plain("GET", "/x");
  serve([&] {
    UnixHttp http(path());
    const HttpAnswer answer =
        http.request("GET", "/x", "", "X-Long: " + std::string(40u << 10, 'h') + "\r\n");
    EXPECT_NE(answer.status, 200);
    EXPECT_EQ(UnixHttp(path()).get("/x").status, 200);
  });
}

TEST_F(AdminServingOthers, TellsTheHandlerWhoAsks) {
  std::vector<Peer> peers;
  route("GET", "/x", [&](const Call& call, const Reply& reply) {
    peers.push_back(call.peer);
    reply.json(200, "{}");
  });
  serve([&] {
    EXPECT_EQ(UnixHttp(path()).get("/x").status, 200);
    become(kNobody);
    EXPECT_EQ(UnixHttp(path()).get("/x").status, 200);
  });
  ASSERT_EQ(peers.size(), 2u);
  EXPECT_EQ(peers[0].uid, 0u);
  EXPECT_TRUE(peers[0].admin);
  EXPECT_EQ(peers[0].pid, getpid());
  EXPECT_EQ(peers[1].uid, kNobody);
  EXPECT_FALSE(peers[1].admin);
}

TEST_F(AdminServingOthers, AdminRoutesAreForAdmins) {
  bool ran = false;
  route(
      "POST",
      "/x",
      [&](const Call&, const Reply& reply) {
        ran = true;
        reply.json(200, "{}");
      },
      Access::kAdmin);
  serve([&] {
    become(kNobody);
    UnixHttp http(path());
    // Refused before the body comes.
    http.send("POST /x HTTP/1.1\r\nHost: l\r\nContent-Length: 10\r\n\r\n");
    EXPECT_EQ(http.answer().status, 403);
  });
  EXPECT_FALSE(ran);
}

TEST_F(AdminServingOthers, OneUserGetsSixteenConnections) {
  route_plain("GET", "/x");
  serve([&] {
    std::vector<std::unique_ptr<UnixHttp>> own;
    for (int i = 0; i < 16; ++i) {
      own.push_back(std::make_unique<UnixHttp>(path()));
      EXPECT_EQ(own.back()->get("/x").status, 200);
    }
    const HttpAnswer refused = UnixHttp(path()).answer();
    EXPECT_EQ(refused.status, 503);
    EXPECT_NE(refused.body.find("too many connections"), std::string::npos);
    std::thread([&] {
      become(kNobody);
      EXPECT_EQ(UnixHttp(path()).get("/x").status, 200);
    }).join();
  });
}

TEST_F(AdminServingOthers, TheLastPlacesAreForAdmins) {
  route_plain("GET", "/x");
  serve([&] {
    std::vector<std::unique_ptr<UnixHttp>> flood;
    for (std::uint32_t uid = kNobody - 3; uid < kNobody; ++uid) {
      std::thread([&] {
        become(uid);
        for (int i = 0; i < 16; ++i) {
          flood.push_back(std::make_unique<UnixHttp>(path()));
          EXPECT_EQ(flood.back()->get("/x").status, 200);
        }
      }).join();
    }
    std::thread([&] {
      become(kNobody);
      EXPECT_EQ(UnixHttp(path()).answer().status, 503) << "the others have all places";
    }).join();
    EXPECT_EQ(UnixHttp(path()).get("/x").status, 200) << "root always has one";
  });
}

TEST_F(AdminStreaming, StreamsLinesAsTheyCome) {
  serve([&] {
    UnixHttp http(path());
    const Reply reply = begin(http);
    EXPECT_EQ(http.head().headers.at("content-type"), "application/x-ndjson");
    EXPECT_TRUE(reply.push("one"));
    EXPECT_EQ(http.stream_line(), "one");
    EXPECT_TRUE(reply.push("two"));
    EXPECT_TRUE(reply.push("three"));
    EXPECT_EQ(http.stream_line(), "two");
    EXPECT_EQ(http.stream_line(), "three");
    reply.end_stream();
    EXPECT_EQ(http.stream_line(), "");
  });
}

TEST_F(AdminStreaming, AStreamArrivesWholeWhateverItsSize) {
  serve([&] {
    UnixHttp http(path());
    const Reply reply = begin(http);
    http.head();
    for (int round = 0; round < 50; ++round) {
      const std::string line(static_cast<std::size_t>(round) * 1999,
                             static_cast<char>('a' + round % 26));
      for (int i = 0; i < 5; ++i) EXPECT_TRUE(reply.push(line + "."));
      for (int i = 0; i < 5; ++i) EXPECT_EQ(http.stream_line(), line + ".");
    }
  });
}

TEST_F(AdminStreaming, ASlowReaderLosesItsStream) {
  serve([&] {
    UnixHttp http(path());
    const Reply reply = begin(http);
    // The reader reads nothing: socket buffer and our 1 MiB fill up.
    const std::string line(64u << 10, 'x');
    int pushed = 0;
    while (pushed < 1000 && reply.push(line)) ++pushed;
    EXPECT_LT(pushed, 100);
    EXPECT_TRUE(reply.gone());
  });
}

TEST_F(AdminStreaming, SeesTheEndOfAQuietStreamsReader) {
  route_plain("GET", "/now");
  serve([&] {
    auto http = std::make_unique<UnixHttp>(path());
    const Reply reply = begin(*http);
    http->head();
    EXPECT_FALSE(reply.gone());
    http.reset();
    // Requests take turns with the loop; nothing is pushed.
    int turns = 0;
    for (UnixHttp other(path()); !reply.gone() && turns < 10000; ++turns) other.get("/now");
    EXPECT_TRUE(reply.gone());
    EXPECT_FALSE(reply.push("late"));
  });
}

TEST_F(AdminServing, StopsWithRequestsAndStreamsOpen) {
  std::vector<Reply> kept;
  std::promise<void> both;
  const auto keep = [&](const Call& call, const Reply& reply) {
    if (call.path == "/s") reply.begin_stream();
    kept.push_back(reply);
    if (kept.size() == 2) both.set_value();
  };
  route("GET", "/s", keep);
  route("GET", "/late", keep);
  std::unique_ptr<UnixHttp> stream;
  std::unique_ptr<UnixHttp> late;
  serve([&] {
    stream = std::make_unique<UnixHttp>(path());
    stream->send("GET /s HTTP/1.1\r\nHost: l\r\n\r\n");
    late = std::make_unique<UnixHttp>(path());
    late->send("GET /late HTTP/1.1\r\nHost: l\r\n\r\n");
    both.get_future().wait();
  });
  EXPECT_FALSE(kept.at(0).push("nobody reads"));
  kept.at(1).json(200, "{}");
  // Both connections end, with whatever was on its way.
  EXPECT_EQ(stream->rest().find("nobody reads"), std::string::npos);
  late->rest();
}

// Long enough for a hundred thousand attempts of one who does not rest.
constexpr useconds_t kWhileOthersHaveAllUs = 300'000;
constexpr unsigned kAttemptsOfOneWhoRestsMax = 20;

TEST_F(AdminServing, OutOfDescriptorsAcceptingRestsAndThenGoesOn) {
  route_plain("GET", "/x");
  serve([&] {
    test::accepts_without_descriptor = 0;
    std::unique_ptr<UnixHttp> waiting;
    {
      const test::NoMoreDescriptors none(1);
      waiting = std::make_unique<UnixHttp>(path());
      ASSERT_TRUE(test::wait_for_failed_accepts(1));
      usleep(kWhileOthersHaveAllUs);
    }
    EXPECT_LE(test::accepts_without_descriptor, kAttemptsOfOneWhoRestsMax);
    EXPECT_EQ(waiting->get("/x").status, 200);
  });
}

TEST_F(AdminStreaming, AnOpenStreamKeepsNobodyOutOnceThereAreDescriptorsAgain) {
  route_plain("GET", "/x");
  serve([&] {
    UnixHttp stream(path());
    const Reply reply = begin(stream);
    stream.head();
    test::accepts_without_descriptor = 0;
    std::unique_ptr<UnixHttp> waiting;
    {
      const test::NoMoreDescriptors none(1);
      waiting = std::make_unique<UnixHttp>(path());
      ASSERT_TRUE(test::wait_for_failed_accepts(1));
    }
    EXPECT_EQ(waiting->get("/x").status, 200);
    EXPECT_TRUE(reply.push("still here"));
    EXPECT_EQ(stream.stream_line(), "still here");
  });
}

// Context switches and system calls of the library's thread, from /proc.
std::uint64_t switches_of_other_threads() {
  std::uint64_t sum = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    if (task.path().filename() == std::to_string(gettid())) continue;
    std::ifstream status(task.path() / "status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("voluntary_ctxt_switches:")) sum += std::stoull(line.substr(24));
    }
  }
  return sum;
}

TEST_F(AdminStreaming, IsIdleWithAnOpenStream) {
  serve([&] {
    UnixHttp http(path());
    const Reply reply = begin(http);
    http.head();
    EXPECT_TRUE(reply.push("settle"));
    EXPECT_EQ(http.stream_line(), "settle");
    // Idle is the absence of something, which takes time to see.
    std::uint64_t before = switches_of_other_threads();
    for (int tries = 0; tries < 20; ++tries) {
      usleep(200'000);
      const std::uint64_t after = switches_of_other_threads();
      if (after == before) return;
      before = after;
    }
    FAIL() << "the server's threads keep waking";
  });
}

}  // namespace
}  // namespace telemetryd::admin
