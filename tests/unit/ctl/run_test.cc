#include <csignal>
#include <unistd.h>

#include <gtest/gtest.h>

#include "ctl/child_process.h"

namespace telemetryd::ctl {
namespace {

TEST(ChildProcess, TheExitCodeIsTheCommands) {
  EXPECT_EQ(run_child({"true"}).exit_code, 0);
  EXPECT_EQ(run_child({"sh", "-c", "exit 42"}).exit_code, 42);
}

TEST(ChildProcess, ADeathBySignalIsSaidAsAShellSaysIt) {
  EXPECT_EQ(run_child({"sh", "-c", "kill -TERM $$"}).exit_code, 128 + SIGTERM);
}

TEST(ChildProcess, WhatCannotBeStartedIsSaidAsAShellSaysIt) {
  const ChildEnd missing = run_child({"/nonexistent/command"});
  EXPECT_EQ(missing.exit_code, 127);
  EXPECT_FALSE(missing.start_error.empty());
  EXPECT_EQ(run_child({"/dev/null"}).exit_code, 126);
}

TEST(ChildProcess, ArgumentsArriveAsTheyWereGiven) {
  EXPECT_EQ(run_child({"sh", "-c", "test \"$1\" = '[a b]' && test \"$2\" = ''", "sh", "[a b]", ""})
                .exit_code,
            0);
}

TEST(ChildProcess, ASignalSentToUsReachesTheCommand) {
  // The command asks for the signal once its trap is set, so nothing depends on timing.
  const std::string script = "trap 'exit 7' TERM; kill -TERM " + std::to_string(getpid()) +
                             "; while :; do sleep 0.05; done";
  EXPECT_EQ(run_child({"sh", "-c", script}).exit_code, 7);
}

TEST(ChildProcess, TheCommandStartsWithOurSignalMaskOfBefore) {
  EXPECT_EQ(run_child({"sh", "-c", "grep -q '^SigBlk:.0*$' /proc/self/status"}).exit_code, 0);
}

}  // namespace
}  // namespace telemetryd::ctl
