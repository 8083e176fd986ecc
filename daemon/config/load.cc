#include <algorithm>
#include <cstdlib>
#include <set>
#include <system_error>

#include <fmt/format.h>

#include "base/io.h"
#include "config/check.h"
#include "config/config.h"
#include "config/keys.h"
#include "config/nearest.h"
#include "config/shown.h"
#include "config/toml_reader.h"

namespace telemetryd::config {
namespace {

constexpr std::size_t kDropInsMax = 256;
constexpr std::size_t kDestinationsMax = 256;
constexpr std::size_t kRoutesMax = 1024;
constexpr std::size_t kProblemsMax = 100;
constexpr std::size_t kShownBytesMax = 64;

std::string joined(std::string_view words, std::string_view between) {
  std::string out;
  for (const char c : words) {
    if (c == ' ')
      out += between;
    else
      out += c;
  }
  return out;
}

bool has_word(std::string_view words, std::string_view word) {
  return !word.empty() && word.find(' ') == std::string_view::npos &&
         fmt::format(" {} ", words).find(fmt::format(" {} ", word)) != std::string::npos;
}

// What is wrong with `raw` for `key`; empty when nothing is. Never shows a text that may be a
// secret put in the wrong place.
template <typename Target>
std::string complaint(const Key<Target>& key, const RawValue& raw) {
  using Kind = RawValue::Kind;
  switch (key.type) {
    case Type::kInteger:
      if (raw.kind != Kind::kInteger)
        return fmt::format("must be an integer, not {}", raw.type_name);
      if (raw.integer < key.min || raw.integer > key.max) {
        return fmt::format("{} is out of bounds: {} to {}", raw.integer, key.min, key.max);
      }
      return {};
    case Type::kBoolean:
      if (raw.kind != Kind::kBoolean) {
        return fmt::format("must be true or false, not {}", raw.type_name);
      }
      return {};
    case Type::kWord:
      if (raw.kind != Kind::kText || !has_word(key.words, raw.text)) {
        return fmt::format("must be one of {}{}",
                           joined(key.words, ", "),
                           raw.kind != Kind::kText
                               ? fmt::format(", not {}", raw.type_name)
                               : fmt::format(", not '{}'", cut(raw.text, kShownBytesMax)));
      }
      return {};
    case Type::kText:
    case Type::kPath:
      if (raw.kind != Kind::kText) return fmt::format("must be a string, not {}", raw.type_name);
      if (raw.text.size() > static_cast<std::size_t>(key.max)) {
        return fmt::format("is longer than {} bytes", key.max);
      }
      if (raw.text.find('\0') != std::string::npos) return "must not hold a zero byte";
      if (key.type == Type::kPath && !raw.text.starts_with('/')) {
        return "must be an absolute path";
      }
      return {};
  }
  return {};
}

class Loader {
 public:
  void environment_and_flags(const Sources& sources) {
    folder("TELEMETRYD_STATE_DIR",
           "--state-dir",
           sources.state_dir,
           "daemon.state_dir",
           config_.daemon.state_dir);
    folder("TELEMETRYD_RUNTIME_DIR",
           "--runtime-dir",
           sources.runtime_dir,
           "daemon.runtime_dir",
           config_.daemon.runtime_dir);
  }

  void file(const std::filesystem::path& path, bool required) {
    Result<std::string> text = read_file(path, kFileBytesMax);
    if (!text) {
      if (text.error().code() == ErrorCode::kNotFound && !required) return;
      // Its words begin with the path, as the problem's do.
      std::string words = text.error().message();
      if (words.starts_with(path.native() + ": ")) words.erase(0, path.native().size() + 2);
      problem(path, 0, "", words);
      return;
    }
    files_.push_back(path);
    const RawFile raw = read_toml(*text, path);
    for (const Problem& syntax : raw.problems) problems_.push_back(syntax);
    for (const RawEntry& entry : raw.loose) loose(path, entry);
    for (const RawTable& raw_table : raw.tables) table(path, raw_table);
  }

  void drop_ins(const std::filesystem::path& folder) {
    std::error_code error;
    std::vector<std::filesystem::path> paths;
    for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
         it.increment(error)) {
      if (it->path().extension() == ".toml") paths.push_back(it->path());
    }
    if (error && error != std::errc::no_such_file_or_directory) {
      problem(folder, 0, "", error.message());
    }
    if (paths.size() > kDropInsMax) {
      problem(folder, 0, "", fmt::format("more than {} files", kDropInsMax));
      return;
    }
    std::ranges::sort(paths);
    for (const auto& path : paths) file(path, true);
  }

  Loaded finish() {
    fill_defaults();
    const auto more = check_relations(config_, places_);
    problems_.insert(problems_.end(), more.begin(), more.end());
    std::ranges::stable_sort(problems_, [&](const Problem& a, const Problem& b) {
      return std::pair(order_of(a.file), a.line) < std::pair(order_of(b.file), b.line);
    });
    if (problems_.size() > kProblemsMax) {
      const std::size_t more_count = problems_.size() - kProblemsMax;
      problems_.resize(kProblemsMax);
      problems_.push_back({{}, 0, "", fmt::format("and {} more problems", more_count)});
    }
    Loaded loaded;
    loaded.files = std::move(files_);
    if (problems_.empty()) loaded.config = std::move(config_);
    loaded.problems = std::move(problems_);
    return loaded;
  }

 private:
  void problem(const std::filesystem::path& file,
               std::uint32_t line,
               std::string key,
               std::string message) {
    problems_.push_back({file, line, std::move(key), std::move(message)});
  }

  std::size_t order_of(const std::filesystem::path& file) const {
    return static_cast<std::size_t>(std::ranges::find(files_, file) - files_.begin());
  }

  void set_origin(const std::string& key, const std::filesystem::path& file, std::uint32_t line) {
    places_[key] = {file, line};
    config_.origins[key] = fmt::format("{}:{}", file.native(), line);
  }

  void folder(const char* variable,
              std::string_view flag,
              const std::optional<std::filesystem::path>& flag_value,
              const std::string& key,
              std::filesystem::path& target) {
    // The environment is read before there are threads.
    const char* word = std::getenv(variable);  // NOLINT(concurrency-mt-unsafe)
    if (flag_value) {
      target = *flag_value;
      config_.origins[key] = flag;
    } else if (word != nullptr && *word != '\0') {
      target = word;
      config_.origins[key] = variable;
    } else {
      return;
    }
    if (!target.is_absolute()) problem({}, 0, config_.origins[key], "must be an absolute path");
  }

  void loose(const std::filesystem::path& file, const RawEntry& entry) {
    if (entry.key == "destination" || entry.key == "route") {
      problem(file, entry.line, entry.key, fmt::format("write [[{}]]", entry.key));
    } else if (is_section(entry.key)) {
      problem(file, entry.line, entry.key, fmt::format("is a section; write [{}]", entry.key));
    } else {
      unknown(file, entry.line, entry.key);
    }
  }

  static bool is_section(std::string_view name) {
    return std::ranges::any_of(sections(), [&](const Section& s) { return s.name == name; });
  }

  void table(const std::filesystem::path& file, const RawTable& table) {
    const auto section = std::ranges::find(sections(), table.name, &Section::name);
    if (table.name == "destination") {
      destination(file, table);
    } else if (table.name == "route") {
      route(file, table);
    } else if (section == sections().end()) {
      unknown_section(file, table);
    } else if (table.element) {
      problem(file, table.line, table.name, fmt::format("stands once; write [{}]", table.name));
    } else {
      entries(file, table, section->keys, config_, true);
    }
  }

  template <typename Target>
  void entries(const std::filesystem::path& file,
               const RawTable& table,
               std::span<const Key<Target>> keys,
               Target& target,
               bool remember) {
    for (const RawEntry& entry : table.entries) {
      const std::string path = fmt::format("{}.{}", table.name, entry.key);
      const auto key = std::ranges::find(keys, entry.key, &Key<Target>::name);
      if (key == keys.end()) {
        unknown(file, entry.line, path);
        continue;
      }
      if (std::string wrong = complaint(*key, entry.value); !wrong.empty()) {
        problem(file, entry.line, path, std::move(wrong));
        continue;
      }
      // A flag or variable stands above every file; it was there first.
      if (remember && config_.origins.contains(path) && !places_.contains(path)) continue;
      key->set(target, {entry.value.integer, entry.value.boolean, entry.value.text});
      if (remember) set_origin(path, file, entry.line);
    }
  }

  bool must_be_element(const std::filesystem::path& file, const RawTable& table) {
    if (!table.element) {
      problem(file, table.line, table.name, fmt::format("write [[{0}]], not [{0}]", table.name));
    }
    return table.element;
  }

  static TablePlace place_of(const std::filesystem::path& file, const RawTable& table) {
    TablePlace place{file, table.line, {}};
    for (const RawEntry& entry : table.entries) place.keys[entry.key] = entry.line;
    return place;
  }

  void destination(const std::filesystem::path& file, const RawTable& table) {
    if (!must_be_element(file, table)) return;
    const std::size_t problems_before = problems_.size();
    Destination destination;
    entries(file, table, destination_keys(), destination, false);
    const TablePlace place = place_of(file, table);
    // A wrong value is also a missing one; saying both would only confuse.
    if (problems_.size() == problems_before) {
      const auto wrong = check_destination(destination, place);
      problems_.insert(problems_.end(), wrong.begin(), wrong.end());
    }
    const std::string key = fmt::format("destination.{}", destination.name);
    if (const auto first = places_.find(key); first != places_.end()) {
      problem(file,
              place.line_of("name"),
              "destination.name",
              fmt::format("'{}' is the name of the destination at {}:{} already",
                          destination.name,
                          first->second.file.native(),
                          first->second.line));
      return;
    }
    if (config_.destinations.size() == kDestinationsMax) {
      problem(file, table.line, "destination", fmt::format("more than {}", kDestinationsMax));
      return;
    }
    set_origin(key, file, table.line);
    config_.destinations.push_back(std::move(destination));
  }

  void route(const std::filesystem::path& file, const RawTable& table) {
    if (!must_be_element(file, table)) return;
    if (config_.routes.size() == kRoutesMax) {
      problem(file, table.line, "route", fmt::format("more than {}", kRoutesMax));
      return;
    }
    Route route;
    entries(file, table, route_keys(), route, false);
    const std::string key = fmt::format("route.{}", config_.routes.size());
    set_origin(key, file, table.line);
    for (const RawEntry& entry : table.entries) {
      places_[fmt::format("{}.{}", key, entry.key)] = {file, entry.line};
    }
    config_.routes.push_back(std::move(route));
  }

  void unknown_section(const std::filesystem::path& file, const RawTable& table) {
    std::vector<std::string> names{"destination", "route"};
    for (const Section& section : sections()) names.emplace_back(section.name);
    const std::string near = nearest(table.name, names);
    problem(file,
            table.line,
            std::string(cut(table.name, kShownBytesMax)),
            near.empty() ? std::string("unknown section")
                         : fmt::format("unknown section; did you mean {}?", near));
  }

  void unknown(const std::filesystem::path& file, std::uint32_t line, const std::string& path) {
    std::vector<std::string> candidates;
    const std::string_view section = std::string_view(path).substr(0, path.find('.'));
    const auto add = [&](std::string_view name, const auto& keys) {
      for (const auto& key : keys) {
        // The keys of a destination are of no help elsewhere, nor the other way round.
        const bool array = name == "destination" || name == "route";
        const bool here = section == "destination" || section == "route";
        if ((array || here) && name != section) continue;
        candidates.push_back(fmt::format("{}.{}", name, key.name));
      }
    };
    for (const Section& known : sections()) add(known.name, known.keys);
    add("destination", destination_keys());
    add("route", route_keys());
    const std::string near = nearest(path, candidates);
    problem(file,
            line,
            std::string(cut(path, 2 * kShownBytesMax)),
            near.empty() ? std::string("unknown key")
                         : fmt::format("unknown key; did you mean {}?", near));
  }

  void fill_defaults() {
    auto& c = config_;
    if (c.daemon.state_dir.empty()) c.daemon.state_dir = default_state_dir();
    if (c.daemon.runtime_dir.empty()) c.daemon.runtime_dir = default_runtime_dir();
    if (c.ingest.socket.empty()) c.ingest.socket = c.daemon.runtime_dir / "ingest.sock";
    if (c.admin.socket.empty()) c.admin.socket = c.daemon.runtime_dir / "admin.sock";
    if (c.forward.program.empty()) c.forward.program = default_forward_program();
    if (c.gateway.grpc_socket.empty()) c.gateway.grpc_socket = c.daemon.runtime_dir / "grpc.sock";
    if (c.gateway.program.empty()) c.gateway.program = default_gateway_program();
  }

  Config config_;
  Places places_;
  std::vector<Problem> problems_;
  std::vector<std::filesystem::path> files_;
};

}  // namespace

std::string to_string(const Problem& problem) {
  std::string out;
  if (!problem.file.empty()) {
    out = problem.file.native();
    if (problem.line != 0) out += fmt::format(":{}", problem.line);
    out += ": ";
  }
  if (!problem.key.empty()) out += problem.key + ": ";
  return one_line(out + problem.message);
}

Loaded load(const Sources& sources) {
  Loader loader;
  loader.environment_and_flags(sources);
  const auto file = sources.file.empty() ? default_config_file() : sources.file;
  loader.file(file, sources.file_required);
  loader.drop_ins(file.parent_path() / "conf.d");
  return loader.finish();
}

}  // namespace telemetryd::config
