#include "objection.h"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>

#include "consent/consent.h"

namespace example {
namespace {

namespace consent = telemetryd::consent;

constexpr std::size_t kFileBytesMax = 4096;

struct SmallFile {
  bool missing = false;
  std::optional<std::string> text;  // nothing when it could not be read
};

SmallFile read_small(const std::filesystem::path& path) {
  SmallFile file;
  // A pipe in its place must not keep us waiting.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) {
    file.missing = errno == ENOENT || errno == ENOTDIR;
    return file;
  }
  struct stat info{};
  std::array<char, kFileBytesMax + 1> bytes{};
  const bool regular = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  const ssize_t size = regular ? ::read(fd, bytes.data(), bytes.size()) : -1;
  ::close(fd);
  if (size >= 0 && static_cast<std::size_t>(size) <= kFileBytesMax) {
    file.text = std::string(bytes.data(), static_cast<std::size_t>(size));
  }
  return file;
}

std::filesystem::path absolute(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value == '/' ? value : "";
}

consent::Record record_of(const std::string& tool) {
  std::filesystem::path folder = absolute("XDG_CONFIG_HOME");
  if (folder.empty()) {
    const std::filesystem::path home = absolute("HOME");
    if (home.empty()) return consent::Record::kUnset;
    folder = home / ".config";
  }
  const SmallFile file = read_small(folder / tool / "consent.toml");
  if (file.missing) return consent::Record::kUnset;
  if (!file.text) return consent::Record::kUnreadable;
  return consent::parse_consent_file(file.text->data(), file.text->size());
}

consent::MachinePolicy policy_beside(const std::filesystem::path& socket) {
  const SmallFile file = read_small(socket.parent_path() / "policy");
  if (file.missing) return consent::MachinePolicy::kUnknown;
  if (!file.text) return consent::MachinePolicy::kOff;
  return consent::parse_policy_file(file.text->data(), file.text->size());
}

std::string words_of(std::string_view rule, const std::string& app, const std::string& variable) {
  if (rule == "machine_policy") return "the machine's policy is off";
  if (rule == "tool_variable") return variable + " says so";
  if (rule == "consent_file") return "consent.toml of " + app + " says so";
  if (rule == "all_record") return "consent.toml of telemetryd says so";
  return std::string(rule) + " is set";
}

}  // namespace

std::optional<std::string> objection(const std::string& app, const std::string& socket) {
  std::array<char, consent::kVariableBytesMax> variable{};
  consent::tool_variable_name(app.c_str(), variable.data(), variable.size());
  consent::Inputs inputs;
  inputs.do_not_track = consent::parse_word(std::getenv("DO_NOT_TRACK"));
  inputs.dnt = consent::parse_word(std::getenv("DNT"));
  inputs.tool_variable = consent::parse_word(std::getenv(variable.data()));
  inputs.consent_file = record_of(app);
  inputs.all_record = record_of("telemetryd");
  inputs.machine = policy_beside(socket);
  const consent::Decision decision = consent::decide(inputs);
  const std::string_view rule = decision.rule;
  // Whether somebody opted in is in telemetryd's records, which we do not see.
  const bool may_have_opted_in = rule == "opt_in_default";
  // "local" wants the events kept on this machine, which a sender over gRPC cannot pass on.
  const bool no = decision.mode == consent::Mode::kOff || decision.mode == consent::Mode::kLocal;
  if (!no || may_have_opted_in) return std::nullopt;
  return words_of(rule, app, variable.data());
}

}  // namespace example
