#include "ingest/connection.h"

#include <algorithm>
#include <sys/socket.h>
#include <utility>

#include "base/log.h"
#include "event/event.h"

namespace telemetryd::ingest {
namespace {

using store::StoreThread;

bool breaks_protocol(frame::Code code) {
  return code == frame::Code::kProtocol || code == frame::Code::kVersionUnsupported ||
         code == frame::Code::kFrameTooLarge || code == frame::Code::kDeadline;
}

store::Refusal permanent(frame::Code code, std::string text) {
  return {.code = code, .retryable = false, .retry_after_ms = 0, .text = std::move(text)};
}

// Of what is on its way through the store, when others send too: about what a commit takes without
// being longer than its flush.
constexpr std::uint64_t kShareBytesMax = 256u << 10;

// What a sender may always have read, so that headers are judged and small frames pass when its
// user's other connections keep as much as may be.
constexpr std::size_t kAlwaysReadBytes = 4096;

// A REPORT or a GOODBYE costs a transaction of its own, an event only a part of one.
constexpr std::uint32_t kTransactionCost = 100;

constexpr std::chrono::milliseconds kLookForRoomAfter{100};

// A deadline that is noticed this much too late ran while we did not.
constexpr std::chrono::milliseconds kOversleptBy{1000};

bool peer_is_gone(int fd) {
  char byte = 0;
  return ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

std::string in_ms(std::chrono::milliseconds time) {
  return std::to_string(time.count()) + " ms";
}

}  // namespace

Connection::Connection(Shared& shared, UniqueFd fd, UniqueFd duplicate, const Sender& sender)
    : shared_(shared),
      gateway_(sender.gateway),
      counted_(!sender.gateway),
      uid_(sender.uid),
      channel_(std::make_shared<AckChannel>(shared.loop, std::move(duplicate))),
      reader_(shared.options.frame_bytes_max),
      visit_([this](const FrameReader::Frame& frame) { return take(frame); }),
      stream_(
          shared.loop,
          std::move(fd),
          {.on_data = [this](std::span<const std::uint8_t> bytes) { guard([&] { read(bytes); }); },
           .on_end = [this] { end(); },
           .allowance = [this] { return allowance(); }}) {
  channel_->attach(this);
  arm(shared_.options.hello_deadline);
}

Connection::~Connection() {
  channel_->detach();
  shared_.limits.keep(uid_, kept_bytes_, 0);
}

void Connection::end() {
  if (state_ == State::kStreaming && reader_.waits_for_bytes()) ++shared_.stats.frames_cut_short;
  shared_.finished(*this);
}

bool Connection::over_rate() {
  const auto wait = std::max(shared_.limits.wait(uid_), shared_.app_limits.wait(app_bucket_.get()));
  if (wait.count() > 0) shared_.wake_throttled_after(wait);
  return wait.count() > 0;
}

std::size_t Connection::allowance() {
  if (over_rate()) {
    ++shared_.stats.rate_waits;
    // The time that we make it wait is not the sender's.
    if (deadline_) deadline_->stop();
    hold();
    return 0;
  }
  const std::uint64_t room = shared_.limits.room(uid_);
  const std::size_t kept = reader_.bytes_kept();
  const std::size_t always = kAlwaysReadBytes - std::min(kAlwaysReadBytes, kept);
  if (room + always > 0) return std::max<std::uint64_t>(room, always);
  if (peer_is_gone(stream_.fd())) return 1;  // read on to the end, which gives room
  // The deadline goes on: frames that nobody finishes are what fills the room.
  shared_.wake_throttled_after(kLookForRoomAfter);
  hold();
  return 0;
}

void Connection::hold() {
  held_ = true;
  stream_.pause();
}

void Connection::release() {
  if (over_rate()) return;
  held_ = false;
  stream_.resume();
  if (!deadline_ || deadline_->active()) return;
  if (state_ == State::kHello) {
    arm(shared_.options.hello_deadline);
  } else if (reader_.waits_for_bytes()) {
    arm(shared_.options.frame_deadline);
  }
}

void Connection::note_kept() {
  const std::uint64_t kept = reader_.bytes_kept() + (parked_ ? parked_bytes_ : 0);
  shared_.limits.keep(uid_, kept_bytes_, kept);
  kept_bytes_ = kept;
}

void Connection::read(std::span<const std::uint8_t> bytes) {
  const StoreThread::Burst burst(shared_.store);
  const std::uint64_t frames_before = reader_.frames();
  after_reading(reader_.feed(bytes, visit_), frames_before);
}

void Connection::resume() {
  if (state_ == State::kClosing) return;
  if (held_) release();
  if (!reader_.paused()) return;
  const StoreThread::Burst burst(shared_.store);
  if (parked_) {
    const auto work = std::exchange(parked_, nullptr);
    if (attempt(work) != Next::kContinue) return;
    parked_bytes_ = 0;
    note_kept();
  }
  if (state_ == State::kLookup) return;
  if (over_rate()) return;
  const std::uint64_t frames_before = reader_.frames();
  after_reading(reader_.resume(visit_), frames_before);
}

// Reading follows the reader, and the deadline runs only while a client owes us bytes.
void Connection::after_reading(const std::optional<Problem>& problem, std::uint64_t frames_before) {
  note_kept();
  if (problem) close(problem->code, problem->text);
  if (state_ == State::kClosing) return;
  if (reader_.paused()) {
    stream_.pause();
  } else if (!held_) {
    stream_.resume();
  }
  if (state_ == State::kHello || state_ == State::kLookup) return;
  if (!reader_.waits_for_bytes()) {
    if (deadline_) deadline_->stop();
    return;
  }
  const bool same_frame = deadline_ && deadline_->active() && reader_.frames() == frames_before;
  if (!same_frame) arm(shared_.options.frame_deadline);
}

void Connection::arm(std::chrono::milliseconds deadline) {
  if (!deadline_) {
    deadline_ =
        std::make_unique<loop::Timer>(shared_.loop, [this] { guard([this] { on_deadline(); }); });
  }
  deadline_ms_ = deadline;
  armed_boot_ms_ = shared_.clock.boot_ms();
  deadline_->start_once(deadline);
}

// We were frozen or the machine slept: the time that is over was nobody's to send in, and what came
// since may wait in the socket.
bool Connection::overslept() const {
  const auto passed = std::chrono::milliseconds(shared_.clock.boot_ms() - armed_boot_ms_);
  return passed > deadline_ms_ + kOversleptBy;
}

void Connection::on_deadline() {
  if (state_ != State::kClosing && overslept()) {
    arm(deadline_ms_);
    return;
  }
  switch (state_) {
    case State::kClosing: shared_.finished(*this); return;
    case State::kHello:
      close(frame::Code::kDeadline, "no HELLO within " + in_ms(shared_.options.hello_deadline));
      return;
    case State::kLookup: close(frame::Code::kDiskUnavailable, "the store does not answer"); return;
    case State::kStreaming:
      close(frame::Code::kDeadline,
            held_
                ? "this user's unfinished frames fill the room for them; send again"
                : "a started frame did not arrive within " + in_ms(shared_.options.frame_deadline));
      return;
  }
}

// The deadline now bounds how long we wait for answers to come and for the client to take them.
void Connection::close(frame::Code code, const std::string& text) {
  if (state_ == State::kClosing) return;
  state_ = State::kClosing;
  if (breaks_protocol(code)) ++shared_.stats.protocol_errors;
  log::debug("client_closed", {{"uid", uid_}, {"code", frame::code_name(code)}, {"reason", text}});
  stream_.pause();
  parked_ = nullptr;
  arm(shared_.options.frame_deadline);
  channel_->close_after_answers(code, text);
}

void Connection::stop() {
  close(frame::Code::kStopping, "the daemon is stopping");
}

void Connection::follow_channel() {
  if (channel_->finished()) {
    shared_.finished(*this);
    return;
  }
  if (channel_->blocked()) {
    if (!writable_) {
      writable_ = std::make_unique<loop::Poll>(shared_.loop, channel_->fd(), [this] {
        guard([this] {
          channel_->flush();
          if (!channel_->blocked()) writable_->stop();
        });
      });
    }
    writable_->start(loop::Poll::Until::kWritable);
  }
  resume();
}

Connection::Next Connection::refuse_protocol(frame::Code code, const std::string& text) {
  close(code, text);
  return Next::kStop;
}

Connection::Next Connection::take(const FrameReader::Frame& frame) {
  if (said_goodbye_) return refuse_protocol(frame::Code::kProtocol, "a frame after GOODBYE");
  switch (frame.header.type) {
    case frame::Type::kHello: return take_hello(frame.payload);
    case frame::Type::kEvents: return take_events(frame);
    case frame::Type::kReport: return take_report(frame.payload);
    case frame::Type::kGoodbye: return take_goodbye();
    case frame::Type::kFlush: shared_.store.commit_now(); return Next::kContinue;
    default: return refuse_protocol(frame::Code::kProtocol, "unknown frame type");
  }
}

Connection::Next Connection::take_hello(std::span<const std::uint8_t> payload) {
  if (payload.size() < frame::kHelloPrefixBytes || !frame::hello_magic_matches(payload.data())) {
    return refuse_protocol(frame::Code::kProtocol, "HELLO does not begin with TLMF");
  }
  const std::uint16_t version = frame::hello_version(payload.data());
  if (version != frame::kVersion) {
    return refuse_protocol(frame::Code::kVersionUnsupported,
                           "version " + std::to_string(version) + "; this daemon speaks version " +
                               std::to_string(frame::kVersion));
  }
  auto hello = parse_hello(as_text(payload.subspan(frame::kHelloPrefixBytes)));
  if (!hello) return refuse_protocol(frame::Code::kProtocol, hello.error().message());
  if (!settle_sender(*hello)) return Next::kStop;
  channel_->count_for(shared_.limits.share(uid_, shared_.share_waker));
  app_bucket_ = shared_.app_limits.bucket(uid_, hello->app);
  client_consent_ = hello->consent;
  client_ = std::make_shared<const store::ClientInfo>(
      store::ClientInfo{.key = {.uid = uid_, .instance = hello->instance},
                        .app = std::move(hello->app),
                        .context = std::move(hello->context),
                        .first_frame = hello->first_frame});
  state_ = State::kLookup;
  attempt([this] { return look_up(); });
  return state_ == State::kClosing ? Next::kStop : Next::kPause;
}

bool Connection::settle_sender(const Hello& hello) {
  if (!gateway_) {
    if (!hello.peer_uid) return true;
    ++shared_.stats.peer_uids_refused;
    close(frame::Code::kProtocol, "HELLO: only the gateway may say peer_uid");
    return false;
  }
  shared_.limits.keep(uid_, kept_bytes_, 0);
  kept_bytes_ = 0;
  uid_ = hello.peer_uid.value_or(uid_);
  counted_ = shared_.limits.count_for(uid_) == UidLimits::Admission::kAdmitted;
  if (counted_) return true;
  ++shared_.stats.connections_refused;
  close(frame::Code::kTooManyConnections,
        "connections_per_uid_max is " + std::to_string(shared_.options.connections_per_uid_max));
  return false;
}

Result<void> Connection::look_up() {
  return shared_.store.post(
      [key = client_->key, channel = channel_, &loop = shared_.loop](store::Store& store) {
        auto found = store.high_water(key);
        // When the loop takes no more functions, the HELLO's deadline ends the connection.
        static_cast<void>(loop.post([channel, found = std::move(found)] {
          if (auto* owner = channel->owner()) owner->high_water_known(found);
        }));
      });
}

void Connection::high_water_known(const Result<std::optional<std::uint64_t>>& high_water) {
  guard([&] { welcome(high_water); });
}

void Connection::welcome(const Result<std::optional<std::uint64_t>>& high_water) {
  if (state_ != State::kLookup) return;
  if (!high_water) {
    close(frame::Code::kDiskUnavailable, "the store cannot be read now");
    return;
  }
  state_ = State::kStreaming;
  deadline_.reset();
  decision_ = effective_mode();
  channel_->send_frame(welcome_frame({.decision = decision_,
                                      .high_water = high_water->value_or(0),
                                      .event_bytes_max = shared_.options.event_bytes_max,
                                      .frame_bytes_max = shared_.options.frame_bytes_max}));
  resume();
}

// Off wins, from either side. A client that wants its events kept here while our record lets them
// leave is not served either: once stored they would be sent.
consent::Decision Connection::effective_mode() const {
  const consent::Decision ours = shared_.decide(uid_, client_->app);
  if (ours.mode == consent::Mode::kOff) return ours;
  if (ours.mode == consent::Mode::kUndecided) return {consent::Mode::kOff, ours.rule};
  if (client_consent_ == consent::Mode::kOff) return {consent::Mode::kOff, "client_off"};
  if (client_consent_ == consent::Mode::kLocal && ours.mode == consent::Mode::kOn) {
    return {consent::Mode::kOff, "client_local"};
  }
  return ours;
}

void Connection::refresh_mode() {
  if (state_ != State::kStreaming) return;
  const consent::Decision before = std::exchange(decision_, effective_mode());
  if (before.mode != decision_.mode) channel_->send_frame(mode_frame(decision_));
}

store::Append Connection::append_of(const FrameReader::Frame& frame,
                                    const frame::EventsPrefix& prefix) const {
  store::Append append;
  append.client = client_;
  append.number = prefix.number;
  // What the sender says is in the frame, until it is known better: refused events are counted.
  append.summary.count = std::clamp(prefix.count, 1u, frame::kEventsPerFrameMax);
  if (decision_.mode == consent::Mode::kOff) {
    append.refusal = permanent(frame::Code::kCollectionOff,
                               std::string("collection is off: ") +
                                   (decision_.rule != nullptr ? decision_.rule : "undecided"));
    return append;
  }
  if (frame.discarded) {
    append.refusal = permanent(frame::Code::kFrameTooLarge,
                               "a frame of " + std::to_string(frame.header.length) +
                                   " bytes; frame_bytes_max is " +
                                   std::to_string(shared_.options.frame_bytes_max));
    return append;
  }
  if (prefix.persistence_class > 2 || prefix.urgency > 1) {
    append.refusal = permanent(frame::Code::kInvalidEvent, "unknown class or urgency");
    return append;
  }
  append.persistence_class = static_cast<event::Class>(prefix.persistence_class);
  append.urgency = static_cast<event::Urgency>(prefix.urgency);
  const auto events = as_text(frame.payload.subspan(frame::kEventsPrefixBytes));
  const auto summary = event::validate(events,
                                       append.persistence_class,
                                       append.urgency,
                                       {.event_bytes_max = shared_.options.event_bytes_max});
  if (!summary) {
    append.refusal = permanent(frame::Code::kInvalidEvent, summary.error().message());
  } else if (summary->count != prefix.count) {
    append.refusal = permanent(frame::Code::kInvalidEvent,
                               "the frame says " + std::to_string(prefix.count) +
                                   " events and holds " + std::to_string(summary->count));
  } else {
    append.summary = *summary;
    append.events = events;
  }
  return append;
}

Connection::Next Connection::take_events(const FrameReader::Frame& frame) {
  const frame::EventsPrefix prefix = frame::decode_events_prefix(frame.payload.data());
  if (prefix.number == 0) {
    return refuse_protocol(frame::Code::kProtocol, "frame numbers start at 1");
  }
  store::Append append = append_of(frame, prefix);
  const bool now = (frame.header.flags & frame::kFlagCommitNow) != 0 ||
                   append.urgency == event::Urgency::kUrgent;
  const auto when = now ? StoreThread::Commit::kNow : StoreThread::Commit::kMayDelay;
  const auto wait = charge(append.summary.count, append.events.size());
  const auto submitted = submit(append, when);
  if (!submitted) {
    parked_bytes_ = append.events.size();
    const auto kept = std::make_shared<store::Append>(std::move(append));
    return after_attempt(submitted, [this, kept, when] { return submit(*kept, when); });
  }
  return pause_for(wait);
}

std::chrono::milliseconds Connection::charge(std::uint32_t events, std::uint64_t bytes) {
  return std::max(shared_.limits.charge(uid_, events, bytes),
                  shared_.app_limits.charge(app_bucket_.get(), events));
}

Connection::Next Connection::pause_for(std::chrono::milliseconds wait) {
  if (wait.count() == 0) return Next::kContinue;
  ++shared_.stats.rate_waits;
  shared_.wake_throttled_after(wait);
  return Next::kPause;
}

Result<void> Connection::submit(store::Append& append, StoreThread::Commit when) {
  const std::uint64_t number = append.number;
  const std::uint32_t events = append.refusal ? 0 : append.summary.count;
  const std::uint64_t share_max = shared_.limits.one_uid_alone() ? UINT64_MAX : kShareBytesMax;
  if (!channel_->reserve(number, append.events.size(), share_max)) {
    // It is free again only when what fills it is answered, and somebody may wait for this frame.
    shared_.store.commit_now();
    return fail(ErrorCode::kResourceExhausted, "too much is on its way through the store");
  }
  Result<void> submitted;
  try {
    submitted = shared_.store.submit(std::move(append), channel_, when);
  } catch (const std::bad_alloc&) {
    // The share is the user's, who may have other connections.
    channel_->unreserve(number);
    throw;
  }
  if (!submitted) {
    channel_->unreserve(number);
    return submitted;
  }
  shared_.stats.events_accepted += events;
  if (events != 0) ++shared_.stats.frames_accepted;
  if (shared_.on_work) [[unlikely]] {
    std::exchange(shared_.on_work, nullptr)();
  }
  return {};
}

Connection::Next Connection::attempt(std::function<Result<void>()> work) {
  const auto result = work();
  return after_attempt(result, std::move(work));
}

Connection::Next Connection::after_attempt(const Result<void>& result,
                                           std::function<Result<void>()> again) {
  if (result) return Next::kContinue;
  if (result.error().code() == ErrorCode::kResourceExhausted) {
    parked_ = std::move(again);
    return Next::kPause;
  }
  stop();
  return Next::kStop;
}

Connection::Next Connection::take_report(std::span<const std::uint8_t> payload) {
  auto losses = parse_report(as_text(payload));
  if (!losses) return refuse_protocol(frame::Code::kProtocol, losses.error().message());
  const auto wait = charge(kTransactionCost);
  const Next next = attempt([this, losses = std::move(*losses)] {
    return shared_.store.post([client = client_, losses](store::Store& store) {
      if (const auto done = store.report(*client, losses); !done) {
        log::warn("client_report_failed", {{"error", done.error().message()}});
      }
    });
  });
  return next == Next::kContinue ? pause_for(wait) : next;
}

Connection::Next Connection::take_goodbye() {
  said_goodbye_ = true;
  // Nothing follows that could wait; the next connection of this user does.
  static_cast<void>(charge(kTransactionCost));
  shared_.store.commit_now();
  return attempt([this] {
    return shared_.store.post([key = client_->key](store::Store& store) {
      if (const auto done = store.forget(key); !done) {
        log::warn("client_forget_failed", {{"error", done.error().message()}});
      }
    });
  });
}

}  // namespace telemetryd::ingest
