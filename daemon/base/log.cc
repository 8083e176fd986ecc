#include "base/log.h"

#include <cstdlib>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "base/log_limit.h"

namespace telemetryd::log {
namespace {

constexpr std::size_t kValueBytesMax = 512;

bool needs_quotes(std::string_view text) {
  if (text.empty() || text.size() > kValueBytesMax) return true;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte >= 0x7f || c == '"' || c == '=' || c == '\\') return true;
  }
  return false;
}

void write(spdlog::level::level_enum level, std::string_view event, Fields fields) {
  if (!spdlog::should_log(level)) return;
  static LineLimit limit;
  const auto left_out = limit.admit(event, std::chrono::steady_clock::now());
  if (!left_out) return;
  std::string line(event);
  for (const Field& field : fields) {
    line += ' ';
    line += field.key();
    line += '=';
    line += needs_quotes(field.value()) ? quoted(field.value()) : field.value();
  }
  if (*left_out > 0) line += " left_out=" + std::to_string(*left_out);
  spdlog::log(level, "{}", line);
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kDebug: return spdlog::level::debug;
    case Level::kInfo: return spdlog::level::info;
    case Level::kWarn: return spdlog::level::warn;
    case Level::kError: return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

void debug(std::string_view event, Fields fields) {
  write(spdlog::level::debug, event, fields);
}

void info(std::string_view event, Fields fields) {
  write(spdlog::level::info, event, fields);
}

void warn(std::string_view event, Fields fields) {
  write(spdlog::level::warn, event, fields);
}

void error(std::string_view event, Fields fields) {
  write(spdlog::level::err, event, fields);
}

void open(std::string_view program, Level level) {
  auto logger = spdlog::get(std::string(program));
  if (logger == nullptr) logger = spdlog::stderr_logger_mt(std::string(program));
  // The journal adds time and unit itself; a terminal or a file wants them in the line.
  const bool journal =
      std::getenv("JOURNAL_STREAM") != nullptr;  // NOLINT(concurrency-mt-unsafe) before threads
  logger->set_pattern(journal ? "%l %v" : "%Y-%m-%dT%H:%M:%S.%eZ %n %l %v",
                      spdlog::pattern_time_type::utc);
  logger->set_level(to_spdlog(level));
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
}

bool parse_level(std::string_view word, Level& level) {
  if (word == "debug")
    level = Level::kDebug;
  else if (word == "info")
    level = Level::kInfo;
  else if (word == "warn")
    level = Level::kWarn;
  else if (word == "error")
    level = Level::kError;
  else
    return false;
  return true;
}

std::string quoted(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text.substr(0, kValueBytesMax)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte >= 0x7f) {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  out += text.size() > kValueBytesMax ? "...\"" : "\"";
  return out;
}

}  // namespace telemetryd::log
