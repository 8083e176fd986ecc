#include "salvage/carve.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "salvage/big_endian.h"
#include "store/row_bytes.h"
#include "store/schema.h"

namespace telemetryd::salvage {
namespace {

// https://www.sqlite.org/fileformat2.html, sections 1.6 and 2.
constexpr std::size_t kFileHeaderBytes = 100;
constexpr std::size_t kPageHeaderBytes = 8;
constexpr char kTableLeaf = 0x0D;
constexpr std::uint64_t kLocalMax = store::kPageBytes - 35;
constexpr std::uint64_t kLocalMin = (store::kPageBytes - 12) * 32 / 255 - 23;
constexpr std::uint64_t kOverflowBytes = store::kPageBytes - 4;

constexpr std::size_t kProgressFields = 2;
constexpr std::size_t kFormat1Fields = 14;  // without instance and last_frame
constexpr std::size_t kRowFields = 16;
constexpr std::uint64_t kSeqMin = 1ull << 40;  // of epoch 1

struct Field {
  bool is_integer = false;
  std::int64_t integer = 0;
  std::string_view bytes;
};

struct Cell {
  std::uint64_t rowid = 0;
  std::string payload;
  bool whole = false;
};

// What of a payload lies on the page itself.
std::uint64_t local_bytes(std::uint64_t payload) {
  if (payload <= kLocalMax) return payload;
  const std::uint64_t local = kLocalMin + (payload - kLocalMin) % kOverflowBytes;
  return local <= kLocalMax ? local : kLocalMin;
}

void follow_overflow(const PageFile& file, std::uint32_t next, std::uint64_t payload, Cell& cell) {
  while (cell.payload.size() < payload && next >= 2 && next <= file.pages()) {
    const std::string page = file.read(next);
    if (page.size() < store::kPageBytes) return;
    next = static_cast<std::uint32_t>(big_endian(page, 0, 4));
    cell.payload +=
        page.substr(4, std::min<std::uint64_t>(kOverflowBytes, payload - cell.payload.size()));
  }
}

std::optional<Cell> cell_at(const PageFile& file, std::string_view page, std::size_t at) {
  std::uint64_t payload = 0;
  Cell cell;
  if (!take_varint(page, at, payload) || !take_varint(page, at, cell.rowid)) return std::nullopt;
  if (payload == 0 || payload > kRowBytesMax) return std::nullopt;
  const std::uint64_t local = local_bytes(payload);
  const bool overflows = local < payload;
  if (at + local + (overflows ? 4 : 0) > page.size()) return std::nullopt;
  cell.payload = page.substr(at, local);
  if (overflows) {
    follow_overflow(
        file, static_cast<std::uint32_t>(big_endian(page, at + local, 4)), payload, cell);
  }
  cell.whole = cell.payload.size() == payload;
  return cell;
}

std::uint64_t bytes_of_type(std::uint64_t type) {
  constexpr std::array<std::uint64_t, 12> kFixed = {0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0};
  return type < kFixed.size() ? kFixed[type] : (type - 12) / 2;
}

std::int64_t integer_of(std::string_view bytes, std::uint64_t type) {
  if (type == 8 || type == 9) return type == 9 ? 1 : 0;
  if (bytes.empty()) return 0;
  const std::uint64_t value = big_endian(bytes, 0, bytes.size());
  const auto shift = static_cast<unsigned>(64 - 8 * bytes.size());
  return static_cast<std::int64_t>(value << shift) >> shift;
}

// The fields' types, as far as the payload has them; their contents may be cut short.
std::vector<Field> fields_of(std::string_view payload) {
  std::vector<Field> fields;
  std::size_t at = 0;
  std::uint64_t header = 0;
  if (!take_varint(payload, at, header) || header > payload.size()) return {};
  std::uint64_t content = header;
  while (at < header) {
    std::uint64_t type = 0;
    if (!take_varint(payload.substr(0, header), at, type) || fields.size() > kRowFields) return {};
    const std::uint64_t bytes = bytes_of_type(type);
    Field field;
    field.is_integer = (type >= 1 && type <= 6) || type == 8 || type == 9;
    field.bytes = payload.substr(std::min<std::uint64_t>(content, payload.size()), bytes);
    if (field.is_integer && field.bytes.size() == bytes) {
      field.integer = integer_of(field.bytes, type);
    }
    content += bytes;
    fields.push_back(field);
  }
  return fields;
}

// Where a row has its last four columns: as created, as added to a store of format 1, or as format
// 1 wrote them.
struct Layout {
  std::size_t instance = 0;  // 0: the row has none
  std::size_t last_frame = 0;
  std::size_t context = 0;
  std::size_t blob = 0;
};

constexpr Layout kCreated{12, 13, 14, 15};
constexpr Layout kUpgraded{14, 15, 12, 13};
constexpr Layout kFormat1{0, 0, 12, 13};

bool checksums_match(const std::vector<Field>& fields, const Layout& layout) {
  store::RowColumns columns{.uid = static_cast<std::uint32_t>(fields[1].integer),
                            .app = fields[2].integer,
                            .count = fields[10].integer,
                            .instance = {},
                            .last_frame = 0};
  if (layout.instance != 0) {
    columns.instance = fields[layout.instance].bytes;
    columns.last_frame = static_cast<std::uint64_t>(fields[layout.last_frame].integer);
  }
  const std::string_view blob = fields[layout.blob].bytes;
  return fields[11].integer == store::row_crc(columns, fields[layout.context].bytes, blob) &&
         store::count_events(blob) == static_cast<std::uint64_t>(fields[10].integer);
}

std::optional<Layout> layout_of(const std::vector<Field>& fields) {
  if (fields.size() == kFormat1Fields && checksums_match(fields, kFormat1)) return kFormat1;
  if (fields.size() != kRowFields) return std::nullopt;
  if (checksums_match(fields, kCreated)) return kCreated;
  if (checksums_match(fields, kUpgraded)) return kUpgraded;
  return std::nullopt;
}

// The columns that are never anything but integers, and a first one that is the key.
bool looks_like_a_row(const Cell& cell, const std::vector<Field>& fields) {
  if (fields.size() != kRowFields && fields.size() != kFormat1Fields) return false;
  if (cell.rowid < kSeqMin || fields[0].is_integer) return false;
  return std::all_of(
      fields.begin() + 1, fields.begin() + 12, [](const Field& field) { return field.is_integer; });
}

Result<void> take_cell(const Cell& cell, std::uint32_t page, Carver& carver) {
  const std::vector<Field> fields = fields_of(cell.payload);
  if (fields.size() == kProgressFields && cell.rowid >= kSeqMin && fields[1].is_integer) {
    if (carver.on_progress) {
      carver.on_progress({cell.rowid, static_cast<std::uint32_t>(fields[1].integer)});
    }
    return {};
  }
  if (!looks_like_a_row(cell, fields)) return {};
  const auto layout = cell.whole ? layout_of(fields) : std::nullopt;
  if (!layout) {
    ++carver.damaged_rows;
    return {};
  }
  return carver.on_row({.page = page,
                        .seq = cell.rowid,
                        .uid = static_cast<std::uint32_t>(fields[1].integer),
                        .count = static_cast<std::uint32_t>(fields[10].integer),
                        .persistence_class = static_cast<event::Class>(fields[3].integer),
                        .urgency = static_cast<event::Urgency>(fields[4].integer),
                        .crc = fields[11].integer,
                        .context = std::string(fields[layout->context].bytes),
                        .blob = std::string(fields[layout->blob].bytes)});
}

bool starts_a_tree_page(char type) {
  return type == 2 || type == 5 || type == 10 || type == kTableLeaf;
}

// False: at least one of its cells is none.
Result<bool> take_leaf(const PageFile& file,
                       std::uint32_t number,
                       std::string_view page,
                       Carver& carver) {
  const std::size_t header = number == 1 ? kFileHeaderBytes : 0;
  const std::size_t cells = big_endian(page, header + 3, 2);
  bool whole = true;
  for (std::size_t i = 0; i < cells; ++i) {
    const std::size_t pointer = header + kPageHeaderBytes + 2 * i;
    if (pointer + 2 > page.size()) return false;
    const std::size_t at = big_endian(page, pointer, 2);
    const auto cell =
        at < pointer + 2 || at >= page.size() ? std::nullopt : cell_at(file, page, at);
    if (cell) TELEMETRYD_TRY(take_cell(*cell, number, carver));
    whole = whole && cell;
  }
  return whole;
}

}  // namespace

Result<void> carve_page(PageFile& file, std::uint32_t number, Carver& carver) {
  const std::string page = file.read(number);
  // The first page has the schema and no events.
  const std::uint64_t counts = number == 1 ? 0 : 1;
  if (page.size() < store::kPageBytes) {
    carver.damaged_pages += counts;
    return {};
  }
  const char type = page[number == 1 ? kFileHeaderBytes : 0];
  if (type != kTableLeaf) {
    if (!starts_a_tree_page(type) && file.of_a_tree(number)) carver.damaged_pages += counts;
    return {};
  }
  // An overflow page may begin like a leaf.
  TELEMETRYD_ASSIGN(const bool whole, take_leaf(file, number, page, carver));
  if (!whole && file.of_a_tree(number)) carver.damaged_pages += counts;
  return {};
}

Result<void> carve(PageFile& file, Carver& carver) {
  for (std::uint32_t page = 1; page <= file.pages(); ++page) {
    if (file.broken_map(page)) ++carver.damaged_pages;
    if (!file.unused(page)) TELEMETRYD_TRY(carve_page(file, page, carver));
  }
  return {};
}

}  // namespace telemetryd::salvage
