#include "admin/exchange.h"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <new>

#include <microhttpd.h>
#include <nlohmann/json.hpp>

namespace telemetryd::admin {
namespace {

constexpr const char* kJson = "application/json";

unsigned http_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return MHD_HTTP_BAD_REQUEST;
    case ErrorCode::kNotFound: return MHD_HTTP_NOT_FOUND;
    case ErrorCode::kPermissionDenied: return MHD_HTTP_FORBIDDEN;
    case ErrorCode::kFailedPrecondition: return MHD_HTTP_CONFLICT;
    case ErrorCode::kResourceExhausted:
    case ErrorCode::kUnavailable:
    case ErrorCode::kCancelled:
    case ErrorCode::kDeadlineExceeded: return MHD_HTTP_SERVICE_UNAVAILABLE;
    case ErrorCode::kInternal:
    case ErrorCode::kDataLoss:
    case ErrorCode::kUnknownOutcome: return MHD_HTTP_INTERNAL_SERVER_ERROR;
  }
  return MHD_HTTP_INTERNAL_SERVER_ERROR;
}

}  // namespace

std::string error_body(std::string_view code, std::string_view message) {
  // A message may quote what a client sent. Texts only: the library's objects allocate while they
  // are destroyed, which ends the process when there is no memory.
  const auto quoted = [](std::string_view text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  return R"({"error":{"code":)" + quoted(code) + R"(,"message":)" + quoted(message) + "}}\n";
}

Exchange::Exchange(std::shared_ptr<Shared> shared, MHD_Connection* connection, int fd)
    : shared_(std::move(shared)), connection_(connection), fd_(fd) {
  const MutexLock lock(shared_->mutex);
  shared_->open.insert(this);
  id_ = ++shared_->last_id;
}

Exchange::~Exchange() {
  const MutexLock lock(shared_->mutex);
  shared_->open.erase(this);
}

void Exchange::resume() {
  if (!suspended_ || connection_ == nullptr) return;
  suspended_ = false;
  MHD_resume_connection(connection_);
}

bool Exchange::answered() {
  const MutexLock lock(shared_->mutex);
  return answered_;
}

bool Exchange::streaming() {
  const MutexLock lock(shared_->mutex);
  return streaming_;
}

void Exchange::answer(Answer answer) {
  const MutexLock lock(shared_->mutex);
  if (answered_) return;
  answered_ = true;
  answer_ = std::move(answer);
  resume();
}

void Exchange::answer_without_memory() noexcept {
  const MutexLock lock(shared_->mutex);
  if (answered_) return;
  answered_ = true;
  answer_ = {.status = MHD_HTTP_SERVICE_UNAVAILABLE, .content_type = {}, .body = {}};
  resume();
}

void Exchange::begin_stream() {
  {
    const MutexLock lock(shared_->mutex);
    if (answered_) return;
    answered_ = true;
    streaming_ = true;
    resume();
  }
  shared_->on_stream(shared_from_this());
}

bool Exchange::push(std::string line) {
  const MutexLock lock(shared_->mutex);
  if (!streaming_ || ended_ || gone_ || connection_ == nullptr) return false;
  const std::size_t waiting = unsent_.size() - unsent_from_;
  if (waiting + line.size() + 1 > kStreamBytesMax) {
    gone_ = true;
    resume();
    return false;
  }
  if (unsent_from_ > unsent_.size() / 2) {
    unsent_.erase(0, unsent_from_);
    unsent_from_ = 0;
  }
  try {
    unsent_.append(line).append(1, '\n');
  } catch (const std::bad_alloc&) {
    gone_ = true;
  }
  resume();
  return !gone_;
}

void Exchange::end_stream() {
  const MutexLock lock(shared_->mutex);
  ended_ = true;
  resume();
}

bool Exchange::gone() {
  const MutexLock lock(shared_->mutex);
  return gone_ || connection_ == nullptr;
}

void Exchange::hang_up() {
  const MutexLock lock(shared_->mutex);
  gone_ = true;
  resume();
}

UniqueFd Exchange::duplicate() {
  const MutexLock lock(shared_->mutex);
  // The library closes the descriptor only after completed().
  if (connection_ == nullptr) return {};
  return UniqueFd(::fcntl(fd_, F_DUPFD_CLOEXEC, 0));
}

bool Exchange::wait() {
  const MutexLock lock(shared_->mutex);
  if (answered_) return false;
  if (shared_->stopping) {
    answered_ = true;
    answer_ = {MHD_HTTP_SERVICE_UNAVAILABLE, kJson, error_body("cancelled", "stopping")};
    return false;
  }
  suspended_ = true;
  MHD_suspend_connection(connection_);
  return true;
}

Answer Exchange::take() {
  const MutexLock lock(shared_->mutex);
  return std::move(answer_);
}

ssize_t Exchange::read(char* out, std::size_t size) {
  const MutexLock lock(shared_->mutex);
  if (gone_ || shared_->stopping) return MHD_CONTENT_READER_END_WITH_ERROR;
  const std::size_t waiting = unsent_.size() - unsent_from_;
  if (waiting > 0) {
    const std::size_t count = std::min(size, waiting);
    std::memcpy(out, unsent_.data() + unsent_from_, count);
    unsent_from_ += count;
    if (unsent_from_ == unsent_.size()) {
      unsent_.clear();
      unsent_from_ = 0;
    }
    return static_cast<ssize_t>(count);
  }
  if (ended_) return MHD_CONTENT_READER_END_OF_STREAM;
  suspended_ = true;
  MHD_suspend_connection(connection_);
  return 0;
}

void Exchange::completed() {
  const MutexLock lock(shared_->mutex);
  connection_ = nullptr;
  suspended_ = false;
}

void Exchange::stop_all(Shared& shared) {
  const MutexLock lock(shared.mutex);
  shared.stopping = true;
  for (Exchange* exchange : shared.open) {
    if (!exchange->answered_) {
      exchange->answered_ = true;
      exchange->answer_ = {
          MHD_HTTP_SERVICE_UNAVAILABLE, kJson, error_body("cancelled", "stopping")};
    }
    if (exchange->suspended_ && exchange->connection_ != nullptr) {
      exchange->suspended_ = false;
      MHD_resume_connection(exchange->connection_);
    }
  }
}

// The library's side keeps the Exchange, the Replies keep a State: its end without an answer is
// seen.
struct Reply::State {
  explicit State(std::shared_ptr<Exchange> of) : exchange(std::move(of)) {}

  ~State() {
    if (!exchange->answered()) answer_for_the_handler();
    exchange->end_stream();
  }

  State(const State&) = delete;
  State& operator=(const State&) = delete;

  void answer_for_the_handler() const {
    try {
      exchange->answer({MHD_HTTP_INTERNAL_SERVER_ERROR,
                        kJson,
                        error_body(to_string(ErrorCode::kInternal), "no handler answered")});
    } catch (const std::bad_alloc&) {
      exchange->answer_without_memory();
    }
  }

  std::shared_ptr<Exchange> exchange;
};

Reply::Reply(std::shared_ptr<State> state) : state_(std::move(state)) {}

void Reply::json(unsigned status, std::string body) const {
  body += '\n';
  state_->exchange->answer({status, kJson, std::move(body)});
}

void Reply::text(unsigned status, std::string content_type, std::string body) const {
  state_->exchange->answer({status, std::move(content_type), std::move(body)});
}

void Reply::error(const Error& error) const {
  state_->exchange->answer(
      {http_status(error.code()), kJson, error_body(to_string(error.code()), error.message())});
}

void Reply::without_memory() const noexcept {
  state_->exchange->answer_without_memory();
}

void Reply::begin_stream() const {
  state_->exchange->begin_stream();
}

bool Reply::push(std::string line) const {
  return state_->exchange->push(std::move(line));
}

void Reply::end_stream() const {
  state_->exchange->end_stream();
}

bool Reply::gone() const {
  return state_->exchange->gone();
}

Reply make_reply(std::shared_ptr<Exchange> exchange) {
  return Reply(std::make_shared<Reply::State>(std::move(exchange)));
}

}  // namespace telemetryd::admin
