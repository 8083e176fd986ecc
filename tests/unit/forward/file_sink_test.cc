#include "forward/file_sink.h"

#include <fstream>
#include <sstream>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "support/temp_dir.h"
#include "telemetry/v1/event.pb.h"

namespace telemetryd::forward {
namespace {

using nlohmann::json;

v1::Lease lease_of(std::uint32_t count, const std::string& name = "started") {
  ::telemetry::v1::EventBatch batch;
  for (std::uint32_t i = 0; i < count; ++i) {
    ::telemetry::v1::Event* event = batch.add_events();
    std::string id(16, static_cast<char>(i + 1));
    id[6] = 0x70;
    id[8] = static_cast<char>(0x80);
    event->set_id(id);
    event->set_name(name);
    event->set_time_unix_nano(1'700'000'000'000'000'000ull);
  }
  ::telemetry::v1::Context context;
  context.set_app("tool");
  v1::Lease lease;
  v1::LeasedRow* row = lease.add_rows();
  row->set_seq(7);
  row->set_first_index(4);
  row->set_count(count);
  row->set_machine_id(std::string(64, 'a'));
  row->set_context(context.SerializeAsString());
  row->set_events(batch.SerializeAsString());
  return lease;
}

class FileSinkTest : public ::testing::Test {
 protected:
  v1::Outcome send(const v1::Lease& lease) {
    v1::Outcome outcome;
    FileSink(path_).begin(lease, [&](v1::Outcome given) { outcome = std::move(given); });
    return outcome;
  }

  std::vector<json> lines() const {
    std::ifstream in(path_);
    std::vector<json> all;
    for (std::string line; std::getline(in, line);) all.push_back(json::parse(line));
    return all;
  }

  void write(std::string_view content) const { std::ofstream(path_) << content; }

  test::TempDir dir_;
  std::filesystem::path path_ = dir_ / "events.jsonl";
};

TEST_F(FileSinkTest, WritesOneLinePerEvent) {
  const v1::Outcome outcome = send(lease_of(3));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  ASSERT_EQ(lines().size(), 3u);
  EXPECT_EQ(lines()[0]["name"], "started");
  EXPECT_EQ(lines()[0]["app"], "tool");
  EXPECT_EQ(lines()[0]["machine_id"], std::string(64, 'a'));
  send(lease_of(2));
  EXPECT_EQ(lines().size(), 5u);
  EXPECT_EQ(std::filesystem::status(path_).permissions() & std::filesystem::perms::others_all,
            std::filesystem::perms::none);
}

TEST_F(FileSinkTest, ATornLineOfACrashIsCutOff) {
  write("{\"name\":\"whole\"}\n{\"name\":\"to");
  EXPECT_EQ(send(lease_of(1)).verdict(), v1::VERDICT_DELIVERED);
  ASSERT_EQ(lines().size(), 2u);
  EXPECT_EQ(lines()[0]["name"], "whole");
  EXPECT_EQ(lines()[1]["name"], "started");
}

TEST_F(FileSinkTest, AWholeLastLineWithoutItsEndIsKept) {
  write("{\"name\":\"whole\"}");
  EXPECT_EQ(send(lease_of(1)).verdict(), v1::VERDICT_DELIVERED);
  ASSERT_EQ(lines().size(), 2u);
  EXPECT_EQ(lines()[0]["name"], "whole");
}

TEST_F(FileSinkTest, SomebodyElsesFileIsLeftAlone) {
  write("my shopping list\nmilk");
  const v1::Outcome outcome = send(lease_of(1));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
  std::stringstream content;
  content << std::ifstream(path_).rdbuf();
  EXPECT_EQ(content.str(), "my shopping list\nmilk");
}

TEST_F(FileSinkTest, AMissingFolderIsHeldAndSaysSo) {
  path_ = dir_ / "absent" / "events.jsonl";
  const v1::Outcome outcome = send(lease_of(1));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
  const std::string named = "url: " + path_.parent_path().native() + ": ";
  EXPECT_EQ(outcome.error().substr(0, named.size()), named);
  EXPECT_NE(outcome.error().find("the folder does not exist"), std::string::npos);
}

TEST_F(FileSinkTest, WhatIsNoRegularFileIsHeld) {
  std::filesystem::create_symlink("/dev/null", path_);
  EXPECT_EQ(send(lease_of(1)).verdict(), v1::VERDICT_HOLD);
  std::filesystem::remove(path_);
  std::filesystem::create_directory(path_);
  EXPECT_NE(send(lease_of(1)).verdict(), v1::VERDICT_DELIVERED);
}

TEST_F(FileSinkTest, AnEventThatIsNoneIsRejectedByItsIndexInTheRow) {
  v1::Lease lease = lease_of(2);
  ::telemetry::v1::EventBatch batch;
  ASSERT_TRUE(batch.ParseFromString(lease.rows(0).events()));
  batch.mutable_events(1)->set_id("short");
  lease.mutable_rows(0)->set_events(batch.SerializeAsString());
  const v1::Outcome outcome = send(lease);
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED);
  ASSERT_EQ(outcome.rejected_size(), 1);
  EXPECT_EQ(outcome.rejected(0).seq(), 7u);
  EXPECT_EQ(outcome.rejected(0).first_index(), 5u);
  EXPECT_EQ(lines().size(), 1u);
}

TEST_F(FileSinkTest, TwoProcessesDoNotInterleave) {
  constexpr int kBatches = 40;
  std::array<pid_t, 2> children{};
  for (pid_t& child : children) {
    child = ::fork();
    if (child != 0) continue;
    int failed = 0;
    for (int i = 0; i < kBatches; ++i) {
      const std::string name = "by-" + std::to_string(::getpid());
      if (send(lease_of(20, name)).verdict() != v1::VERDICT_DELIVERED) failed = 1;
    }
    ::_exit(failed);
  }
  for (const pid_t child : children) {
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  const std::vector<json> all = lines();
  ASSERT_EQ(all.size(), 2u * kBatches * 20);
  for (std::size_t i = 0; i < all.size(); i += 20) {
    for (std::size_t k = 1; k < 20; ++k) EXPECT_EQ(all[i]["name"], all[i + k]["name"]);
  }
}

TEST_F(FileSinkTest, TheProbeSaysWhetherItCanWrite) {
  ProbeOutcome outcome;
  FileSink(path_).probe([&](ProbeOutcome given) { outcome = std::move(given); });
  EXPECT_TRUE(outcome.ok);
  FileSink(dir_ / "absent" / "x").probe([&](ProbeOutcome given) { outcome = std::move(given); });
  EXPECT_FALSE(outcome.ok);
}

}  // namespace
}  // namespace telemetryd::forward
