#include "config/toml_reader.h"

#include <algorithm>

#include <toml++/toml.h>

namespace telemetryd::config {
namespace {

RawValue raw_value(const toml::node& node) {
  RawValue value;
  switch (node.type()) {
    case toml::node_type::integer:
      value.kind = RawValue::Kind::kInteger;
      value.integer = node.as_integer()->get();
      value.type_name = "an integer";
      break;
    case toml::node_type::boolean:
      value.kind = RawValue::Kind::kBoolean;
      value.boolean = node.as_boolean()->get();
      value.type_name = "a boolean";
      break;
    case toml::node_type::string:
      value.kind = RawValue::Kind::kText;
      value.text = node.as_string()->get();
      value.type_name = "a string";
      break;
    case toml::node_type::floating_point: value.type_name = "a float"; break;
    case toml::node_type::array: value.type_name = "an array"; break;
    case toml::node_type::table: value.type_name = "a table"; break;
    default: value.type_name = "a date or time"; break;
  }
  return value;
}

template <typename Item>
void sort_by_line(std::vector<Item>& items) {
  std::ranges::stable_sort(items, {}, &Item::line);
}

RawTable raw_table(std::string name, const toml::table& table, bool element, std::uint32_t line) {
  RawTable raw{.name = std::move(name), .line = line, .element = element, .entries = {}};
  for (const auto& [key, node] : table) {
    raw.entries.push_back({std::string(key.str()), key.source().begin.line, raw_value(node)});
  }
  sort_by_line(raw.entries);
  return raw;
}

void add_top_level(const toml::key& key, const toml::node& node, RawFile& file) {
  const std::string name(key.str());
  const std::uint32_t line = key.source().begin.line;
  if (const toml::table* table = node.as_table()) {
    file.tables.push_back(raw_table(name, *table, false, line));
    return;
  }
  if (const toml::array* array = node.as_array();
      array != nullptr && !array->empty() && array->is_homogeneous<toml::table>()) {
    for (const toml::node& element : *array) {
      file.tables.push_back(
          raw_table(name, *element.as_table(), true, element.source().begin.line));
    }
    return;
  }
  file.loose.push_back({name, line, raw_value(node)});
}

}  // namespace

RawFile read_toml(std::string_view text, const std::filesystem::path& file) {
  RawFile raw;
  try {
    const toml::table root = toml::parse(text);
    for (const auto& [key, node] : root) add_top_level(key, node, raw);
  } catch (const toml::parse_error& error) {
    raw.problems.push_back(
        {file, error.source().begin.line, "", "not TOML: " + std::string(error.description())});
  }
  sort_by_line(raw.tables);
  sort_by_line(raw.loose);
  return raw;
}

}  // namespace telemetryd::config
