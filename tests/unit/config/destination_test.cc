#include <gtest/gtest.h>

#include "config/config.h"
#include "files.h"

namespace telemetryd::config {
namespace {

std::string native(std::string_view url, std::string_view more = "") {
  return "[[destination]]\nname = \"up\"\nkind = \"native\"\norg = \"o\"\napp = \"a\"\n"
         "token_file = \"/t\"\nsecret_file = \"/s\"\nurl = \"" +
         std::string(url) + "\"\n" + std::string(more);
}

TEST(Destination, AccumulateOverFilesInOrder) {
  Files files;
  files.write("conf.d/10.toml",
              "[[destination]]\nname = \"two\"\nkind = \"none\"\n"
              "[[route]]\napp = \"*\"\ndestination = \"one\"\n");
  const Loaded loaded = files.load(
      "[[destination]]\nname = \"one\"\nkind = \"file\"\nurl = \"/x.jsonl\"\n"
      "[[route]]\napp = \"mytool\"\ndestination = \"two\"\n");
  ASSERT_TRUE(loaded.config) << files.problems_of(loaded);
  ASSERT_EQ(loaded.config->destinations.size(), 2u);
  EXPECT_EQ(loaded.config->destinations[0].name, "one");
  EXPECT_EQ(loaded.config->destinations[1].name, "two");
  ASSERT_EQ(loaded.config->routes.size(), 2u);
  EXPECT_EQ(loaded.config->routes[0].app, "mytool");
}

TEST(Destination, ANameIsTakenOnce) {
  Files files;
  files.write("conf.d/10.toml", "[[destination]]\nname = \"one\"\nkind = \"none\"\n");
  EXPECT_EQ(files.problems("[[destination]]\nname = \"one\"\nkind = \"none\"\n"),
            "conf.d/10.toml:2: destination.name: 'one' is the name of the destination at "
            "telemetryd.toml:1 already\n");
}

TEST(Destination, NativeNeedsAddressAccountAndSecrets) {
  Files files;
  EXPECT_EQ(files.problems("[[destination]]\nname = \"up\"\nkind = \"native\"\n"),
            "telemetryd.toml:1: destination.url: missing; kind native needs https://HOST\n"
            "telemetryd.toml:1: destination.org: missing; kind native needs it\n"
            "telemetryd.toml:1: destination.app: missing; kind native needs it\n"
            "telemetryd.toml:1: destination.token_file: missing; kind native needs it\n"
            "telemetryd.toml:1: destination.secret_file: missing; kind native needs it\n");
}

TEST(Destination, PlainHttpGoesToLoopbackOnly) {
  Files files;
  EXPECT_EQ(files.problems(native("https://t.example.org")), "");
  EXPECT_EQ(files.problems(native("http://localhost:8080/x")), "");
  EXPECT_EQ(files.problems(native("http://127.0.0.2:8080")), "");
  EXPECT_EQ(files.problems(native("http://[::1]:8080")), "");
  EXPECT_EQ(files.problems(native("http://t.example.org", "allow_plain_http = true\n")), "");
  const std::string refusal =
      "telemetryd.toml:8: destination.url: plain http only goes to this machine; use https://, or "
      "set allow_plain_http = true\n";
  EXPECT_EQ(files.problems(native("http://t.example.org")), refusal);
  EXPECT_EQ(files.problems(native("http://localhost.example.org")), refusal);
  EXPECT_EQ(files.problems(native("http://127.0.0.1.example.org")), refusal);
  EXPECT_EQ(files.problems(native("http://127.evil")), refusal);
}

TEST(Destination, AUrlHoldsNoPasswordQueryOrSpace) {
  Files files;
  EXPECT_NE(files.problems(native("https://u:p@t.example.org")).find("no user or password"),
            std::string::npos);
  EXPECT_NE(files.problems(native("http://localhost@t.example.org")).find("no user or password"),
            std::string::npos);
  EXPECT_NE(files.problems(native("https://t.example.org/?a=b")).find("no query"),
            std::string::npos);
  EXPECT_NE(files.problems(native("https:///x")).find("no host"), std::string::npos);
  EXPECT_NE(files.problems(native("ftp://t.example.org")).find("must begin with"),
            std::string::npos);
}

TEST(Destination, FileNeedsAnAbsolutePath) {
  Files files;
  EXPECT_EQ(files.problems("[[destination]]\nname = \"f\"\nkind = \"file\"\nurl = \"x.jsonl\"\n"),
            "telemetryd.toml:4: destination.url: must be an absolute path for kind file, such as "
            "/var/log/telemetry.jsonl\n");
}

TEST(Destination, AKeyThatDoesNothingIsAnError) {
  Files files;
  EXPECT_EQ(files.problems("[[destination]]\nname = \"f\"\nkind = \"file\"\nurl = \"/x\"\n"
                           "token_file = \"/t\"\n"),
            "telemetryd.toml:5: destination.token_file: means nothing for kind file\n");
}

TEST(Destination, AProblemStandsAtTheLineOfItsKey) {
  Files files;
  EXPECT_EQ(files.problems("[[destination]]\nname = \"Up\"\nkind = \"file\"\n\nurl = \"x\"\n"
                           "org = \"o\"\n"),
            "telemetryd.toml:2: destination.name: must be 1 to 64 of a-z 0-9 _ -\n"
            "telemetryd.toml:5: destination.url: must be an absolute path for kind file, such as "
            "/var/log/telemetry.jsonl\n"
            "telemetryd.toml:6: destination.org: means nothing for kind file\n");
}

TEST(Destination, IngestNeedsAddressAccountAndSecret) {
  Files files;
  EXPECT_EQ(files.problems("[[destination]]\nname = \"up\"\nkind = \"ingest\"\n"),
            "telemetryd.toml:1: destination.url: missing; kind ingest needs https://HOST\n"
            "telemetryd.toml:1: destination.org: missing; kind ingest needs it\n"
            "telemetryd.toml:1: destination.app: missing; kind ingest needs it\n"
            "telemetryd.toml:1: destination.secret_file: missing; kind ingest needs it\n");
}

TEST(Destination, IngestTakesItsOwnKeysAndNoOtherKindDoes) {
  Files files;
  const std::string own =
      "signature = \"plain\"\nstaging_url = \"https://s.example.org\"\nstaging = true\n";
  const Loaded loaded = files.load(
      "[[destination]]\nname = \"up\"\nkind = \"ingest\"\norg = \"o\"\napp = \"a\"\n"
      "secret_file = \"/s\"\nurl = \"https://t.example.org\"\n"
      "machine_id_scheme = \"telemetry-kit\"\n" +
      own);
  ASSERT_TRUE(loaded.config) << files.problems_of(loaded);
  const config::Destination& destination = loaded.config->destinations.at(0);
  EXPECT_TRUE(destination.plain_signature);
  EXPECT_TRUE(destination.staging);
  EXPECT_EQ(destination.staging_url, "https://s.example.org");
  EXPECT_TRUE(destination.telemetry_kit_machine_id);

  EXPECT_EQ(files.problems(native("https://t.example.org", own)),
            "telemetryd.toml:9: destination.signature: means nothing for kind native\n"
            "telemetryd.toml:10: destination.staging_url: means nothing for kind native\n"
            "telemetryd.toml:11: destination.staging: means nothing for kind native\n");
}

TEST(Destination, StagingNeedsAnAddressAsGoodAsTheOther) {
  Files files;
  const std::string ingest =
      "[[destination]]\nname = \"up\"\nkind = \"ingest\"\norg = \"o\"\napp = \"a\"\n"
      "secret_file = \"/s\"\nurl = \"https://t.example.org\"\n";
  EXPECT_EQ(files.problems(ingest + "staging = true\n"),
            "telemetryd.toml:1: destination.staging_url: missing; staging = true sends there "
            "instead of to url\n");
  EXPECT_EQ(files.problems(ingest + "staging_url = \"http://s.example.org\"\n"),
            "telemetryd.toml:8: destination.staging_url: plain http only goes to this machine; "
            "use https://, or set allow_plain_http = true\n");
  EXPECT_EQ(files.problems(ingest + "staging = false\n"), "");
}

std::string relay(std::string_view url, std::string_view more = "") {
  return "[[destination]]\nname = \"up\"\nkind = \"grpc\"\nurl = \"" + std::string(url) + "\"\n" +
         std::string(more);
}

TEST(Destination, GrpcNeedsHostAndPortAndTlsBeyondLoopback) {
  Files files;
  EXPECT_EQ(files.problems(relay("https://relay.example.org:4317",
                                 "token_file = \"/t\"\nca_file = \"/c\"\nclient_cert_file = "
                                 "\"/p\"\nclient_key_file = \"/k\"\n")),
            "");
  EXPECT_EQ(files.problems(relay("https://[2001:db8::1]:4317")), "");
  EXPECT_EQ(files.problems(relay("http://127.0.0.1:4317", "token_file = \"/t\"\n")), "");
  EXPECT_EQ(files.problems(relay("http://[::1]:4317")), "");
  EXPECT_EQ(files.problems(relay("http://relay.example.org:4317")),
            "telemetryd.toml:4: destination.url: plain http only goes to this machine; use "
            "https://\n");
  EXPECT_EQ(files.problems("[[destination]]\nname = \"up\"\nkind = \"grpc\"\n"),
            "telemetryd.toml:1: destination.url: missing; kind grpc needs https://HOST:PORT\n");
  const std::string shape =
      "telemetryd.toml:4: destination.url: must be https://HOST:PORT for kind grpc, with nothing "
      "after the port\n";
  for (const char* url : {"https://relay.example.org",
                          "https://relay.example.org:4317/",
                          "https://u:p@relay.example.org:4317",
                          "https://relay.example.org:0",
                          "https://relay.example.org:65536",
                          "https://:4317",
                          "https://[::1:4317",
                          "https://::1:4317",
                          "https://a b:1"}) {
    EXPECT_EQ(files.problems(relay(url)), shape) << url;
  }
}

TEST(Destination, GrpcRefusesWhatItDoesNotUse) {
  Files files;
  EXPECT_EQ(files.problems(relay("https://r.example.org:4317",
                                 "org = \"o\"\nallow_plain_http = true\nclient_key_file = "
                                 "\"/k\"\n")),
            "telemetryd.toml:1: destination.client_cert_file: missing; client_cert_file and "
            "client_key_file go together\n"
            "telemetryd.toml:5: destination.org: means nothing for kind grpc\n"
            "telemetryd.toml:6: destination.allow_plain_http: means nothing for kind grpc\n");
  EXPECT_EQ(files.problems(relay("http://localhost:4317", "ca_file = \"/c\"\n")),
            "telemetryd.toml:5: destination.ca_file: means nothing with http://; use https://, or "
            "leave it out\n");
}

TEST(Destination, UnknownKindsAndBadNamesAreNamed) {
  Files files;
  EXPECT_EQ(files.problems("[[destination]]\nname = \"f\"\nkind = \"ftp\"\n"
                           "[[destination]]\nname = \"Up Stream\"\nkind = \"none\"\n"),
            "telemetryd.toml:3: destination.kind: must be one of file, grpc, ingest, native, none, "
            "not 'ftp'\n"
            "telemetryd.toml:5: destination.name: must be 1 to 64 of a-z 0-9 _ -\n");
}

TEST(Destination, ARouteNamesAnExistingOne) {
  Files files;
  EXPECT_EQ(files.problems("[[destination]]\nname = \"upstream\"\nkind = \"none\"\n"
                           "[[route]]\napp = \"a\"\ndestination = \"upstraem\"\n"
                           "[[route]]\ndestination = \"elsewhere\"\n"),
            "telemetryd.toml:6: route.destination: there is no destination 'upstraem'; did you "
            "mean 'upstream'?\n"
            "telemetryd.toml:7: route.app: missing\n"
            "telemetryd.toml:8: route.destination: there is no destination 'elsewhere'\n");
}

TEST(Destination, AProxyIsAnAddressAndItsCredentialsAreAFile) {
  Files files;
  for (const char* proxy :
       {"http://proxy.example:3128", "https://proxy.example:443", "socks5h://[::1]:1080"}) {
    const std::string more = "proxy = \"" + std::string(proxy) + "\"\n";
    const Loaded loaded =
        files.load(native("https://x", more + "proxy_credentials_file = \"/p\"\n"));
    ASSERT_TRUE(loaded.config) << files.problems_of(loaded);
    EXPECT_EQ(loaded.config->destinations[0].proxy, proxy);
    EXPECT_EQ(loaded.config->destinations[0].proxy_credentials_file, "/p");
  }
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"proxy.example:3128", "must begin with http://, https:// or socks5h://"},
      {"socks4://proxy.example:1", "must begin with http://, https:// or socks5h://"},
      {"http://a:b@proxy.example:1", "must hold no user or password; use proxy_credentials_file"},
      {"http://proxy.example", "must be SCHEME://HOST:PORT, with nothing after the port"},
      {"http://proxy.example:1/x", "must be SCHEME://HOST:PORT, with nothing after the port"}};
  for (const auto& [proxy, problem] : cases) {
    EXPECT_EQ(files.problems(native("https://x", "proxy = \"" + proxy + "\"\n")),
              "telemetryd.toml:9: destination.proxy: " + problem + "\n");
  }
  EXPECT_EQ(files.problems(native("https://x", "proxy_credentials_file = \"/p\"\n")),
            "telemetryd.toml:9: destination.proxy_credentials_file: means nothing without proxy\n");
  EXPECT_EQ(files.problems("[[destination]]\nname = \"g\"\nkind = \"grpc\"\n"
                           "url = \"https://relay:4317\"\nproxy = \"https://p:1\"\n"),
            "telemetryd.toml:5: destination.proxy: must be http://HOST:PORT for kind grpc\n");
  EXPECT_EQ(files.problems("[[destination]]\nname = \"f\"\nkind = \"file\"\n"
                           "url = \"/x\"\nproxy = \"http://p:1\"\n"),
            "telemetryd.toml:5: destination.proxy: means nothing for kind file\n");
}

}  // namespace
}  // namespace telemetryd::config
