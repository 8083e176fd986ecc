// Three small file formats, scanned without a parser library: only the keys that matter are
// understood, and whatever is not understood counts as off.

#include <string.h>

#include "consent/consent.h"

namespace telemetryd::consent {
namespace {

struct Text {
  const char* data;
  size_t size;
};

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r';
}

Text trim(Text text) {
  while (text.size > 0 && is_blank(*text.data)) {
    ++text.data;
    --text.size;
  }
  while (text.size > 0 && is_blank(text.data[text.size - 1])) --text.size;
  return text;
}

bool equals(Text text, const char* word) {
  return strlen(word) == text.size && memcmp(text.data, word, text.size) == 0;
}

// The value without its comment, quotes kept. A quote protects '#'.
Text without_comment(Text value) {
  char quote = '\0';
  for (size_t i = 0; i < value.size; ++i) {
    const char c = value.data[i];
    if (quote == '\0' && c == '#') return trim({value.data, i});
    if (quote == '\0' && (c == '"' || c == '\'')) {
      quote = c;
    } else if (c == quote) {
      quote = '\0';
    }
  }
  return trim(value);
}

// False unless `value` is one plain string in single or double quotes.
bool unquote(Text value, Text& out) {
  if (value.size < 2) return false;
  const char quote = value.data[0];
  if ((quote != '"' && quote != '\'') || value.data[value.size - 1] != quote) return false;
  out = {value.data + 1, value.size - 2};
  return memchr(out.data, quote, out.size) == nullptr &&
         memchr(out.data, '\\', out.size) == nullptr;
}

Record record_of_state(Text state) {
  if (equals(state, "enabled")) return Record::kEnabled;
  if (equals(state, "disabled") || equals(state, "opted-out")) return Record::kDisabled;
  if (equals(state, "local")) return Record::kLocal;
  if (equals(state, "unset")) return Record::kUnset;
  return Record::kUnreadable;
}

struct TomlFile {
  bool has_state = false;
  bool broken = false;
  bool in_table = false;
  Record state = Record::kUnreadable;
};

void read_toml_line(Text line, TomlFile& file) {
  line = trim(line);
  if (line.size == 0 || line.data[0] == '#') return;
  if (line.data[0] == '[') {
    file.in_table = true;
    return;
  }
  const void* equal_sign = memchr(line.data, '=', line.size);
  if (equal_sign == nullptr) {
    file.broken = true;
    return;
  }
  if (file.in_table) return;
  const size_t key_size = static_cast<size_t>(static_cast<const char*>(equal_sign) - line.data);
  const Text key = trim({line.data, key_size});
  const Text value = without_comment({line.data + key_size + 1, line.size - key_size - 1});
  if (equals(key, "version") && !equals(value, "1")) file.broken = true;
  if (!equals(key, "state")) return;
  Text word{};
  // A second `state` makes the file ambiguous, and TOML forbids it.
  if (file.has_state || !unquote(value, word)) {
    file.broken = true;
    return;
  }
  file.has_state = true;
  file.state = record_of_state(word);
}

Record parse_toml(Text text) {
  TomlFile file;
  while (text.size > 0) {
    const void* newline = memchr(text.data, '\n', text.size);
    const size_t size = newline == nullptr
                            ? text.size
                            : static_cast<size_t>(static_cast<const char*>(newline) - text.data);
    read_toml_line({text.data, size}, file);
    const size_t step = newline == nullptr ? size : size + 1;
    text = {text.data + step, text.size - step};
  }
  return file.broken || !file.has_state ? Record::kUnreadable : file.state;
}

// A flat JSON object of strings, numbers and words; one cursor over the text.
class JsonScanner {
 public:
  explicit JsonScanner(Text text) : text_(text) {}

  bool take(char c) {
    skip_space();
    if (at_ >= text_.size || text_.data[at_] != c) return false;
    ++at_;
    return true;
  }

  bool string(Text& out) {
    if (!take('"')) return false;
    const size_t begin = at_;
    while (at_ < text_.size && text_.data[at_] != '"') {
      at_ += text_.data[at_] == '\\' ? 2 : 1;
    }
    if (at_ >= text_.size) return false;
    out = {text_.data + begin, at_ - begin};
    ++at_;
    return true;
  }

  // A number, true, false or null.
  bool word() {
    skip_space();
    const size_t begin = at_;
    while (at_ < text_.size && strchr(",}]{[\" \t\r\n", text_.data[at_]) == nullptr) ++at_;
    return at_ > begin;
  }

  bool at_end() {
    skip_space();
    return at_ == text_.size;
  }

 private:
  void skip_space() {
    while (at_ < text_.size && (is_blank(text_.data[at_]) || text_.data[at_] == '\n')) ++at_;
  }

  Text text_;
  size_t at_ = 0;
};

Record record_of_status(Text status) {
  if (equals(status, "Unknown")) return Record::kUnset;
  if (equals(status, "Granted")) return Record::kEnabled;
  if (equals(status, "Denied") || equals(status, "OptedOut")) return Record::kDisabled;
  return Record::kUnreadable;
}

Record parse_json(Text text) {
  JsonScanner json(text);
  Record record = Record::kUnreadable;
  bool has_status = false;
  if (!json.take('{')) return Record::kUnreadable;
  do {
    Text key{};
    Text value{};
    if (!json.string(key) || !json.take(':')) return Record::kUnreadable;
    if (json.string(value)) {
      if (!equals(key, "status")) continue;
      if (has_status) return Record::kUnreadable;
      has_status = true;
      record = record_of_status(value);
    } else if (equals(key, "status") || !json.word()) {
      return Record::kUnreadable;
    }
  } while (json.take(','));
  return json.take('}') && json.at_end() ? record : Record::kUnreadable;
}

}  // namespace

Record parse_consent_file(const char* text, size_t size) {
  if (size == 0 || memchr(text, '\0', size) != nullptr) return Record::kUnreadable;
  size_t begin = 0;
  while (begin < size && (is_blank(text[begin]) || text[begin] == '\n')) ++begin;
  const Text content{text + begin, size - begin};
  if (content.size == 0) return Record::kUnreadable;
  return content.data[0] == '{' ? parse_json(content) : parse_toml(content);
}

MachinePolicy parse_policy_file(const char* text, size_t size) {
  const auto* line_end = static_cast<const char*>(memchr(text, '\n', size));
  if (line_end != nullptr) size = static_cast<size_t>(line_end - text);
  const auto* equal_sign = static_cast<const char*>(memchr(text, '=', size));
  if (equal_sign != nullptr) {
    size -= static_cast<size_t>(equal_sign + 1 - text);
    text = equal_sign + 1;
  }
  const auto is_wrapping = [](char c) { return is_blank(c) || c == '"'; };
  while (size > 0 && is_wrapping(*text)) {
    ++text;
    --size;
  }
  while (size > 0 && is_wrapping(text[size - 1])) --size;
  const MachinePolicy policy = parse_policy(text, size);
  return policy == MachinePolicy::kUnknown ? MachinePolicy::kOff : policy;
}

}  // namespace telemetryd::consent
