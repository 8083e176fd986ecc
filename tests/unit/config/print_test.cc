#include <cstdlib>

#include <gtest/gtest.h>

#include "base/io.h"
#include "config/config.h"
#include "files.h"

namespace telemetryd::config {
namespace {

// The file as committed. After a change of the table, TELEMETRYD_WRITE_DOCS=1 writes it instead.
std::string committed(const std::string& name, const std::string& fresh) {
  const auto path = std::filesystem::path(TELEMETRYD_SOURCE_DIR) / name;
  if (std::getenv("TELEMETRYD_WRITE_DOCS") != nullptr) {
    EXPECT_TRUE(replace_file(path, fresh, 0644));
  }
  return read_file(path, 1u << 20).value_or("");
}

TEST(Print, TheShippedFileIsFresh) {
  EXPECT_EQ(committed("packaging/config/telemetryd.toml", default_toml()), default_toml());
}

TEST(Print, TheReferencePageIsFresh) {
  EXPECT_EQ(committed("docs/config.md", reference_markdown()), reference_markdown());
}

TEST(Print, TheManualPageIsFresh) {
  EXPECT_EQ(committed("docs/man/telemetryd.toml.5.scd", reference_man()), reference_man());
}

TEST(Print, TheShippedFileIsValidAsItIsAndChangesNothing) {
  Files files;
  const Loaded shipped = files.load(default_toml());
  ASSERT_TRUE(shipped.config) << files.problems_of(shipped);
  EXPECT_EQ(print(*shipped.config), print(*files.load("").config));
}

// Removes the # before every key that has a default.
TEST(Print, TheShippedFileWithItsKeysTurnedOnGivesTheDefaults) {
  std::string uncommented;
  std::string rest = default_toml();
  rest.resize(rest.find("#[[destination]]"));
  for (std::size_t end = 0; (end = rest.find('\n')) != std::string::npos; rest.erase(0, end + 1)) {
    std::string line = rest.substr(0, end);
    const bool key = line.size() > 1 && line[0] == '#' && line[1] != ' ';
    if (key && line.find("\"…\"") == std::string::npos) line.erase(0, 1);
    uncommented += line + "\n";
  }
  Files files;
  const Loaded loaded = files.load(uncommented);
  ASSERT_TRUE(loaded.config) << files.problems_of(loaded);
  EXPECT_GT(loaded.config->origins.size(), 15u);
  EXPECT_EQ(restart_needed(*files.load("").config, *loaded.config), std::vector<std::string>{});
}

TEST(Print, KeepsAGroupThatIsEmptyBySomebodysChoice) {
  Files files;
  const Loaded nobody = files.load("[admin]\ngroup = \"\"\n");
  ASSERT_TRUE(nobody.config) << files.problems_of(nobody);
  const Loaded again = files.load(print(*nobody.config));
  ASSERT_TRUE(again.config) << files.problems_of(again);
  EXPECT_EQ(again.config->admin.group, "");
}

TEST(Print, SaysWhereEachValueCameFrom) {
  Files files;
  const Loaded loaded = files.load(
      "[store]\nbytes_max = 67108864\n"
      "[[destination]]\nname = \"up\"\nkind = \"file\"\nurl = \"/tmp/a \\\"b\\\".jsonl\"\n");
  ASSERT_TRUE(loaded.config) << files.problems_of(loaded);
  const std::string text = print(*loaded.config);
  EXPECT_NE(text.find("bytes_max = 67108864  # " + files.main().native() + ":2\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("state_dir = \"/state\"  # --state-dir\n"), std::string::npos) << text;
  EXPECT_NE(text.find("sync_interval_s = 300  # default\n"), std::string::npos) << text;
  EXPECT_NE(text.find("[[destination]]  # " + files.main().native() + ":3\n"), std::string::npos)
      << text;
}

TEST(Print, CanBeReadBackToTheSameConfiguration) {
  Files files;
  const Loaded loaded = files.load(
      "[policy]\nmode = \"opt-out\"\n[ingest]\nsocket = \"/a/b.sock\"\n"
      "[[destination]]\nname = \"up\"\nkind = \"file\"\nurl = \"/tmp/a \\\"b\\\".jsonl\"\n"
      "[[destination]]\nname = \"kit\"\nkind = \"ingest\"\nurl = \"https://k.example.org\"\n"
      "org = \"o\"\napp = \"a\"\nsecret_file = \"/s\"\nsignature = \"plain\"\n"
      "machine_id_scheme = \"telemetry-kit\"\n"
      "[gateway]\nstart_by = \"service_manager\"\ngrpc_listen = \"[::1]:4317\"\n"
      "[[route]]\napp = \"*\"\ndestination = \"up\"\n");
  ASSERT_TRUE(loaded.config) << files.problems_of(loaded);
  const Loaded again = files.load(print(*loaded.config));
  ASSERT_TRUE(again.config) << files.problems_of(again);
  EXPECT_EQ(restart_needed(*loaded.config, *again.config), std::vector<std::string>{});
  EXPECT_EQ(again.config->destinations.at(0).url, "/tmp/a \"b\".jsonl");
  EXPECT_TRUE(again.config->destinations.at(1).plain_signature);
  EXPECT_TRUE(again.config->destinations.at(1).telemetry_kit_machine_id);
  EXPECT_TRUE(again.config->gateway.by_service_manager);
  EXPECT_EQ(again.config->policy.mode, consent::MachinePolicy::kOptOut);
}

}  // namespace
}  // namespace telemetryd::config
