// forward/http.h: requests over curl's multi interface, one thread, no callbacks into the unknown.
//
// Whatever a server does, a request ends: connecting, standing still, taking too long and answering
// too much each have a bound. Certificates are always checked and redirects never followed.
//
// Owns:    the curl handles, and with them the connections that are kept for reuse.
// Thread:  the forwarder's; callbacks run inside wait(). wake() is anybody's.
// Limits:  kConnectMax, kBodyBytesMax and kHeaderBytesMax of an answer, HttpRequest::total.

#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace telemetryd::forward {

struct HttpRequest {
  std::string method;  // "GET" or "POST"
  std::string url;
  std::vector<std::string> headers;  // "Name: value"; wiped after use
  std::string body;
  std::filesystem::path ca_file;  // empty: the system's authorities; otherwise only these
  std::filesystem::path client_cert_file;
  std::filesystem::path client_key_file;
  bool plain_http = false;  // http:// may be used
  bool direct = false;      // no proxy, whatever the environment says
  std::chrono::milliseconds stall_max{30000};
  std::chrono::milliseconds total{30000};
};

struct HttpResponse {
  enum class Kind {
    kAnswer,    // status and body are those of the server
    kNetwork,   // no answer, or not the whole of it
    kTls,       // the peer or we did not prove who we are
    kTooLarge,  // the answer was cut off at its bound
    kSetup,     // the request could not be made
  };
  Kind kind = Kind::kNetwork;
  std::string problem;  // plain words, unless kAnswer
  long status = 0;
  std::string body;
  std::string location;
  std::chrono::seconds retry_after{0};
};

class Http {
 public:
  static constexpr std::chrono::milliseconds kConnectMax{10000};
  static constexpr std::size_t kBodyBytesMax = 1u << 20;
  static constexpr std::size_t kHeaderBytesMax = 64u << 10;

  Http();
  // Drops what is under way without calling anybody.
  ~Http();
  Http(const Http&) = delete;
  Http& operator=(const Http&) = delete;

  // `done` is called once, from wait().
  void start(HttpRequest request, std::function<void(HttpResponse)> done);
  std::size_t running() const;

  struct Ready {
    bool readable = false;
    bool writable = false;
  };

  // Sleeps until `fd` (-1: none) is ready or a request moves, and serves the requests.
  Ready wait(int fd, bool until_writable);
  // Ends the sleep of wait(), or its next one. Any thread.
  void wake();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace telemetryd::forward
