// A damaged store, from the start that sets it aside to the events that come back.

#include "session.h"

namespace telemetryd::test {
namespace {

namespace fs = std::filesystem;

Ended salvage(const std::vector<std::string>& arguments) {
  return DaemonProcess::run_program(SALVAGE_PROGRAM, arguments);
}

class Salvage : public testing::Test {
 protected:
  // Accepts events, ends, and loses the header of its database.
  void store_and_damage() {
    {
      DaemonProcess daemon(home_);
      App app(home_, "tool");
      for (int i = 0; i < 5; ++i) EXPECT_EQ(app.track("kept"), TELEMETRY_OK);
      ASSERT_EQ(app.flush(), TELEMETRY_OK);
      ASSERT_EQ(daemon.terminate(), 0);
    }
    fs::resize_file(home_.state_dir() / "events.db-wal", 0);
    std::fstream out(home_.state_dir() / "events.db",
                     std::ios::binary | std::ios::in | std::ios::out);
    out << std::string(100, '\0');
    ASSERT_TRUE(out.flush().good());
  }

  std::string folder() const {
    for (const auto& entry : fs::directory_iterator(home_.state_dir() / "quarantine")) {
      return entry.path().native();
    }
    return {};
  }

  DaemonHome home_{kOptOut};
};

TEST_F(Salvage, SalvagingAgainChangesNothing) {
  store_and_damage();
  const DaemonProcess daemon(home_);
  const Json status = get(daemon, "/v1/status");
  EXPECT_EQ(status["state"], "degraded");
  EXPECT_NE(status["reasons"].dump().find("telemetryd-salvage " + folder()), std::string::npos)
      << status["reasons"];
  EXPECT_EQ(status["ledger"]["lost"]["damage"], 5);

  const Ended counted = salvage({"--dry-run", folder()});
  EXPECT_EQ(counted.exit_code, 0) << counted.out;
  EXPECT_NE(counted.out.find("5 events to bring back, 0 damaged"), std::string::npos);
  const Ended first = salvage({"--socket", home_.ingest_socket(), folder()});
  EXPECT_EQ(first.exit_code, 0) << first.out;
  EXPECT_NE(first.out.find("5 events resubmitted, 0 known already"), std::string::npos)
      << first.out;
  EXPECT_NE(first.out.find(folder() + " may be removed"), std::string::npos) << first.out;
  const Ended again = salvage({"--socket", home_.ingest_socket(), folder()});
  EXPECT_EQ(again.exit_code, 0) << again.out;
  EXPECT_NE(again.out.find("0 events resubmitted, 5 known already"), std::string::npos)
      << again.out;
  EXPECT_EQ(get(daemon, "/v1/events")["events"].size(), 5u);
  const Json ledger = get(daemon, "/v1/ledger?check=1");
  EXPECT_EQ(ledger["check"]["balanced"], true) << ledger;
  EXPECT_EQ(ledger["machine"]["queued"], 5);
}

TEST_F(Salvage, RootBringsEverybodysEventsBackInTheirNames) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  {
    DaemonProcess daemon(home_);
    // Root's home would not let another user look for a consent file.
    ::setenv("XDG_CONFIG_HOME", home_.state_dir().parent_path().c_str(), 1);
    as_user(kNobody, [&] {
      App app(home_, "tool");
      EXPECT_EQ(app.track("theirs"), TELEMETRY_OK);
      ASSERT_EQ(app.flush(), TELEMETRY_OK);
    });
    ASSERT_EQ(daemon.terminate(), 0);
  }
  ASSERT_NO_FATAL_FAILURE(store_and_damage());
  const DaemonProcess daemon(home_);
  const Ended done = salvage({"--socket", home_.ingest_socket(), folder()});
  EXPECT_EQ(done.exit_code, 0) << done.out;
  // Root brought back both, each under its own user.
  as_user(kNobody, [&] { EXPECT_EQ(get(daemon, "/v1/events")["events"].size(), 1u); });
  EXPECT_EQ(get(daemon, "/v1/events")["events"].size(), 6u);
}

TEST_F(Salvage, WhatBelongsToOthersStays) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "LeakSanitizer cannot look at a process that changed its user";
#endif
  ASSERT_NO_FATAL_FAILURE(store_and_damage());
  const DaemonProcess daemon(home_);
  const fs::path readable = home_.path() / "quarantine" / "copy";
  fs::create_directories(readable);
  for (const auto& entry : fs::directory_iterator(folder())) {
    fs::copy_file(entry.path(), readable / entry.path().filename());
    fs::permissions(readable / entry.path().filename(), fs::perms(0644));
  }
  const std::string unreadable = folder();
  as_user(kNobody, [&] {
    const Ended done = salvage({"--socket", home_.ingest_socket(), readable.native()});
    EXPECT_EQ(done.exit_code, 3) << done.out;
    EXPECT_NE(done.out.find("5 events of other users or machines were left"), std::string::npos)
        << done.out;
    EXPECT_EQ(done.out.find("may be removed"), std::string::npos) << done.out;
    const Ended hidden = salvage({"--dry-run", unreadable});
    EXPECT_EQ(hidden.exit_code, 1);
    EXPECT_NE(hidden.out.find("run telemetryd-salvage as root"), std::string::npos) << hidden.out;
  });
  EXPECT_EQ(get(daemon, "/v1/events")["events"].size(), 0u);
}

TEST_F(Salvage, AStoreWithoutRoomIsToldToGrowAndNothingIsSent) {
  store_and_damage();
  // What is set aside counts, and leaves nothing of the smallest store.
  std::ofstream(home_.state_dir() / "events.db", std::ios::binary | std::ios::app)
      << std::string(6u << 20, '\0');
  home_.configure(std::string(kOptOut) + "[store]\nbytes_max = 8388608\n");
  const DaemonProcess daemon(home_);
  const Ended done = salvage({"--socket", home_.ingest_socket(), folder()});
  EXPECT_EQ(done.exit_code, 1) << done.out;
  EXPECT_NE(done.out.find("raise [store] bytes_max (needs about "), std::string::npos) << done.out;
  EXPECT_EQ(done.out.find("may be removed"), std::string::npos) << done.out;
  EXPECT_EQ(get(daemon, "/v1/ledger")["machine"]["queued"], 0);
}

TEST_F(Salvage, WhatTheWitnessKnewAndNoPageHasIsSaid) {
  store_and_damage();
  const fs::path database = home_.state_dir() / "events.db";
  {
    std::fstream out(database, std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(2 * 8192);  // behind the schema and the pointer map
    out << std::string(fs::file_size(database) - 2 * 8192, '\xA5');
  }
  const DaemonProcess daemon(home_);
  const Ended done = salvage({"--socket", home_.ingest_socket(), folder()});
  EXPECT_EQ(done.exit_code, 3) << done.out;
  EXPECT_NE(done.out.find("The witness knew 5 queued events, 0 were found"), std::string::npos)
      << done.out;
  EXPECT_EQ(done.out.find("0 damaged pages"), std::string::npos) << done.out;
  EXPECT_EQ(done.out.find("may be removed"), std::string::npos) << done.out;
}

TEST_F(Salvage, AStateFolderIsNeverCalledRemovable) {
  store_and_damage();
  const fs::path copy = home_.path() / "copy";
  fs::create_directory(copy);
  for (const char* name : {"events.db", "witness", "lock"}) {
    fs::copy_file(home_.state_dir() / name, copy / name);
  }
  const DaemonProcess daemon(home_);
  const Ended done = salvage({"--socket", home_.ingest_socket(), copy.native()});
  EXPECT_EQ(done.exit_code, 0) << done.out;
  EXPECT_NE(done.out.find("5 events resubmitted"), std::string::npos) << done.out;
  EXPECT_EQ(done.out.find("may be removed"), std::string::npos) << done.out;
}

TEST_F(Salvage, AFileIsNotTakenForAFolder) {
  store_and_damage();
  const Ended done = salvage({"--dry-run", (home_.state_dir() / "events.db").native()});
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_NE(done.out.find("name the folder"), std::string::npos) << done.out;
}

TEST_F(Salvage, AWithdrawalSinceThenStands) {
  store_and_damage();
  const DaemonProcess daemon(home_);
  EXPECT_EQ(post(daemon, "/v1/consent", {{"app", "tool"}, {"state", "disabled"}}).status, 200);
  const Ended done = salvage({"--socket", home_.ingest_socket(), folder()});
  EXPECT_EQ(done.exit_code, 3) << done.out;
  EXPECT_NE(done.out.find("5 refused"), std::string::npos) << done.out;
  EXPECT_EQ(get(daemon, "/v1/events")["events"].size(), 0u);
}

TEST_F(Salvage, EventsAreWrittenToAFileWithoutADaemon) {
  store_and_damage();
  const std::string file = (home_.path() / "events.jsonl").native();
  const Ended done = salvage({"--output", file, home_.state_dir().native()});
  EXPECT_EQ(done.exit_code, 0) << done.out;
  EXPECT_EQ(fs::status(file).permissions(), fs::perms(0600)) << "others could read it";
  std::istringstream lines(file_text(file));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const Json json = Json::parse(line, nullptr, false);
    EXPECT_EQ(json.value("name", ""), "kept") << line;
    EXPECT_EQ(json.value("app", ""), "tool") << line;
  }
  EXPECT_EQ(count, 5);
  EXPECT_EQ(salvage({"--output", file, home_.state_dir().native()}).exit_code, 1)
      << "an existing file was overwritten";
}

// Somebody who finds half a file may take it for all, and remove the folder.
TEST_F(Salvage, AnOutputThatCannotBeWrittenWholeIsTakenAway) {
  store_and_damage();
  const std::string out = (home_.path() / "events.jsonl").native();
  const std::string folder = home_.state_dir().native();
  const Ended failed =
      DaemonProcess::run_program("/bin/sh",
                                 {"-c",
                                  "trap '' XFSZ; ulimit -f 0; exec \"$0\" --output \"$1\" \"$2\"",
                                  SALVAGE_PROGRAM,
                                  out,
                                  folder});
  EXPECT_EQ(failed.exit_code, 1) << failed.out;
  EXPECT_NE(failed.out.find("writing the output"), std::string::npos) << failed.out;
  EXPECT_FALSE(fs::exists(out));
  const Ended written = salvage({"--output", out, folder});
  EXPECT_EQ(written.exit_code, 0) << written.out;
  EXPECT_TRUE(fs::exists(out));
}

TEST_F(Salvage, AStoreInUseIsNotRead) {
  const DaemonProcess daemon(home_);
  const Ended done = salvage({"--dry-run", home_.state_dir().native()});
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_NE(done.out.find("in use"), std::string::npos) << done.out;
}

TEST_F(Salvage, WithoutTelemetrydItSaysSo) {
  store_and_damage();
  const Ended done =
      salvage({"--socket", (home_.path() / "none.sock").native(), home_.state_dir().native()});
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_NE(done.out.find("does not take events"), std::string::npos) << done.out;
  EXPECT_NE(done.out.find("start telemetryd"), std::string::npos) << done.out;
}

}  // namespace
}  // namespace telemetryd::test
