#include "telemetry_core/surroundings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace telemetryd::client {
namespace {

constexpr size_t kPathBytesMax = 4096;
constexpr char kSystemSocket[] = "/run/telemetryd/ingest.sock";
constexpr char kUserSocket[] = "/telemetryd/ingest.sock";

// A text built piece by piece; remembers when a piece did not fit.
class Path {
 public:
  Path(char* out, size_t size) : out_(out), size_(size) { out_[0] = '\0'; }

  Path& add(const char* piece) { return add(piece, strlen(piece)); }

  Path& add(const char* piece, size_t length) {
    if (length >= size_ - used_) {
      fits_ = false;
      return *this;
    }
    memcpy(out_ + used_, piece, length);
    used_ += length;
    out_[used_] = '\0';
    return *this;
  }

  bool fits() const { return fits_; }

 private:
  char* out_;
  size_t size_;
  size_t used_ = 0;
  bool fits_ = true;
};

enum class FileState { kMissing, kRead, kUnreadable };

FileState read_small_file(const char* path, char* out, size_t& size) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0)
    return errno == ENOENT || errno == ENOTDIR ? FileState::kMissing : FileState::kUnreadable;
  size = 0;
  ssize_t got = 0;
  do {
    got = read(fd, out + size, kSmallFileBytesMax + 1 - size);
    if (got > 0) size += static_cast<size_t>(got);
  } while ((got > 0 && size <= kSmallFileBytesMax) || (got < 0 && errno == EINTR));
  close(fd);
  return got < 0 || size > kSmallFileBytesMax ? FileState::kUnreadable : FileState::kRead;
}

bool add_socket(Surroundings& out, const char* folder, const char* name) {
  Path path(out.sockets[out.socket_count], kSocketPathBytesMax);
  path.add(folder).add(name);
  if (path.fits()) ++out.socket_count;
  return path.fits();
}

// A setuid program must not be led to a socket by whoever called it.
bool find_sockets(const char* socket_path, Surroundings& out) {
  if (socket_path != nullptr) return *socket_path != '\0' && add_socket(out, socket_path, "");
  const char* named = secure_getenv("TELEMETRYD_SOCKET");
  if (named != nullptr && *named != '\0') {
    add_socket(out, named, "");
    return true;
  }
  add_socket(out, kSystemSocket, "");
  const char* runtime = secure_getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && *runtime == '/') add_socket(out, runtime, kUserSocket);
  return true;
}

consent::Record read_consent_file(const char* app) {
  char path_text[kPathBytesMax];
  Path path(path_text, sizeof path_text);
  const char* config = secure_getenv("XDG_CONFIG_HOME");
  const char* home = secure_getenv("HOME");
  if (config != nullptr && *config == '/') {
    path.add(config);
  } else if (home != nullptr && *home == '/') {
    path.add(home).add("/.config");
  } else {
    return consent::Record::kUnset;
  }
  path.add("/").add(app).add("/consent.toml");
  if (!path.fits()) return consent::Record::kUnreadable;
  char text[kSmallFileBytesMax + 1];
  size_t size = 0;
  switch (read_small_file(path_text, text, size)) {
    case FileState::kMissing: return consent::Record::kUnset;
    case FileState::kUnreadable: return consent::Record::kUnreadable;
    case FileState::kRead: return consent::parse_consent_file(text, size);
  }
  return consent::Record::kUnreadable;
}

consent::MachinePolicy read_policy(const char* socket_path) {
  char path_text[kSocketPathBytesMax + 8];
  Path path(path_text, sizeof path_text);
  const char* slash = strrchr(socket_path, '/');
  if (slash != nullptr) path.add(socket_path, static_cast<size_t>(slash + 1 - socket_path));
  path.add("policy");
  char text[kSmallFileBytesMax + 1];
  size_t size = 0;
  switch (read_small_file(path_text, text, size)) {
    case FileState::kMissing: return consent::MachinePolicy::kUnknown;
    case FileState::kUnreadable: return consent::MachinePolicy::kOff;
    case FileState::kRead: return consent::parse_policy_file(text, size);
  }
  return consent::MachinePolicy::kOff;
}

}  // namespace

bool read_surroundings(const char* app, const char* socket_path, Surroundings& out) {
  out = Surroundings{};
  if (!find_sockets(socket_path, out)) return false;
  char variable[consent::kVariableBytesMax];
  consent::tool_variable_name(app, variable, sizeof variable);
  out.inputs.do_not_track = consent::parse_word(getenv("DO_NOT_TRACK"));
  out.inputs.dnt = consent::parse_word(getenv("DNT"));
  out.inputs.tool_variable = consent::parse_word(getenv(variable));
  out.inputs.consent_file = read_consent_file(app);
  // The user's word for all tools, where telemetryctl keeps it.
  out.inputs.all_record = read_consent_file("telemetryd");
  return true;
}

consent::Decision decide_at(const Surroundings& surroundings, size_t index) {
  consent::Inputs inputs = surroundings.inputs;
  inputs.machine = read_policy(surroundings.sockets[index]);
  return consent::decide(inputs);
}

consent::Decision decide_first(const Surroundings& surroundings) {
  consent::Inputs inputs = surroundings.inputs;
  for (size_t i = 0; i < surroundings.socket_count; ++i) {
    inputs.machine = read_policy(surroundings.sockets[i]);
    if (inputs.machine != consent::MachinePolicy::kUnknown) break;
  }
  return consent::decide(inputs);
}

}  // namespace telemetryd::client
