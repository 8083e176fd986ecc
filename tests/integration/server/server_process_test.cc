// telemetry-server as its operator meets it: the real program, its command line, kill -9, TLS.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/stat.h>

#include <gtest/gtest.h>

#include "base/io.h"
#include "integration/server/process.h"
#include "support/temp_dir.h"
#include "unit/server/support.h"

namespace telemetryd {
namespace {

using test::Connection;
using test::make_batch;
using test::Process;
using test::Ran;
using test::request_text;
using test::run;
using test::Upload;

constexpr const char* kProgram = TELEMETRY_SERVER_PROGRAM;

std::string trimmed(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

class ServerProcess : public testing::Test {
 protected:
  ServerProcess() {
    EXPECT_EQ(cli({"org", "create", "acme"}).status, 0);
    const Ran created = cli({"app",
                             "create",
                             "--org",
                             "acme",
                             "--app",
                             "tools",
                             "--out-dir",
                             (dir_ / "credentials").native()});
    EXPECT_EQ(created.status, 0) << created.out;
    token_ = trimmed(read_file(dir_ / "credentials/acme-tools.token", 1000).value());
    secret_ = trimmed(read_file(dir_ / "credentials/acme-tools.secret", 1000).value());
  }

  std::string database() const { return "sqlite:" + (dir_ / "server.db").native(); }

  Ran cli(std::vector<std::string> words) const {
    words.insert(words.begin(), kProgram);
    words.insert(words.end(), {"--database", database()});
    return run(words);
  }

  std::uint16_t serve(std::vector<std::string> more = {}) {
    std::vector<std::string> words = {kProgram,
                                      "serve",
                                      "--database",
                                      database(),
                                      "--listen",
                                      "127.0.0.1:0",
                                      "--log-level",
                                      "warn"};
    words.insert(words.end(), more.begin(), more.end());
    server_ = std::make_unique<Process>(words);
    const std::string line = server_->read_line();
    EXPECT_TRUE(line.starts_with("listening on http")) << line;
    return static_cast<std::uint16_t>(std::stoul(line.substr(line.rfind(':') + 1)));
  }

  Upload upload(std::uint32_t first, std::uint32_t count) const {
    Upload made;
    made.token = token_;
    made.secret = secret_;
    made.timestamp_s = SystemClock().unix_ms() / 1000;
    made.body = make_batch(first, count).SerializeAsString();
    made.batch_size = count;
    return made;
  }

  std::int64_t stored() const {
    const Ran counted = cli({"event", "count", "--json", "--check"});
    EXPECT_EQ(counted.status, 0) << counted.out;
    return nlohmann::json::parse(counted.out).at("events");
  }

  const test::TempDir dir_;
  std::string token_;
  std::string secret_;
  std::unique_ptr<Process> server_;
};

TEST_F(ServerProcess, ARestartKeepsWhatWasAcknowledged) {
  EXPECT_EQ(Connection(serve()).exchange(request_text(upload(1, 50))).status, 200);
  server_->signal(SIGTERM);
  EXPECT_EQ(server_->wait(), 0);
  EXPECT_EQ(stored(), 50);
  const auto json = Connection(serve()).exchange(request_text(upload(26, 50))).json();
  EXPECT_EQ(json.at("accepted"), 25);
  EXPECT_EQ(json.at("duplicates"), 25);
  EXPECT_EQ(stored(), 75);
}

TEST_F(ServerProcess, KilledBetweenCommitAndAnswerTheResendIsDuplicates) {
  auto connection = std::make_unique<Connection>(serve());
  connection->write(request_text(upload(1, 100)));
  // The answer is not read: for the sender it never came. The rows show when the commit is over.
  while (stored() == 0) {
  }
  server_->signal(SIGKILL);
  EXPECT_EQ(server_->wait(), 128 + SIGKILL);
  connection.reset();
  const auto json = Connection(serve()).exchange(request_text(upload(1, 100))).json();
  EXPECT_EQ(json.at("accepted"), 0);
  EXPECT_EQ(json.at("duplicates"), 100);
  EXPECT_EQ(stored(), 100);
}

TEST_F(ServerProcess, KilledAtAnyMomentLosesNothingAcknowledged) {
  std::uint32_t acknowledged = 0;
  for (int round = 0; round < 5; ++round) {
    Connection connection(serve());
    for (int i = 0; i <= round; ++i) {
      const auto reply = connection.exchange(request_text(upload(acknowledged + 1, 40)));
      ASSERT_EQ(reply.status, 200);
      acknowledged += 40;
    }
    connection.write(request_text(upload(1'000'000 + static_cast<std::uint32_t>(round), 1)));
    server_->signal(SIGKILL);
    server_->wait();
    const std::int64_t rows = stored();
    EXPECT_GE(rows, acknowledged);
    EXPECT_LE(rows, acknowledged + static_cast<std::uint32_t>(round) + 1);
  }
}

TEST_F(ServerProcess, TokensChangeUnderARunningServerAtOnce) {
  const std::uint16_t port = serve();
  EXPECT_EQ(Connection(port).exchange(request_text(upload(1, 1))).status, 200);

  const Ran rotated = cli({"token", "rotate", "1", "--overlap-hours", "1"});
  ASSERT_EQ(rotated.status, 0) << rotated.out;
  const auto field = [&](const std::string& name) {
    const std::size_t at = rotated.out.find("\n" + name + ": ");
    const std::size_t start = at + name.size() + 3;
    return rotated.out.substr(start, rotated.out.find('\n', start) - start);
  };
  Upload fresh = upload(2, 1);
  fresh.token = field("token");
  fresh.secret = field("secret");
  EXPECT_EQ(Connection(port).exchange(request_text(fresh)).status, 200) << rotated.out;
  EXPECT_EQ(Connection(port).exchange(request_text(upload(3, 1))).status, 200);

  EXPECT_EQ(cli({"token", "revoke", "1"}).status, 0);
  EXPECT_EQ(Connection(port).exchange(request_text(upload(4, 1))).status, 401);
  EXPECT_EQ(cli({"token", "revoke", "99"}).status, 1);
  EXPECT_EQ(stored(), 3);
}

TEST_F(ServerProcess, NeitherTokenNorSecretIsInTheDatabaseFiles) {
  const std::uint16_t port = serve();
  EXPECT_EQ(Connection(port).exchange(request_text(upload(1, 10))).status, 200);
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
    if (!entry.is_regular_file()) continue;
    ++files;
    std::ifstream stream(entry.path(), std::ios::binary);
    std::stringstream content;
    content << stream.rdbuf();
    EXPECT_EQ(content.str().find(token_.substr(3)), std::string::npos) << entry.path();
    EXPECT_EQ(content.str().find(secret_), std::string::npos) << entry.path();
    struct stat status{};
    ASSERT_EQ(::stat(entry.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 077, 0u) << entry.path();
  }
  EXPECT_GE(files, 4u);  // database, log, its index, key
}

TEST_F(ServerProcess, PrintConfigIsReadyToUse) {
  const std::string folder = (dir_ / "more").native();
  Process process({kProgram,
                   "app",
                   "create",
                   "--org",
                   "acme",
                   "--app",
                   "web",
                   "--url",
                   "https://t.example.org",
                   "--print-config",
                   "--out-dir",
                   folder,
                   "--database",
                   database()});
  const std::string out = process.read_all();
  EXPECT_EQ(process.wait(), 0);
  EXPECT_EQ(out,
            "[[destination]]\nname = \"acme-web\"\nkind = \"native\"\n"
            "url = \"https://t.example.org\"\norg = \"acme\"\napp = \"web\"\ntoken_file = \"" +
                folder + "/acme-web.token\"\nsecret_file = \"" + folder +
                "/acme-web.secret\"\n\n[[route]]\napp = \"*\"\ndestination = \"acme-web\"\n");
  struct stat status{};
  ASSERT_EQ(::stat((folder + "/acme-web.secret").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(ServerProcess, PrintConfigAllowsPlainHttpOnlyWhereTheDaemonAsksForIt) {
  const auto printed = [this](const std::string& app, const std::string& url) {
    return cli({"app", "create", "--org", "acme", "--app", app, "--url", url, "--print-config"})
               .out.find("\nallow_plain_http = true\n\n[[route]]") != std::string::npos;
  };
  EXPECT_TRUE(printed("a", "http://10.0.0.1:8080"));
  EXPECT_TRUE(printed("b", "http://127.example.org"));
  EXPECT_FALSE(printed("c", "http://127.0.0.1:8080"));
  EXPECT_FALSE(printed("d", "http://localhost"));
  EXPECT_FALSE(printed("e", "http://[::1]:8080"));
  EXPECT_FALSE(printed("f", "https://t.example.org"));
}

TEST_F(ServerProcess, AFailedCreateLeavesNothingBehind) {
  const std::string folder = (dir_ / "more").native();
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/acme-web.secret") << "somebody's";
  EXPECT_EQ(cli({"app", "create", "--org", "acme", "--app", "web", "--out-dir", folder}).status, 1);
  EXPECT_FALSE(std::filesystem::exists(folder + "/acme-web.token"));
  EXPECT_EQ(read_file(folder + "/acme-web.secret", 100), "somebody's");
  EXPECT_EQ(cli({"app", "list", "--json"}).out.find("web"), std::string::npos);
}

TEST_F(ServerProcess, TheDatabaseOptionStandsAboveTheVariable) {
  ::setenv("TELEMETRY_SERVER_DATABASE", database().c_str(), 1);
  EXPECT_EQ(run({kProgram, "org", "list"}).status, 0);
  EXPECT_EQ(run({kProgram, "org", "list", "--database", "sqlite:/nonexistent/db"}).status, 1);
  ::unsetenv("TELEMETRY_SERVER_DATABASE");
  EXPECT_EQ(run({kProgram, "org", "list"}).status, 2);
}

TEST_F(ServerProcess, ExitCodesSayWhoseFaultItIs) {
  EXPECT_EQ(run({kProgram}).status, 2);
  EXPECT_EQ(run({kProgram, "--version"}).status, 0);
  EXPECT_EQ(run({kProgram, "org", "list", "--database", "postgresql://x"}).status, 2);
  EXPECT_EQ(run({kProgram, "org", "list", "--database", "sqlite:/nonexistent/db"}).status, 1);
  EXPECT_EQ(cli({"org", "create", "Not A Name"}).status, 2);
  EXPECT_EQ(cli({"org", "create", "acme"}).status, 1);
  EXPECT_EQ(cli({"serve", "--listen", "0.0.0.0:0"}).status, 2);
  const Ran missing = cli({"app", "create", "--org", "nobody", "--app", "x"});
  EXPECT_EQ(missing.status, 1);
  EXPECT_NE(missing.out.find("telemetry-server org create nobody"), std::string::npos);
}

TEST_F(ServerProcess, OneServerPerDatabase) {
  serve();
  const Ran second = cli({"serve", "--listen", "127.0.0.1:0"});
  EXPECT_EQ(second.status, 1);
  EXPECT_NE(second.out.find("already serves"), std::string::npos);
}

TEST_F(ServerProcess, EventListShowsTheEventAsJson) {
  EXPECT_EQ(Connection(serve()).exchange(request_text(upload(1, 3))).status, 200);
  const Ran listed = cli({"event", "list", "--limit", "1", "--json"});
  ASSERT_EQ(listed.status, 0) << listed.out;
  const auto json = nlohmann::json::parse(listed.out);
  EXPECT_EQ(json.at("name"), "build.finished");
  EXPECT_EQ(json.at("app"), "mytool");
  EXPECT_EQ(json.at("machine_id"), std::string(64, 'a'));
  EXPECT_EQ(json.at("destination"), "acme/tools");
  EXPECT_TRUE(json.contains("received"));
}

TEST_F(ServerProcess, ThePortFileHoldsTheBoundPort) {
  const std::string file = (dir_ / "port").native();
  const std::uint16_t port = serve({"--port-file", file});
  EXPECT_EQ(trimmed(read_file(file, 100).value()), std::to_string(port));
}

class TlsServerProcess : public ServerProcess {
 protected:
  TlsServerProcess() {
    make_ca("ca");
    make_ca("strangers");
    make_certificate("server", "ca", "subjectAltName=IP:127.0.0.1");
    make_certificate("client", "ca", "extendedKeyUsage=clientAuth");
    make_certificate("stranger", "strangers", "extendedKeyUsage=clientAuth");
  }

  std::string file(const std::string& name) const { return (dir_ / name).native(); }

  void openssl(std::vector<std::string> words) const {
    words.insert(words.begin(), "openssl");
    const Ran ran = run(words);
    ASSERT_EQ(ran.status, 0) << ran.out;
  }

  void make_ca(const std::string& name) const {
    openssl({"req",
             "-x509",
             "-newkey",
             "ec",
             "-pkeyopt",
             "ec_paramgen_curve:P-256",
             "-nodes",
             "-keyout",
             file(name + ".key"),
             "-out",
             file(name + ".pem"),
             "-days",
             "2",
             "-subj",
             "/CN=" + name});
  }

  void make_certificate(const std::string& name,
                        const std::string& issuer,
                        const std::string& extension) const {
    openssl({"req",
             "-newkey",
             "ec",
             "-pkeyopt",
             "ec_paramgen_curve:P-256",
             "-nodes",
             "-keyout",
             file(name + ".key"),
             "-out",
             file(name + ".csr"),
             "-subj",
             "/CN=" + name});
    std::ofstream(file(name + ".ext")) << extension << "\n";
    openssl({"x509",
             "-req",
             "-in",
             file(name + ".csr"),
             "-CA",
             file(issuer + ".pem"),
             "-CAkey",
             file(issuer + ".key"),
             "-CAcreateserial",
             "-days",
             "2",
             "-extfile",
             file(name + ".ext"),
             "-out",
             file(name + ".pem")});
  }

  Ran curl(std::uint16_t port, const std::string& path, std::vector<std::string> more) const {
    std::vector<std::string> words = {"curl", "-sS", "--max-time", "20", "-w", "%{http_code}"};
    words.insert(words.end(), more.begin(), more.end());
    words.push_back("https://127.0.0.1:" + std::to_string(port) + path);
    return run(words);
  }

  std::vector<std::string> with_ca() const { return {"--cacert", file("ca.pem")}; }

  std::vector<std::string> with_certificate(const std::string& name) const {
    return {
        "--cacert", file("ca.pem"), "--cert", file(name + ".pem"), "--key", file(name + ".key")};
  }
};

TEST_F(TlsServerProcess, AnUploadOverTlsIsStored) {
  const std::uint16_t port =
      serve({"--tls-cert", file("server.pem"), "--tls-key", file("server.key")});
  const Upload made = upload(1, 5000);
  std::ofstream(file("body"), std::ios::binary) << made.body;
  std::vector<std::string> more = with_ca();
  for (const auto& [name, value] : made.headers()) {
    if (name == "Host" || name == "Content-Length") continue;
    more.insert(more.end(), {"-H", name + ": " + value});
  }
  more.insert(more.end(), {"--data-binary", "@" + file("body")});
  const Ran ran = curl(port, made.path, more);
  EXPECT_EQ(ran.out,
            R"({"status":"success","accepted":5000,"duplicates":0,"rejected":0,"errors":[]}200)");
  EXPECT_EQ(stored(), 5000);
  EXPECT_NE(curl(port, "/health", {"--cacert", file("strangers.pem")}).status, 0);
  EXPECT_NE(curl(port, "/health", {"--cacert", file("ca.pem"), "--tls-max", "1.1"}).status, 0);
}

TEST_F(TlsServerProcess, WithAClientCaOnlyItsCertificatesGetIn) {
  const std::uint16_t port = serve({"--tls-cert",
                                    file("server.pem"),
                                    "--tls-key",
                                    file("server.key"),
                                    "--tls-client-ca",
                                    file("ca.pem")});
  EXPECT_TRUE(curl(port, "/health", with_certificate("client")).out.ends_with("200"));
  EXPECT_NE(curl(port, "/health", with_ca()).status, 0);
  EXPECT_NE(curl(port, "/health", with_certificate("stranger")).status, 0);
}

TEST_F(TlsServerProcess, ACertificateThatDoesNotFitItsKeyStopsTheStart) {
  const Ran ran = cli({"serve",
                       "--listen",
                       "127.0.0.1:0",
                       "--tls-cert",
                       file("server.pem"),
                       "--tls-key",
                       file("client.key")});
  EXPECT_EQ(ran.status, 2);
  EXPECT_NE(ran.out.find("belong together"), std::string::npos) << ran.out;
}

}  // namespace
}  // namespace telemetryd
