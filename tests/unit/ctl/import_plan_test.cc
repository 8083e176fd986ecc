#include "ctl/import_plan.h"

#include <fcntl.h>

#include <gtest/gtest.h>

#include "base/io.h"
#include "base/unique_fd.h"
#include "support/temp_dir.h"

namespace telemetryd::ctl {
namespace {

class ImportPlanTest : public testing::Test {
 protected:
  ImportSource source_of(const std::string& content, const std::string& app = "app") {
    EXPECT_TRUE(replace_file(dir_ / "file", content, 0600));
    file_.reset(open((dir_ / "file").c_str(), O_RDONLY | O_CLOEXEC));
    return {file_.get(), app, 1'700'000'000'000'000'000u};
  }

  static std::vector<Block> blocks_of(const ImportSource& source) {
    const auto plan = plan_import(source);
    EXPECT_TRUE(plan);
    std::vector<Block> out;
    const auto done = for_each_block(source, *plan, [&](const Block& block) -> Result<void> {
      out.push_back(block);
      return {};
    });
    EXPECT_TRUE(done);
    EXPECT_EQ(out.size(), plan->blocks);
    return out;
  }

  static std::string lines(int count, const std::string& more = "") {
    std::string out;
    for (int i = 0; i < count; ++i) {
      out += R"({"name":"n)" + std::to_string(i) + "\"" + more + "}\n";
    }
    return out;
  }

  test::TempDir dir_;
  UniqueFd file_;
};

TEST_F(ImportPlanTest, BlocksAreNumberedFromOneAndHoldFiveHundredEvents) {
  const auto blocks = blocks_of(source_of(lines(1001)));
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(blocks[0].number, 1u);
  EXPECT_EQ(blocks[0].count, 500u);
  EXPECT_EQ(blocks[1].number, 2u);
  EXPECT_EQ(blocks[2].number, 3u);
  EXPECT_EQ(blocks[2].count, 1u);
}

TEST_F(ImportPlanTest, EveryBlockIsWhatTheDaemonAccepts) {
  const std::string content = lines(600) + lines(3, R"(,"urgency":"urgent")") +
                              lines(2, R"(,"class":"low")") + lines(2, R"(,"class":"critical")");
  std::uint64_t events = 0;
  for (const auto& block : blocks_of(source_of(content))) {
    const auto summary = event::validate(block.batch, block.persistence_class, block.urgency, {});
    ASSERT_TRUE(summary) << summary.error().message();
    EXPECT_EQ(summary->count, block.count);
    events += block.count;
  }
  EXPECT_EQ(events, 607u);
}

TEST_F(ImportPlanTest, LargeEventsMakeBlocksOfBoundedSize) {
  const std::string big = R"(,"attributes":{"v":")" + std::string(60'000, 'x') + "\"}";
  const auto blocks = blocks_of(source_of(lines(20, big)));
  EXPECT_EQ(blocks.size(), 5u);
  for (const auto& block : blocks) EXPECT_LE(block.batch.size(), kBlockBytesMax);
}

TEST_F(ImportPlanTest, TheSameContentGivesTheSameInstanceAndBlocks) {
  const auto first = blocks_of(source_of(lines(700)));
  const auto plan = plan_import(source_of(lines(700)));
  const auto second = blocks_of(source_of(lines(700)));
  ASSERT_EQ(first.size(), second.size());
  for (std::size_t i = 0; i < first.size(); ++i) EXPECT_EQ(first[i].batch, second[i].batch);
  EXPECT_EQ(plan->instance, plan_import(source_of(lines(700)))->instance);
}

TEST_F(ImportPlanTest, AnotherAppOrContentIsAnotherInstance) {
  const auto plan = plan_import(source_of(lines(3)));
  EXPECT_NE(plan->instance, plan_import(source_of(lines(3), "other"))->instance);
  EXPECT_NE(plan->instance, plan_import(source_of(lines(4)))->instance);
}

TEST_F(ImportPlanTest, IdenticalLinesAreEventsOfTheirOwn) {
  const std::string line = R"({"name":"x","time":"2026-11-20T12:00:00Z"})";
  const auto blocks = blocks_of(source_of(line + "\n" + line + "\n"));
  ASSERT_EQ(blocks.size(), 1u);
  std::vector<Bytes16> ids;
  ASSERT_TRUE(event::for_each(blocks[0].batch, [&](std::uint32_t, std::string_view event) {
    ids.push_back(*event::id_of(event));
    return true;
  }));
  ASSERT_EQ(ids.size(), 2u);
  EXPECT_NE(ids[0], ids[1]);
}

TEST_F(ImportPlanTest, ProblemsNameTheirLinesAndAreBounded) {
  std::string content = "\n" + lines(1) + "broken\n";
  for (int i = 0; i < 30; ++i) content += "{}\n";
  const auto plan = plan_import(source_of(content));
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->invalid, 31u);
  EXPECT_EQ(plan->lines, 32u);
  EXPECT_EQ(plan->events, 1u);
  ASSERT_EQ(plan->problems.size(), kProblemsKept);
  EXPECT_EQ(plan->problems[0].line, 3u);
  EXPECT_EQ(plan->problems[1].reason, "'name' is missing");
}

TEST_F(ImportPlanTest, WhatTheDaemonWouldRefuseIsAProblemOfItsLine) {
  const std::string long_name(300, 'n');
  const std::string big(70'000, 'x');
  const auto plan = plan_import(source_of(R"({"name":")" + long_name + "\"}\n" +
                                          R"({"name":"x","attributes":{"v":")" + big + "\"}}\n"));
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->invalid, 2u);
}

TEST_F(ImportPlanTest, AFileThatChangesBetweenThePassesIsNoticed) {
  const auto source = source_of(lines(3));
  const auto plan = plan_import(source);
  const UniqueFd writer(open((dir_ / "file").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  ASSERT_GT(write(writer.get(), "{\"name\":\"late\"}\n", 16), 0);
  const auto done = for_each_block(source, *plan, [](const Block&) -> Result<void> { return {}; });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), ErrorCode::kFailedPrecondition);
}

TEST_F(ImportPlanTest, AnErrorOfTheVisitorEndsThePass) {
  const auto source = source_of(lines(1500));
  const auto plan = plan_import(source);
  int visits = 0;
  const auto done = for_each_block(source, *plan, [&](const Block&) -> Result<void> {
    ++visits;
    return fail(ErrorCode::kUnavailable, "gone");
  });
  EXPECT_FALSE(done);
  EXPECT_EQ(visits, 1);
}

}  // namespace
}  // namespace telemetryd::ctl
