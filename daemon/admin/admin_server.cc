#include "admin/admin_server.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <map>
#include <new>
#include <optional>
#include <pthread.h>
#include <sys/socket.h>

#include <microhttpd.h>

#include "admin/door.h"
#include "admin/exchange.h"
#include "admin/peer.h"

namespace telemetryd::admin {
namespace {

constexpr unsigned kConnectionsMax = 64;
constexpr unsigned kConnectionsOfOthersMax = 48;  // of all who are no admins
constexpr unsigned kConnectionsPerUidMax = 16;
constexpr unsigned kInactivitySeconds = 10;
constexpr std::size_t kThreadStack = 256u << 10;
constexpr std::size_t kConnectionMemory = 32u << 10;
constexpr std::uint64_t kBodyBytesMax = 64u << 10;
constexpr const char* kJson = "application/json";

// What a connection keeps for its requests.
struct Guest {
  Peer peer;
  int fd = -1;
  bool refused = false;
};

// What the library keeps for a request.
struct Request {
  const Route* route = nullptr;
  Call call;
  std::shared_ptr<Exchange> exchange;
  bool posted = false;
};

std::optional<std::uint64_t> parse_length(const char* text) {
  std::uint64_t value = 0;
  if (*text == '\0') return std::nullopt;
  for (; *text != '\0'; ++text) {
    if (*text < '0' || *text > '9' || value > kBodyBytesMax * 10) return std::nullopt;
    value = value * 10 + static_cast<std::uint64_t>(*text - '0');
  }
  return value;
}

// Signals are the loop thread's.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }

  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_{};
};

// Streams' connections, watched for their readers' end: while such a connection is suspended the
// library does not look at it. Loop thread.
class Watches {
 public:
  explicit Watches(loop::Loop& loop) : loop_(loop) {}

  void add(const std::shared_ptr<Exchange>& exchange) {
    Watch watch{exchange->duplicate(), exchange, {}};
    if (!watch.fd) return;
    const std::uint64_t id = exchange->id();
    watch.poll = std::make_unique<loop::Poll>(loop_, watch.fd.get(), [this, id] { ready(id); });
    watch.poll->start(loop::Poll::Until::kReadable);
    watches_.insert_or_assign(id, std::move(watch));
  }

  void remove(std::uint64_t id) { watches_.erase(id); }

 private:
  struct Watch {
    UniqueFd fd;
    std::weak_ptr<Exchange> exchange;
    std::unique_ptr<loop::Poll> poll;
  };

  void ready(std::uint64_t id) {
    const auto found = watches_.find(id);
    if (found == watches_.end()) return;
    char byte = 0;
    const ssize_t got = ::recv(found->second.fd.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got > 0) {
      // A further request, which waits for the stream's end; it would be readable for ever.
      found->second.poll->stop();
      return;
    }
    if (const auto exchange = found->second.exchange.lock()) exchange->hang_up();
    watches_.erase(found);
  }

  loop::Loop& loop_;
  std::map<std::uint64_t, Watch> watches_;
};

void queue(MHD_Connection* connection, MHD_Response* response, unsigned status, const char* type) {
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
  MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
  MHD_queue_response(connection, status, response);
  MHD_destroy_response(response);
}

MHD_Result respond(MHD_Connection* connection, const Answer& answer) {
  // The library copies, and promises not to write.
  MHD_Response* response =
      MHD_create_response_from_buffer(answer.body.size(),
                                      const_cast<char*>(answer.body.data()),  // NOLINT
                                      MHD_RESPMEM_MUST_COPY);
  if (response == nullptr) return MHD_NO;
  queue(connection, response, answer.status, answer.content_type.c_str());
  return MHD_YES;
}

MHD_Result refuse(MHD_Connection* connection,
                  unsigned status,
                  std::string_view code,
                  std::string_view message) {
  return respond(connection, {status, kJson, error_body(code, message)});
}

MHD_Result respond_without_memory(MHD_Connection* connection) {
  static std::string body =
      R"({"error":{"code":"unavailable","message":"no memory for this request; try again"}})"
      "\n";
  MHD_Response* response =
      MHD_create_response_from_buffer(body.size(), body.data(), MHD_RESPMEM_PERSISTENT);
  if (response == nullptr) return MHD_NO;
  MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
  queue(connection, response, MHD_HTTP_SERVICE_UNAVAILABLE, kJson);
  return MHD_YES;
}

ssize_t read_stream(void* exchange, std::uint64_t /*position*/, char* out, std::size_t size) {
  return (*static_cast<std::shared_ptr<Exchange>*>(exchange))->read(out, size);
}

void free_stream(void* exchange) {
  delete static_cast<std::shared_ptr<Exchange>*>(exchange);
}

MHD_Result respond_stream(MHD_Connection* connection, const std::shared_ptr<Exchange>& exchange) {
  constexpr std::size_t kBlock = 4096;
  MHD_Response* response = MHD_create_response_from_callback(
      MHD_SIZE_UNKNOWN, kBlock, read_stream, new std::shared_ptr<Exchange>(exchange), free_stream);
  if (response == nullptr) return MHD_NO;
  queue(connection, response, MHD_HTTP_OK, "application/x-ndjson");
  return MHD_YES;
}

}  // namespace

struct AdminServer::Impl {
  Impl(loop::Loop& on, std::string group, std::vector<Route> all)
      : loop(on), admin_group(std::move(group)), routes(std::move(all)) {}

  ~Impl() {
    if (daemon == nullptr) return;
    Exchange::stop_all(*shared);
    MHD_stop_daemon(daemon);
  }

  // The library closes the descriptor, also when it cannot take it.
  bool let_in(UniqueFd connection) {
    const sockaddr address{.sa_family = AF_UNIX, .sa_data = {}};
    return MHD_add_connection(daemon, connection.release(), &address, sizeof address.sa_family) ==
           MHD_YES;
  }

  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // The library's callbacks, on its thread.
  static void on_connection(void* self,
                            MHD_Connection* connection,
                            void** context,
                            MHD_ConnectionNotificationCode code) {
    auto& impl = *static_cast<Impl*>(self);
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
      try {
        *context = impl.arrive(connection);
      } catch (const std::bad_alloc&) {
        *context = nullptr;  // begin() refuses whoever is not known
      }
    } else {
      impl.leave(static_cast<Guest*>(*context));
      impl.door->left();
    }
  }

  static MHD_Result on_request(void* self,
                               MHD_Connection* connection,
                               const char* url,
                               const char* method,
                               const char* /*version*/,
                               const char* data,
                               std::size_t* size,
                               void** context) {
    auto& impl = *static_cast<Impl*>(self);
    auto*& request = reinterpret_cast<Request*&>(*context);
    const bool in_the_body = *size > 0;
    try {
      if (request == nullptr) return impl.begin(connection, url, method, request);
      if (in_the_body) return take_body(*request, data, size);
      return impl.go_on(connection, *request);
    } catch (const std::bad_alloc&) {
      // The library takes no answer in the middle of a body.
      return in_the_body ? MHD_NO : respond_without_memory(connection);
    }
  }

  static MHD_Result take_body(Request& request, const char* data, std::size_t* size) {
    if (request.call.body.size() + *size > kBodyBytesMax) return MHD_NO;
    request.call.body.append(data, *size);
    *size = 0;
    return MHD_YES;
  }

  static void on_completed(void* self,
                           MHD_Connection* /*connection*/,
                           void** context,
                           MHD_RequestTerminationCode /*code*/) {
    const std::unique_ptr<Request> request(static_cast<Request*>(*context));
    if (request == nullptr) return;
    *context = nullptr;
    request->exchange->completed();
    if (!request->exchange->streaming()) return;
    auto& impl = *static_cast<Impl*>(self);
    try {
      (void)impl.loop.post([watches = std::weak_ptr(impl.watches), id = request->exchange->id()] {
        if (const auto alive = watches.lock()) alive->remove(id);
      });
    } catch (const std::bad_alloc&) {
      // The watch sees the end of the connection itself.
    }
  }

  Guest* arrive(MHD_Connection* connection) {
    if (!named) pthread_setname_np(pthread_self(), "tlm-admin");
    named = true;
    auto guest = std::make_unique<Guest>();
    const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    guest->fd = info == nullptr ? -1 : info->connect_fd;
    const Result<Peer> peer = peer_of(guest->fd, admin_group);
    guest->refused = !peer;
    if (peer) {
      guest->peer = *peer;
      unsigned& others = peer->admin ? unbounded : of_others;
      const bool room = of_uid[peer->uid] < kConnectionsPerUidMax &&
                        (peer->admin || others < kConnectionsOfOthersMax);
      guest->refused = !room;
      if (room) {
        ++of_uid[peer->uid];
        ++others;
      }
    }
    if (guest->refused) turn_away(guest->fd);
    return guest.release();
  }

  // Says why and ends the connection at once, so that it holds no place.
  static void turn_away(int fd) {
    const std::string body = error_body("resource_exhausted", "too many connections");
    const std::string text =
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: "
        "application/json\r\nContent-Length: " +
        std::to_string(body.size()) + "\r\n\r\n" + body;
    (void)::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    ::shutdown(fd, SHUT_RDWR);
  }

  void leave(Guest* guest) {
    if (guest != nullptr && !guest->refused) {
      if (--of_uid[guest->peer.uid] == 0) of_uid.erase(guest->peer.uid);
      --(guest->peer.admin ? unbounded : of_others);
    }
    delete guest;
  }

  // The headers are here, the body is not: everything that can be refused is refused now.
  MHD_Result begin(MHD_Connection* connection,
                   const char* url,
                   const char* method,
                   Request*& request) {
    const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    const auto* guest = info == nullptr ? nullptr : static_cast<Guest*>(info->socket_context);
    if (guest == nullptr || guest->refused) return MHD_NO;

    const auto at_path = [&](const Route& route) { return route.path == url; };
    const auto route = std::ranges::find_if(
        routes, [&](const Route& r) { return at_path(r) && r.method == method; });
    if (route == routes.end()) {
      return std::ranges::any_of(routes, at_path)
                 ? refuse(connection,
                          MHD_HTTP_METHOD_NOT_ALLOWED,
                          "invalid_argument",
                          "this path does not take that method")
                 : refuse(connection, MHD_HTTP_NOT_FOUND, "not_found", "no such path");
    }
    if (route->access == Access::kAdmin && !guest->peer.admin) {
      return refuse(connection,
                    MHD_HTTP_FORBIDDEN,
                    "permission_denied",
                    "needs root, the daemon's user or a member of group " + admin_group);
    }
    if (header(connection, MHD_HTTP_HEADER_TRANSFER_ENCODING) != nullptr) {
      return refuse(connection,
                    MHD_HTTP_BAD_REQUEST,
                    "invalid_argument",
                    "a body needs a Content-Length here");
    }
    const char* length = header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (length != nullptr && parse_length(length).value_or(kBodyBytesMax + 1) > kBodyBytesMax) {
      return refuse(connection,
                    MHD_HTTP_CONTENT_TOO_LARGE,
                    "resource_exhausted",
                    "the body may have " + std::to_string(kBodyBytesMax) + " bytes");
    }
    auto made = std::make_unique<Request>();
    made->route = &*route;
    made->call = {.peer = guest->peer, .method = method, .path = url, .query = {}, .body = {}};
    Arguments arguments{.query = made->call.query};
    MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, add_argument, &arguments);
    if (arguments.incomplete) return respond_without_memory(connection);
    made->exchange = std::make_shared<Exchange>(shared, connection, guest->fd);
    request = made.release();
    return MHD_YES;
  }

  static const char* header(MHD_Connection* connection, const char* name) {
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
  }

  struct Arguments {
    std::map<std::string, std::string>& query;
    bool incomplete = false;
  };

  static MHD_Result add_argument(void* to,
                                 MHD_ValueKind /*kind*/,
                                 const char* key,
                                 const char* value) {
    auto& arguments = *static_cast<Arguments*>(to);
    try {
      arguments.query[key] = value == nullptr ? "" : value;
      return MHD_YES;
    } catch (const std::bad_alloc&) {
      arguments.incomplete = true;  // the library is in between
      return MHD_NO;
    }
  }

  // The whole request is here, or its answer: the library calls again after a resumption.
  MHD_Result go_on(MHD_Connection* connection, Request& request) {
    if (!request.posted) {
      request.posted = true;
      if (request.exchange->wait()) {
        hand_over(request);
        return MHD_YES;
      }
    }
    const Answer answer = request.exchange->take();
    if (answer.status != 0 && answer.content_type.empty()) {
      return respond_without_memory(connection);
    }
    return answer.status == 0 ? respond_stream(connection, request.exchange)
                              : respond(connection, answer);
  }

  void hand_over(Request& request) {
    // Its end without an answer is an answer too, so it ends last.
    std::optional<Reply> reply;
    try {
      reply = make_reply(request.exchange);
      const Route* route = request.route;
      const Result<void> posted = loop.post(
          [route, call = std::move(request.call), to = *reply, alive = std::weak_ptr(watches)] {
            // The routes are gone with the server; the reply then says so by itself.
            if (!alive.expired()) handle(*route, call, to);
          });
      if (!posted) reply->error(posted.error());
    } catch (const std::bad_alloc&) {
      request.exchange->answer_without_memory();
    }
  }

  // A handler that only reads can end anywhere. Of one that changes something half may be done: the
  // process ends there, and starts again from what is on the disk.
  static void handle(const Route& route, const Call& call, const Reply& reply) {
    if (route.method != "GET") return handle_whole(route, call, reply);
    try {
      route.handle(call, reply);
    } catch (const std::bad_alloc&) {
      reply.without_memory();
    }
  }

  static void handle_whole(const Route& route, const Call& call, const Reply& reply) noexcept {
    route.handle(call, reply);
  }

  loop::Loop& loop;
  const std::string admin_group;
  const std::vector<Route> routes;
  std::shared_ptr<Shared> shared = std::make_shared<Shared>();
  std::shared_ptr<Watches> watches = std::make_shared<Watches>(loop);
  MHD_Daemon* daemon = nullptr;
  std::unique_ptr<Door> door;

  // HTTP thread only.
  bool named = false;
  std::map<std::uint32_t, unsigned> of_uid;
  unsigned of_others = 0;
  unsigned unbounded = 0;
};

AdminServer::AdminServer() = default;
AdminServer::~AdminServer() = default;

Result<std::unique_ptr<AdminServer>> AdminServer::start(loop::Loop& loop,
                                                        UniqueFd listening,
                                                        std::string admin_group,
                                                        std::vector<Route> routes) {
  std::unique_ptr<AdminServer> server(new AdminServer);
  server->impl_ = std::make_unique<Impl>(loop, std::move(admin_group), std::move(routes));
  Impl* impl = server->impl_.get();
  impl->shared->on_stream =
      [&loop, watches = std::weak_ptr(impl->watches)](const std::shared_ptr<Exchange>& exchange) {
        (void)loop.post([watches, exchange] {
          try {
            if (const auto alive = watches.lock()) alive->add(exchange);
          } catch (const std::bad_alloc&) {
            exchange->hang_up();  // unwatched it would stay for ever
          }
        });
      };
  const BlockedSignals blocked;
  impl->daemon = MHD_start_daemon(
      MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET,
      0,
      nullptr,
      nullptr,
      &Impl::on_request,
      impl,
      MHD_OPTION_CONNECTION_LIMIT,
      2 * kConnectionsMax,  // the door counts, and a little later
      MHD_OPTION_CONNECTION_TIMEOUT,
      kInactivitySeconds,
      MHD_OPTION_CONNECTION_MEMORY_LIMIT,
      kConnectionMemory,
      MHD_OPTION_THREAD_STACK_SIZE,
      kThreadStack,
      MHD_OPTION_NOTIFY_CONNECTION,
      &Impl::on_connection,
      impl,
      MHD_OPTION_NOTIFY_COMPLETED,
      &Impl::on_completed,
      impl,
      MHD_OPTION_END);
  if (impl->daemon == nullptr) {
    return fail(ErrorCode::kUnavailable, "the HTTP library could not start on the admin socket");
  }
  impl->door = std::make_unique<Door>(
      loop, std::move(listening), kConnectionsMax, [impl](UniqueFd connection) {
        return impl->let_in(std::move(connection));
      });
  return server;
}

}  // namespace telemetryd::admin
