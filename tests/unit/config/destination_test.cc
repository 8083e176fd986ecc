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
            "conf.d/10.toml:1: destination.name: 'one' is the name of the destination at "
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
      "telemetryd.toml:1: destination.url: plain http only goes to this machine; use https://, or "
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
            "telemetryd.toml:1: destination.url: must be an absolute path for kind file, such as "
            "/var/log/telemetry.jsonl\n");
}

TEST(Destination, AKeyThatDoesNothingIsAnError) {
  Files files;
  EXPECT_EQ(files.problems("[[destination]]\nname = \"f\"\nkind = \"file\"\nurl = \"/x\"\n"
                           "token_file = \"/t\"\n"),
            "telemetryd.toml:1: destination.token_file: means nothing for kind file\n");
}

TEST(Destination, UnknownKindsAndBadNamesAreNamed) {
  Files files;
  EXPECT_EQ(files.problems("[[destination]]\nname = \"f\"\nkind = \"ftp\"\n"
                           "[[destination]]\nname = \"Up Stream\"\nkind = \"none\"\n"),
            "telemetryd.toml:3: destination.kind: must be one of file, native, none, not 'ftp'\n"
            "telemetryd.toml:4: destination.name: must be 1 to 64 of a-z 0-9 _ -\n");
}

TEST(Destination, ARouteNamesAnExistingOne) {
  Files files;
  EXPECT_EQ(files.problems("[[destination]]\nname = \"upstream\"\nkind = \"none\"\n"
                           "[[route]]\napp = \"a\"\ndestination = \"upstraem\"\n"
                           "[[route]]\ndestination = \"elsewhere\"\n"),
            "telemetryd.toml:4: route.destination: there is no destination 'upstraem'; did you "
            "mean 'upstream'?\n"
            "telemetryd.toml:7: route.app: missing\n"
            "telemetryd.toml:7: route.destination: there is no destination 'elsewhere'\n");
}

}  // namespace
}  // namespace telemetryd::config
