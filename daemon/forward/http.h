// forward/http.h: requests over curl's multi interface, one thread, no callbacks into the unknown.
//
// Whatever a server does, a request ends: looking up its name and connecting, standing still,
// taking too long and answering too much each have a bound, and bytes that nobody acknowledges end
// a connection. One that was in doubt is not used again, nor one with a certificate of ours that
// was renewed since. Certificates are always checked and redirects never followed.
//
// Owns:    the curl handles, and with them the connections that are kept for reuse; certificates.
// Thread:  the forwarder's; callbacks run inside wait(). wake() is anybody's.
// Limits:  kConnectMax, kBodyBytesMax and kHeaderBytesMax of an answer, HttpRequest::total.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <poll.h>
#include <span>
#include <string>
#include <vector>

#include <climits>

#include "base/secret.h"
#include "forward/pem_files.h"
#include "telemetry/v1/lease.pb.h"

namespace telemetryd::forward {

namespace v1 = ::telemetry::v1;

struct HttpRequest {
  std::string method;  // "GET" or "POST"
  std::string url;
  std::vector<std::string> headers;  // "Name: value"; wiped after use
  std::string body;
  std::shared_ptr<const Pem> pem;  // none: the system's authorities, no certificate of ours
  bool plain_http = false;         // http:// may be used
  std::string proxy;               // "http://host:port"; empty: as the environment says
  Secret proxy_credentials;        // "user:password"; empty: none
  bool direct = false;             // no proxy, whatever the environment says
  std::chrono::milliseconds stall_max{30000};
  std::chrono::milliseconds total{30000};
  std::int64_t now_s = 0;  // our clock, in seconds since the epoch
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
  std::string problem;                      // plain words, unless kAnswer
  v1::Cause cause = v1::CAUSE_UNSPECIFIED;  // unless kAnswer
  long status = 0;
  std::string body;
  std::string content_type;
  std::string location;
  bool elsewhere = false;  // `location` is another host's
  std::chrono::seconds retry_after{0};
  std::optional<std::chrono::seconds> clock_ahead;  // our clock, of the server's Date
  std::vector<v1::Mute> mutes;
  std::int64_t certificate_expires_s = 0;  // of ours, since the epoch; 0: none
};

class Http {
 public:
  static constexpr std::chrono::milliseconds kConnectMax{10000};
  static constexpr std::size_t kBodyBytesMax = 1u << 20;
  static constexpr std::size_t kHeaderBytesMax = 64u << 10;
  static constexpr std::chrono::milliseconds kForever{INT_MAX};

  Http();
  // Drops what is under way without calling anybody.
  ~Http();
  Http(const Http&) = delete;
  Http& operator=(const Http&) = delete;

  // `done` is called once, from wait().
  void start(HttpRequest request, std::function<void(HttpResponse)> done);
  std::size_t running() const;

  // What requests to all destinations share.
  PemFiles& pem_files();

  struct Ready {
    bool readable = false;
    bool writable = false;
  };

  // Sleeps until `fd` (-1: none) or one of `others` is ready, a request moves or `at_most` is over,
  // and serves the requests. What became of the others their owners find out.
  Ready wait(int fd,
             bool until_writable,
             std::span<const pollfd> others = {},
             std::chrono::milliseconds at_most = kForever);
  // Ends the sleep of wait(), or its next one. Any thread.
  void wake();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace telemetryd::forward
