#include "telemetry_core/session.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "telemetry_core/descriptor.h"
#include "telemetry_core/ticks.h"

namespace telemetryd::client {
namespace {

bool no_losses(const Losses& losses) {
  return same_losses(losses, Losses{});
}

}  // namespace

void Session::reset(const Hello& hello,
                    uint8_t* window_bytes,
                    size_t window_capacity,
                    uint64_t seed) {
  *this = Session{};
  hello_ = hello;
  window_.attach(window_bytes, window_capacity);
  random_state_ = seed;
}

void Session::close_frame(const NewFrame& made) {
  const uint64_t number = made.number != 0 ? made.number : next_number_;
  window_.close({.number = number,
                 .mark = made.mark,
                 .offset = 0,
                 .bytes = static_cast<uint32_t>(Window::kFrameOverhead) + made.record_bytes,
                 .count = made.count,
                 .commit_now = made.commit_now,
                 .sent_before = false,
                 .refused = false});
  uint8_t* out = window_.bytes_of(window_.at(window_.size() - 1));
  const auto payload = static_cast<uint32_t>(frame::kEventsPrefixBytes) + made.record_bytes;
  frame::encode_header({.length = payload,
                        .type = frame::Type::kEvents,
                        .flags = made.commit_now ? frame::kFlagCommitNow : uint8_t{0}},
                       out);
  frame::encode_events_prefix({.number = number,
                               .count = made.count,
                               .persistence_class = made.persistence_class,
                               .urgency = made.urgency},
                              out + frame::kHeaderBytes);
  next_number_ = number + 1;
  // A repeated import may know from the WELCOME that this number is durable already.
  if (number <= settled_number_) collect();
}

void Session::set_consent(Collection consent, const char* rule) {
  hello_.consent = consent;
  hello_.consent_rule = rule;
}

uint64_t Session::unsent_events() {
  uint64_t events = 0;
  for (size_t i = 0; i < window_.size(); ++i) {
    const Frame& frame = window_.at(i);
    const bool half_sent = connected() && partial_ != 0 && i == sent_;
    if (half_sent) continue;
    if (!frame.sent_before && !frame.refused) events += frame.count;
  }
  return events;
}

void Session::request_commit() {
  if (!window_.empty()) commit_through_ = window_.at(window_.size() - 1).number;
}

void Session::say_goodbye() {
  uint8_t bytes[frame::kHeaderBytes];
  frame::encode_header({.length = 0, .type = frame::Type::kGoodbye, .flags = 0}, bytes);
  queue_control(bytes, sizeof bytes);
}

bool Session::connect(const char* path, uint64_t now) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t size = strnlen(path, sizeof address.sun_path);
  if (size == sizeof address.sun_path) return false;
  memcpy(address.sun_path, path, size + 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  socket_inode_ = inode_of(fd, S_IFSOCK);
  if (socket_inode_ == 0 ||
      ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    close(fd);
    return false;
  }
  fd_ = fd;
  ++counters_.connections;
  ++attempts_;
  retry_at_ = now;
  sent_ = 0;
  partial_ = 0;
  commit_asked_ = 0;
  resume_at_ = 0;
  probe_ = 0;
  reported_ = {};
  input_size_ = 0;
  control_done_ = 0;
  in_flight_max_ = frame::kFramesInFlightMax;
  const uint64_t first = window_.empty() ? next_number_ : window_.at(0).number;
  control_size_ = write_hello_frame(hello_, first, control_);
  return true;
}

// Full jitter: anywhere between nothing and a bound that doubles up to its own bound.
void Session::back_off(uint64_t now) {
  const uint32_t doublings = attempts_ < 8 ? attempts_ : 8;
  uint64_t bound = static_cast<uint64_t>(kBackoffMinMs) << doublings;
  if (bound > kBackoffMaxMs) bound = kBackoffMaxMs;
  if (attempts_ < UINT32_MAX) ++attempts_;
  retry_at_ = now + random() % (bound * kNanosPerMilli);
}

uint64_t Session::random() {
  random_state_ += 0x9e3779b97f4a7c15u;
  return mix64(random_state_);
}

void Session::pump(uint64_t now) {
  if (fd_ < 0) return;
  wants_write_ = false;
  // The app may have closed our descriptor and opened something else under its number.
  const bool ours = still_has_inode(fd_, S_IFSOCK, socket_inode_);
  if (!ours || !read_input(now) || !write_output(now)) lost_connection(now);
}

uint64_t Session::next_timer() const {
  return fd_ >= 0 && resume_at_ != 0 ? resume_at_ : kNever;
}

void Session::lost_connection(uint64_t now) {
  shut_down();
  back_off(now);
}

void Session::shut_down() {
  if (fd_ < 0) return;
  if (still_has_inode(fd_, S_IFSOCK, socket_inode_)) {
    // A forked child may hold a copy; the daemon must see the end of this connection all the same.
    shutdown(fd_, SHUT_RDWR);
    close(fd_);
  }
  fd_ = -1;
  wants_write_ = false;
  welcomed_ = false;
  sent_ = 0;
  partial_ = 0;
  daemon_mode_.known = false;
  collect();
}

void Session::disown() {
  if (still_has_inode(fd_, S_IFSOCK, socket_inode_)) close(fd_);
  fd_ = -1;
}

Session::Sent Session::write_bytes(const uint8_t* data, size_t size, size_t& done) {
  while (done < size) {
    const ssize_t wrote = send(fd_, data + done, size - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (wrote >= 0) {
      done += static_cast<size_t>(wrote);
    } else if (errno == EAGAIN) {
      wants_write_ = true;
      return Sent::kBlocked;
    } else if (errno != EINTR) {
      return Sent::kFailed;
    }
  }
  return Sent::kAll;
}

Session::Sent Session::write_control() {
  const Sent sent = write_bytes(control_, control_size_, control_done_);
  if (sent == Sent::kAll) {
    control_size_ = 0;
    control_done_ = 0;
  }
  return sent;
}

bool Session::queue_control(const uint8_t* data, size_t size) {
  if (size > sizeof control_ - control_size_) return false;
  memcpy(control_ + control_size_, data, size);
  control_size_ += size;
  return true;
}

bool Session::queue_report() {
  if (same_losses(losses_, reported_) || no_losses(losses_)) return false;
  uint8_t bytes[kReportFrameBytesMax];
  if (!queue_control(bytes, write_report_frame(losses_, bytes))) return false;
  reported_ = losses_;
  return true;
}

// Behind the last frame that may go out now. A frame with COMMIT_NOW there says the same already.
bool Session::queue_flush() {
  if (sent_ == 0 || commit_through_ <= commit_asked_) return false;
  const Frame& last = window_.at(sent_ - 1);
  const bool nothing_follows =
      sent_ == window_.size() || sent_ >= in_flight_max_ || (probe_ != 0 && last.number >= probe_);
  if (!nothing_follows || last.number <= commit_asked_) return false;
  commit_asked_ = last.number;
  if (last.commit_now) return false;
  uint8_t bytes[frame::kHeaderBytes];
  frame::encode_header({.length = 0, .type = frame::Type::kFlush, .flags = 0}, bytes);
  return queue_control(bytes, sizeof bytes);
}

Frame* Session::frame_to_send(uint64_t now) {
  if (partial_ == 0) {
    if (resume_at_ != 0) {
      if (now < resume_at_) return nullptr;
      resume_at_ = 0;
      const size_t index = window_.index_of(again_from_);
      if (index < sent_) sent_ = index;
      request_commit();
      commit_asked_ = 0;
    }
    while (sent_ < window_.size() && window_.at(sent_).refused) ++sent_;
  }
  if (sent_ >= window_.size()) return nullptr;
  if (partial_ == 0 && sent_ >= in_flight_max_) return nullptr;
  Frame& frame = window_.at(sent_);
  if (probe_ != 0 && frame.number > probe_ && partial_ == 0) return nullptr;
  return &frame;
}

void Session::frame_sent(Frame& frame) {
  ++counters_.frames_sent;
  if (frame.sent_before) ++counters_.frames_resent;
  frame.sent_before = true;
  if (frame.number > highest_sent_) highest_sent_ = frame.number;
  partial_ = 0;
  ++sent_;
  collect();
}

bool Session::write_output(uint64_t now) {
  for (;;) {
    // Control frames go only between frames, never into the middle of one.
    if (partial_ == 0 && control_size_ != 0) {
      const Sent sent = write_control();
      if (sent != Sent::kAll) return sent == Sent::kBlocked;
    }
    Frame* frame = frame_to_send(now);
    if (frame == nullptr) {
      const bool report = queue_report();
      const bool flush = queue_flush();
      if (!report && !flush) return true;
      continue;
    }
    const Sent sent = write_bytes(window_.bytes_of(*frame), frame->bytes, partial_);
    if (sent != Sent::kAll) return sent == Sent::kBlocked;
    frame_sent(*frame);
  }
}

// Releases what is settled at the front. A frame whose bytes are half written must stay until the
// other half is out, even if the daemon has had it since an earlier connection.
void Session::collect() {
  while (!window_.empty()) {
    Frame& oldest = window_.at(0);
    if (!oldest.refused && oldest.number > settled_number_) return;
    if (sent_ == 0 && partial_ != 0) return;
    if (!oldest.refused) {
      counters_.acknowledged_events += oldest.count;
      ++counters_.acknowledged_frames;
      if (!oldest.sent_before) ++counters_.duplicate_frames;
    }
    settled_mark_ = oldest.mark;
    window_.pop();
    if (sent_ > 0) --sent_;
  }
}

void Session::refuse_all() {
  for (size_t i = 0; i < window_.size(); ++i) refuse_for_good(i);
  partial_ = 0;
  collect();
}

}  // namespace telemetryd::client
