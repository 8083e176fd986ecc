// No allocation and no system call in telemetry_track() while the sender is awake.

#include <csignal>
#include <cstddef>
#include <cstring>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <thread>
#include <ucontext.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "client_harness.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TELEMETRYD_SANITIZED 1
#else
#define TELEMETRYD_SANITIZED 0
#endif

namespace {

thread_local bool counting = false;
std::atomic<int> allocations = 0;
volatile std::sig_atomic_t calls = 0;

}  // namespace

#if !TELEMETRYD_SANITIZED
extern "C" void* __libc_malloc(std::size_t size);

extern "C" void* malloc(std::size_t size) {
  if (counting) ++allocations;
  return __libc_malloc(size);
}
#endif

namespace telemetryd::client {
namespace {

// Counts this thread's system calls from now on; they fail with ENOSYS, except those that end a
// signal handler or a thread.
bool trap_system_calls() {
  struct sigaction action{};
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = [](int, siginfo_t*, void* context) {
    calls = calls + 1;
#if defined(__x86_64__)
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX] = -ENOSYS;
#endif
  };
  sigaction(SIGSYS, &action, nullptr);
  constexpr unsigned kAllowed[] = {__NR_rt_sigreturn,
                                   __NR_exit,
                                   __NR_exit_group,
                                   __NR_madvise,
                                   __NR_munmap,
                                   __NR_futex,
                                   __NR_rt_sigprocmask};
  std::vector<sock_filter> program;
  program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  for (const unsigned number : kAllowed) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
  sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

using HotPathTest = ClientTest;

TEST_F(HotPathTest, TrackingAllocatesNothingAndCallsNothing) {
  if (TELEMETRYD_SANITIZED != 0) GTEST_SKIP() << "sanitizers allocate and call by themselves";
  // Without a daemon the sender never sleeps: it waits for its next attempt to connect and looks
  // again by itself, so no call has to wake it.
  telemetry_client_t* client = open(8u << 20);
  track(client, "first");
  bool trapped = false;
  int failed = 0;
  std::thread([&] {
    telemetry_attribute_t attributes[2] = {};
    attributes[0] = {.key = "s", .type = TELEMETRY_VALUE_STRING, .value = {"text"}};
    attributes[1] = {.key = "i", .type = TELEMETRY_VALUE_INT, .value = {.int_value = 1}};
    telemetry_event_t event = TELEMETRY_EVENT_INIT;
    event.name = "hot";
    event.attributes = attributes;
    event.attribute_count = 2;
    // The first call binds symbols.
    failed += telemetry_track(client, &event) != TELEMETRY_OK;
    trapped = trap_system_calls();
    counting = true;
    for (int i = 0; i < 10'000; ++i) failed += telemetry_track(client, &event) != TELEMETRY_OK;
    counting = false;
  }).join();
  if (!trapped) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(allocations, 0);
  EXPECT_EQ(calls, 0);
  close(client, 0, TELEMETRY_TIMEOUT);
}

}  // namespace
}  // namespace telemetryd::client
