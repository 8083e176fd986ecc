// A configuration file of any bytes, and a drop-in behind the line "#drop-in": what is wrong is
// said in bounds, and what loads without problems is printed as a file that loads the same.

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#include "base/check.h"
#include "config/config.h"
#include "event/event.h"
#include "support/temp_dir.h"

using namespace telemetryd;

namespace {

constexpr std::string_view kDropIn = "\n#drop-in\n";
constexpr std::size_t kProblemsMax = 101;  // the last one counts the rest
constexpr std::size_t kProblemBytesMax = 4096;

// The folder that all inputs are written to, one after the other.
class Files {
 public:
  Files() {
    // Not only the disk's time: what a default is may not depend on who runs this.
    for (const char* name : {"TELEMETRYD_STATE_DIR", "TELEMETRYD_RUNTIME_DIR", "XDG_RUNTIME_DIR"}) {
      ::unsetenv(name);
    }
    ::setenv("HOME", "/home/fuzz", 1);
    std::filesystem::create_directory(folder_ / "conf.d");
  }

  config::Loaded load(std::string_view main, std::string_view drop_in) const {
    write(folder_ / "telemetryd.toml", main);
    write(folder_ / "conf.d/10.toml", drop_in);
    return config::load({.file = folder_ / "telemetryd.toml",
                         .file_required = true,
                         .state_dir = {},
                         .runtime_dir = {}});
  }

 private:
  static void write(const std::filesystem::path& path, std::string_view text) {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out.write(text.data(), static_cast<std::streamsize>(text.size()));
    TELEMETRYD_CHECK(out.flush().good());
  }

  test::TempDir folder_;
};

// Of the text alone; where a value stood is another place in the printed file.
std::string printed(config::Config config) {
  config.origins.clear();
  return config::print(config);
}

void check_problems(const config::Loaded& loaded, std::uint32_t lines) {
  TELEMETRYD_CHECK(loaded.problems.size() <= kProblemsMax);
  for (const config::Problem& problem : loaded.problems) {
    const std::string text = to_string(problem);
    TELEMETRYD_CHECK(!problem.message.empty() && text.size() <= kProblemBytesMax);
    TELEMETRYD_CHECK(problem.line <= lines);
    // It goes to a terminal and into the log.
    TELEMETRYD_CHECK(event::utf8_valid(text));
    TELEMETRYD_CHECK(std::ranges::none_of(
        text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }));
  }
}

void check_printed(const Files& files, const config::Config& config) {
  const std::string text = printed(config);
  const config::Loaded again = files.load(text, "");
  for (const auto& problem : again.problems) {
    std::fprintf(stderr, "printed: %s\n", to_string(problem).c_str());
  }
  TELEMETRYD_CHECK(again.config.has_value());
  TELEMETRYD_CHECK(printed(*again.config) == text);
  TELEMETRYD_CHECK(config::restart_needed(config, *again.config).empty());
  for (const config::Route& route : config.routes) {
    TELEMETRYD_CHECK(config::route(again.config->routes, route.app) ==
                     config::route(config.routes, route.app));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Files files;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t border = input.find(kDropIn);
  const std::string_view main = input.substr(0, border);
  const std::string_view drop_in =
      border == std::string_view::npos ? "" : input.substr(border + kDropIn.size());
  const config::Loaded loaded = files.load(main, drop_in);
  TELEMETRYD_CHECK(loaded.config.has_value() == loaded.problems.empty());
  const auto lines = static_cast<std::uint32_t>(std::ranges::count(input, '\n'));
  check_problems(loaded, lines + 2);
  if (loaded.config) check_printed(files, *loaded.config);
  return 0;
}
