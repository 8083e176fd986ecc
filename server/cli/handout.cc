#include "server/cli/handout.h"

#include <algorithm>
#include <cstdio>
#include <unistd.h>
#include <utility>

#include "base/io.h"

namespace telemetryd::server {
namespace {

// The url goes into TOML between quotes and is the base of a path.
Result<void> check_url(const std::string& url) {
  const bool scheme = url.starts_with("http://") || url.starts_with("https://");
  const bool plain = std::ranges::all_of(
      url, [](char c) { return c > ' ' && c < '\x7f' && c != '"' && c != '\\'; });
  if (scheme && plain && !url.ends_with('/')) return {};
  return fail(ErrorCode::kInvalidArgument,
              "--url must be what daemons reach this server by, such as "
              "https://telemetry.example.org, without a slash at its end");
}

Result<void> check_absent(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  return fail(ErrorCode::kFailedPrecondition,
              path.native() + " exists already; move it away or give another --out-dir");
}

// As the daemon decides it: plain HTTP to anywhere else needs the word of its admin.
bool is_plain_to_another_machine(const std::string& url) {
  constexpr std::string_view kPlain = "http://";
  if (!url.starts_with(kPlain)) return false;
  std::string host = url.substr(kPlain.size());
  host = host.substr(0, host.find('/'));
  if (host.starts_with("[")) return host.substr(0, host.find(']') + 1) != "[::1]";
  host = host.substr(0, host.find(':'));
  const bool loopback_quad = host.starts_with("127.") &&
                             host.find_first_not_of("0123456789.") == std::string::npos &&
                             std::ranges::count(host, '.') == 3;
  return host != "localhost" && !loopback_quad;
}

std::string toml_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

}  // namespace

Result<Handout> Handout::prepare(const HandoutOptions& options,
                                 const Application& application,
                                 NewToken token) {
  TELEMETRYD_TRY(check_url(options.url));
  Handout handout(options, application, std::move(token));
  const std::string stem = application.organization + "-" + application.name;
  std::filesystem::path folder = "/etc/telemetryd/credentials";
  if (!options.out_dir.empty()) {
    folder = std::filesystem::absolute(options.out_dir).lexically_normal();
  }
  handout.token_file_ = folder / (stem + ".token");
  handout.secret_file_ = folder / (stem + ".secret");
  if (!options.out_dir.empty()) TELEMETRYD_TRY(handout.write_files());
  return handout;
}

Handout::Handout(Handout&& other) noexcept
    : options_(std::move(other.options_)),
      application_(std::move(other.application_)),
      token_(std::move(other.token_)),
      token_file_(std::move(other.token_file_)),
      secret_file_(std::move(other.secret_file_)),
      written_(std::exchange(other.written_, false)),
      shown_(other.shown_) {}

Handout::~Handout() {
  if (!written_ || shown_) return;
  ::unlink(token_file_.c_str());
  ::unlink(secret_file_.c_str());
}

Result<void> Handout::write_files() {
  std::error_code error;
  std::filesystem::create_directories(token_file_.parent_path(), error);
  if (error) return fail(error_from_errno(error.value(), token_file_.parent_path().native()));
  TELEMETRYD_TRY(check_absent(token_file_));
  TELEMETRYD_TRY(check_absent(secret_file_));
  written_ = true;
  TELEMETRYD_TRY(replace_file(token_file_, token_.token + "\n", 0600));
  return replace_file(secret_file_, token_.secret + "\n", 0600);
}

void Handout::print_config() const {
  const std::string name = application_.organization + "-" + application_.name;
  std::printf(
      "[[destination]]\nname = \"%s\"\nkind = \"native\"\nurl = \"%s\"\norg = \"%s\"\n"
      "app = \"%s\"\ntoken_file = %s\nsecret_file = %s\n%s\n"
      "[[route]]\napp = \"*\"\ndestination = \"%s\"\n",
      name.c_str(),
      options_.url.c_str(),
      application_.organization.c_str(),
      application_.name.c_str(),
      toml_string(token_file_.native()).c_str(),
      toml_string(secret_file_.native()).c_str(),
      is_plain_to_another_machine(options_.url) ? "allow_plain_http = true\n" : "",
      name.c_str());
}

void Handout::show() {
  shown_ = true;
  if (options_.print_config) print_config();
  // A configuration on standard output is on its way into a file, where secrets do not belong.
  std::FILE* out = options_.print_config ? stderr : stdout;
  std::fprintf(out, "token_id: %lld\n", static_cast<long long>(token_.id));
  if (written_) {
    std::fprintf(
        out, "token_file: %s\nsecret_file: %s\n", token_file_.c_str(), secret_file_.c_str());
    std::fprintf(
        stderr,
        "They are mode 0600. On the machine of the daemon the user that telemetryd-forward "
        "runs as must be able to read them, and nobody else.\n");
    return;
  }
  std::fprintf(out, "token: %s\nsecret: %s\n", token_.token.c_str(), token_.secret.c_str());
  std::fprintf(stderr, "These are shown this once. ");
  std::fprintf(stderr,
               "Write them to %s and %s on the machine of the daemon, readable by the user that "
               "telemetryd-forward runs as and by nobody else.\n",
               token_file_.c_str(),
               secret_file_.c_str());
}

}  // namespace telemetryd::server
