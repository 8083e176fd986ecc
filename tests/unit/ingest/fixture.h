// ingest/fixture.h: a real server on a real socket, and a client that speaks bytes.

#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "frame/frame.h"
#include "ingest/ingest_server.h"
#include "stub_store_thread.h"
#include "support/fake_clock.h"
#include "support/temp_dir.h"

namespace telemetryd::ingest {

inline std::string wire_varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7f) | 0x80);
  return bytes + static_cast<char>(value);
}

inline std::string wire_bytes(std::uint32_t field, const std::string& value) {
  return wire_varint(field << 3 | 2) + wire_varint(value.size()) + value;
}

inline std::string wire_number(std::uint32_t field, std::uint64_t value) {
  return wire_varint(field << 3) + wire_varint(value);
}

inline std::string raw_frame(frame::Type type, const std::string& payload, std::uint8_t flags = 0) {
  std::string bytes(frame::kHeaderBytes, '\0');
  frame::encode_header(
      {.length = static_cast<std::uint32_t>(payload.size()), .type = type, .flags = flags},
      reinterpret_cast<std::uint8_t*>(bytes.data()));
  return bytes + payload;
}

inline const std::string kInstance = "instance-16-byte";

inline std::string hello_message(const std::string& app = "my-tool") {
  return wire_bytes(1, kInstance) + wire_bytes(2, wire_bytes(1, app)) + wire_number(4, 1);
}

inline std::string hello_frame(const std::string& message = hello_message(),
                               std::uint8_t version = 1,
                               const std::string& magic = "TLMF") {
  return raw_frame(frame::Type::kHello,
                   magic + static_cast<char>(version) + std::string(3, '\0') + message);
}

inline std::string event_bytes(const std::string& name = "e") {
  return wire_bytes(1, "0123456789abcdef") + wire_bytes(3, name) +
         "\x29"
         "12345678";
}

inline std::string events_frame(std::uint64_t number,
                                std::uint32_t count = 1,
                                const std::string& name = "e",
                                std::uint8_t flags = 0) {
  std::string payload(frame::kEventsPrefixBytes, '\0');
  frame::encode_events_prefix(
      {.number = number, .count = count, .persistence_class = 0, .urgency = 0},
      reinterpret_cast<std::uint8_t*>(payload.data()));
  for (std::uint32_t i = 0; i < count; ++i) payload += wire_bytes(1, event_bytes(name));
  return raw_frame(frame::Type::kEvents, payload, flags);
}

// A frame that the daemon sent, or the end of the connection.
struct Answer {
  frame::Type type{};
  std::string payload;

  const std::uint8_t* bytes() const {
    return reinterpret_cast<const std::uint8_t*>(payload.data());
  }

  std::uint64_t number() const { return frame::get_u64(bytes()); }

  frame::Refuse refusal() const { return frame::decode_refuse_prefix(bytes()); }

  // Of CLOSING.
  frame::Code code() const { return static_cast<frame::Code>(frame::get_u16(bytes())); }

  // Behind the fixed part; those of REFUSE are 16 bytes, all others 8.
  std::string text() const { return payload.substr(type == frame::Type::kRefuse ? 16 : 8); }
};

class Client {
 public:
  explicit Client(const std::string& path) : fd_(std::move(*loop::connect_unix(path))) {}

  const UniqueFd& fd() const { return fd_; }

  void close() { fd_.reset(); }

  // What the socket takes now; returns the number of bytes.
  std::size_t send_some(std::string_view bytes) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    return sent > 0 ? static_cast<std::size_t>(sent) : 0;
  }

  void send(std::string_view bytes) { ASSERT_EQ(send_some(bytes), bytes.size()); }

  // The next whole frame that has arrived.
  std::optional<Answer> next() {
    receive();
    if (buffer_.size() < frame::kHeaderBytes) return std::nullopt;
    const auto header = frame::decode_header(reinterpret_cast<const std::uint8_t*>(buffer_.data()));
    const std::size_t size = frame::kHeaderBytes + header.length;
    if (buffer_.size() < size) return std::nullopt;
    Answer answer{header.type, buffer_.substr(frame::kHeaderBytes, header.length)};
    buffer_.erase(0, size);
    return answer;
  }

  bool at_end() {
    receive();
    return ended_ && buffer_.empty();
  }

 private:
  void receive() {
    char bytes[65536];
    for (;;) {
      const ssize_t got = ::recv(fd_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
      if (got > 0) {
        buffer_.append(bytes, static_cast<std::size_t>(got));
        continue;
      }
      ended_ = ended_ || got == 0 || (errno != EAGAIN && errno != EINTR);
      return;
    }
  }

  UniqueFd fd_;
  std::string buffer_;
  bool ended_ = false;
};

class Ingest : public testing::Test {
 protected:
  ~Ingest() override {
    server.reset();
    store.reset();
  }

  void start() {
    store = std::make_unique<store::StoreThread>(std::make_unique<test::StubStore>(),
                                                 store::StoreThreadOptions{},
                                                 store::StoreThread::Hooks{});
    server = std::make_unique<IngestServer>(
        loop,
        std::move(*loop::listen_unix(path(), 0600, 64)),
        *store,
        clock,
        [this](std::uint32_t, std::string_view) { return decision; },
        options);
  }

  std::string path() { return dir / "ingest.sock"; }

  test::StubStore& stub() { return test::StubStore::current(); }

  void serve_until(const std::function<bool()>& happened) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!happened()) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "it never happened";
      loop.poll();
      std::this_thread::yield();
    }
  }

  // Turns enough for everything that is ready to be served; nothing here waits for time.
  void serve() {
    for (int i = 0; i < 20; ++i) loop.poll();
  }

  Answer answer_of(Client& client) {
    std::optional<Answer> answer;
    serve_until([&] { return (answer = client.next()).has_value() || client.at_end(); });
    EXPECT_TRUE(answer) << "the connection ended without an answer";
    return answer.value_or(Answer{});
  }

  std::unique_ptr<Client> connect() { return std::make_unique<Client>(path()); }

  std::unique_ptr<Client> welcomed() {
    auto client = connect();
    client->send(hello_frame());
    EXPECT_EQ(answer_of(*client).type, frame::Type::kWelcome);
    return client;
  }

  void expect_closing(Client& client, frame::Code code, const std::string& part_of_text) {
    const Answer answer = answer_of(client);
    ASSERT_EQ(answer.type, frame::Type::kClosing);
    EXPECT_EQ(answer.code(), code);
    EXPECT_NE(answer.text().find(part_of_text), std::string::npos) << answer.text();
    serve_until([&] { return client.at_end(); });
  }

  std::vector<std::uint64_t> submitted_numbers() {
    std::vector<std::uint64_t> numbers;
    for (const auto& each : stub().submitted) numbers.push_back(each.append.number);
    return numbers;
  }

  test::TempDir dir;
  loop::Loop loop;
  test::FakeClock clock;
  Options options;
  consent::Decision decision{consent::Mode::kOn, "app_record"};
  std::unique_ptr<store::StoreThread> store;
  std::unique_ptr<IngestServer> server;
};

}  // namespace telemetryd::ingest
