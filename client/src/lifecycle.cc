// Opening, closing, and what happens to a client in a forked child.

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <new>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "telemetry_core/client.h"
#include "telemetry_core/descriptor.h"
#include "telemetry_core/ticks.h"

namespace telemetryd::client {
namespace {

constexpr size_t kThreadStackBytes = 256 * 1024;
constexpr char kSdk[] = "libtelemetry/" TELEMETRY_VERSION_TEXT;

bool copy_option(const char* text, const char* fallback, char* out, size_t size) {
  if (text == nullptr) text = fallback;
  const size_t length = strnlen(text, size);
  if (length == size) return false;
  memcpy(out, text, length + 1);
  return true;
}

uint32_t or_default(uint32_t value, uint32_t fallback) {
  return value != 0 ? value : fallback;
}

size_t power_of_two_from(uint32_t value) {
  size_t size = kQueueBytesMin;
  while (size < value) size *= 2;
  return size;
}

// Memory that reads as zero in a forked child; null when the kernel cannot promise that.
uint8_t* map_wiped_on_fork(size_t size) {
  void* memory = mmap(
      nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  if (madvise(memory, size, MADV_WIPEONFORK) != 0) {
    munmap(memory, size);
    return nullptr;
  }
  return static_cast<uint8_t*>(memory);
}

// The child may have closed everything and opened other files under the same numbers.
void close_if_pipe(int fd, uint64_t inode) {
  if (still_has_inode(fd, S_IFIFO, inode)) close(fd);
}

}  // namespace

telemetry_status_t Client::configure(const telemetry_options_t& options) {
  const uint32_t queue = or_default(options.queue_bytes_max, kQueueBytesDefault);
  const uint32_t unacked = or_default(options.unacked_bytes_max, kUnackedBytesDefault);
  const uint32_t target = or_default(options.frame_bytes_target, kFrameBytesDefault);
  if (queue > kQueueBytesMax || unacked > kUnackedBytesMax || target > kFrameBytesMax) {
    return TELEMETRY_INVALID;
  }
  if (!copy_option(options.app, "", app_.bytes, sizeof app_.bytes) ||
      !copy_option(options.app_version, "", app_version_.bytes, sizeof app_version_.bytes) ||
      !copy_option(options.language, "c", language_.bytes, sizeof language_.bytes) ||
      !copy_option(options.environment, "", environment_.bytes, sizeof environment_.bytes) ||
      !copy_option(options.project, "", project_.bytes, sizeof project_.bytes)) {
    return TELEMETRY_INVALID;
  }
  hello_.app = app_.bytes;
  hello_.app_version = app_version_.bytes;
  hello_.language = language_.bytes;
  hello_.environment = environment_.bytes;
  hello_.project = project_.bytes;
  hello_.sdk = kSdk;
  if (!hello_valid(hello_)) return TELEMETRY_INVALID;
  ring_bytes_ = power_of_two_from(queue);
  frame_bytes_target_ = target < kFrameBytesMin ? kFrameBytesMin : target;
  // Two frames, and the largest event must fit behind whatever is in the way.
  const size_t least = 2 * (frame_bytes_target_ + frame::kEventBytesMaxDefault + 64);
  window_capacity_ = unacked < least ? least : unacked;
  return read_surroundings(app_.bytes, options.socket_path, surroundings_) ? TELEMETRY_OK
                                                                           : TELEMETRY_INVALID;
}

telemetry_status_t Client::map_memory() {
  uint8_t* memory = map_wiped_on_fork(kRingOffset + ring_bytes_);
  if (memory == nullptr) return TELEMETRY_NO_MEMORY;
  block_ = reinterpret_cast<Block*>(memory);
  window_bytes_ = map_wiped_on_fork(window_capacity_);
  return window_bytes_ != nullptr ? TELEMETRY_OK : TELEMETRY_NO_MEMORY;
}

telemetry_status_t Client::open(const telemetry_options_t& options, Client** out) {
  *out = nullptr;
  if (options.size < sizeof(telemetry_options_t)) return TELEMETRY_INVALID;
  void* memory = calloc(1, sizeof(Client));
  if (memory == nullptr) return TELEMETRY_NO_MEMORY;
  auto* client = new (memory) Client();
  telemetry_status_t status = client->configure(options);
  if (status == TELEMETRY_OK) {
    client->decision_ = decide_first(client->surroundings_);
    if (client->decision_.mode != consent::Mode::kOff) {
      status = client->map_memory();
      if (status == TELEMETRY_OK) status = client->start_instance();
      if (status == TELEMETRY_OK) client->block_->gate.store(Gate::kOpen);
    }
  }
  if (status != TELEMETRY_OK) {
    client->release_all();
    return status;
  }
  *out = client;
  return TELEMETRY_OK;
}

// A new instance in wiped memory: at open, and in a child with its first event.
telemetry_status_t Client::start_instance() {
  struct {
    uint8_t instance[16];
    uint64_t session[2];
    uint64_t seed[3];
  } random;

  if (!fill_random(&random, sizeof random)) return TELEMETRY_NO_MEMORY;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return TELEMETRY_NO_MEMORY;
  wake_read_ = ends[0];
  wake_write_ = ends[1];
  pipe_inode_ = inode_of(wake_read_, S_IFIFO);

  memcpy(hello_.instance, random.instance, sizeof hello_.instance);
  memcpy(hello_.session_id, random.session, sizeof hello_.session_id);
  Block& block = *block_;
  for (size_t i = 0; i < 2; ++i) {
    block.session_id[i].store(random.session[i]);
    block.seed[i].store(random.seed[i]);
  }
  block.fence_yourself.store(ready_fence_all() ? 0 : 1);
  block.event_bytes_max.store(frame::kEventBytesMaxDefault);
  ring_.attach(&block.ring, reinterpret_cast<uint8_t*>(block_) + kRingOffset, ring_bytes_);
  session_.reset(hello_, window_bytes_, window_capacity_, random.seed[2]);
  sender_.reset({.block = block_,
                 .ring = &ring_,
                 .session = &session_,
                 .surroundings = &surroundings_,
                 .wake_fd = wake_read_,
                 .wake_inode = pipe_inode_,
                 .frame_bytes_target = frame_bytes_target_});
  return start_thread();
}

telemetry_status_t Client::start_thread() {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kThreadStackBytes);
  int failed = pthread_create(&thread_, &attributes, run_sender, this);
  // An app with much thread-local data does not fit beside it on a small stack.
  if (failed == EINVAL) failed = pthread_create(&thread_, nullptr, run_sender, this);
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return failed == 0 ? TELEMETRY_OK : TELEMETRY_NO_MEMORY;
}

void* Client::run_sender(void* client) {
  prctl(PR_SET_NAME, "telemetry", 0, 0, 0);
  static_cast<Client*>(client)->sender_.run();
  return nullptr;
}

// What belongs to the parent stays the parent's: its descriptors are closed here, never shut down.
void Client::disown_parent() {
  session_.disown();
  close_if_pipe(wake_read_, pipe_inode_);
  close_if_pipe(wake_write_, pipe_inode_);
  wake_read_ = -1;
  wake_write_ = -1;
  dropped_while_off_.store(0);
}

telemetry_status_t Client::revive() {
  Gate forked = Gate::kForked;
  if (!block_->gate.compare_exchange_strong(forked, Gate::kStarting)) return TELEMETRY_OK;
  disown_parent();
  const telemetry_status_t status = start_instance();
  if (status == TELEMETRY_OK) {
    block_->gate.store(Gate::kOpen, std::memory_order_release);
    return TELEMETRY_OK;
  }
  disown_parent();
  block_->gate.store(Gate::kForked, std::memory_order_release);
  return status;
}

telemetry_status_t Client::close(uint32_t deadline_ms, telemetry_stats_t* final_stats) {
  telemetry_status_t status = TELEMETRY_OK;
  if (block_ != nullptr) {
    if (block_->gate.exchange(Gate::kClosing) == Gate::kForked) {
      disown_parent();
    } else {
      const bool settled = wait_until_settled(ring_.head(), deadline_after(deadline_ms));
      status = settled ? TELEMETRY_OK : TELEMETRY_TIMEOUT;
      block_->stop.store(1, std::memory_order_release);
      wake();
      pthread_join(thread_, nullptr);
      const uint64_t settled_events = block_->acknowledged.load() + block_->refused.load();
      block_->lost_shutdown.store(block_->ring.accepted.load() - settled_events);
    }
  }
  if (final_stats != nullptr) stats(*final_stats);
  release_all();
  return status;
}

void Client::release_all() {
  close_if_pipe(wake_read_, pipe_inode_);
  close_if_pipe(wake_write_, pipe_inode_);
  if (window_bytes_ != nullptr) munmap(window_bytes_, window_capacity_);
  if (block_ != nullptr) munmap(block_, kRingOffset + ring_bytes_);
  free(this);
}

}  // namespace telemetryd::client
