#include "ctl/import_sender.h"

#include <fcntl.h>

#include <gtest/gtest.h>

#include "base/io.h"
#include "base/unique_fd.h"
#include "support/fake_daemon.h"
#include "support/temp_dir.h"

namespace telemetryd::ctl {
namespace {

class ImportSenderTest : public testing::Test {
 protected:
  ImportSenderTest() : daemon_(dir_ / "ingest.sock") {
    std::string content;
    for (int i = 0; i < kEvents; ++i) {
      content += R"({"name":"n)" + std::to_string(i) + R"(","time":"2026-11-20T12:00:00Z"})" + "\n";
    }
    EXPECT_TRUE(replace_file(dir_ / "file", content, 0600));
    file_.reset(open((dir_ / "file").c_str(), O_RDONLY | O_CLOEXEC));
  }

  struct Outcome {
    Result<void> result;
    SendCounts counts;
  };

  Outcome import() {
    const ImportSource source{file_.get(), "app", 1};
    const auto plan = plan_import(source);
    EXPECT_TRUE(plan);
    SendSettings settings;
    settings.socket = dir_ / "ingest.sock";
    settings.app = "app";
    settings.idle_max = idle_max_;
    ImportSender sender(settings, plan->instance, [](std::uint64_t) {});
    auto result = sender.connect();
    if (result) {
      result =
          for_each_block(source, *plan, [&](const Block& block) { return sender.send(block); });
    }
    if (result) result = sender.finish();
    return {result, sender.counts()};
  }

  static constexpr int kEvents = 2600;

  test::TempDir dir_;
  test::FakeDaemon daemon_;
  UniqueFd file_;
  std::chrono::seconds idle_max_{20};
};

TEST_F(ImportSenderTest, EveryEventArrivesOnceAndInOrder) {
  daemon_.start();
  const Outcome outcome = import();
  ASSERT_TRUE(outcome.result) << outcome.result.error().message();
  EXPECT_EQ(outcome.counts.sent, kEvents);
  EXPECT_EQ(outcome.counts.acknowledged, kEvents);
  EXPECT_EQ(outcome.counts.duplicates, 0u);
  const auto events = daemon_.events();
  ASSERT_EQ(events.size(), 1u);
  ASSERT_EQ(events.begin()->second.size(), static_cast<std::size_t>(kEvents));
  EXPECT_EQ(events.begin()->second.front().name(), "n0");
  EXPECT_EQ(events.begin()->second.back().name(), "n2599");
  EXPECT_EQ(daemon_.goodbyes(), 0);
}

TEST_F(ImportSenderTest, ImportingAgainStoresNothing) {
  daemon_.start();
  ASSERT_TRUE(import().result);
  const auto frames = daemon_.received().size();
  const Outcome again = import();
  ASSERT_TRUE(again.result);
  EXPECT_EQ(again.counts.acknowledged, 0u);
  EXPECT_EQ(again.counts.duplicates, kEvents);
  EXPECT_EQ(daemon_.received().size(), frames);
  EXPECT_EQ(daemon_.events_stored(), kEvents);
}

TEST_F(ImportSenderTest, AConnectionThatBreaksInTheMiddleCostsNothing) {
  daemon_.on_events([this](test::FakeDaemon::Peer& peer, const test::ReceivedFrame& frame) {
    // Stored, but the answer never leaves: the client cannot know.
    if (frame.prefix.number == 3 && peer.connection() == 1) return peer.hang_up();
    daemon_.accept(peer, frame);
  });
  daemon_.start();
  const Outcome outcome = import();
  ASSERT_TRUE(outcome.result) << outcome.result.error().message();
  EXPECT_EQ(outcome.counts.acknowledged, kEvents);
  EXPECT_EQ(daemon_.events_stored(), kEvents);
}

TEST_F(ImportSenderTest, NothingIsSentWhereCollectionIsOff) {
  daemon_.on_hello([](test::FakeDaemon::Peer& peer) {
    peer.welcome(0, test::v1::COLLECTION_MODE_OFF, "opt_in_default");
  });
  daemon_.start();
  const Outcome outcome = import();
  ASSERT_FALSE(outcome.result);
  EXPECT_EQ(outcome.result.error().code(), ErrorCode::kFailedPrecondition);
  EXPECT_NE(outcome.result.error().message().find("consent enable --app app"), std::string::npos);
  EXPECT_TRUE(daemon_.received().empty());
}

TEST_F(ImportSenderTest, WhatIsRefusedForGoodIsCountedWithItsReason) {
  daemon_.on_events([this](test::FakeDaemon::Peer& peer, const test::ReceivedFrame& frame) {
    if (frame.prefix.number != 2) return daemon_.accept(peer, frame);
    peer.refuse({2, frame::Code::kInvalidEvent, false, 0}, "name is too long");
  });
  daemon_.start();
  const Outcome outcome = import();
  ASSERT_TRUE(outcome.result) << outcome.result.error().message();
  EXPECT_EQ(outcome.counts.refused, 500u);
  EXPECT_EQ(outcome.counts.acknowledged, static_cast<std::uint64_t>(kEvents - 500));
  EXPECT_NE(outcome.counts.refusal.find("name is too long"), std::string::npos);
}

TEST_F(ImportSenderTest, ADaemonThatNeverAnswersEndsTheImportWithItsReason) {
  idle_max_ = std::chrono::seconds(0);
  daemon_.on_events([](test::FakeDaemon::Peer& peer, const test::ReceivedFrame& frame) {
    peer.refuse({frame.prefix.number, frame::Code::kStoreFull, true, 1}, "store is full");
  });
  daemon_.start();
  const Outcome outcome = import();
  ASSERT_FALSE(outcome.result);
  EXPECT_EQ(outcome.result.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(outcome.result.error().message().find("Import again"), std::string::npos);
}

}  // namespace
}  // namespace telemetryd::ctl
