#include "tools/lib/lab_mqa_check.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "tools/lib/lab_mqa_reference.cuh"
#include "tools/lib/lab_quant_model.h"

namespace dgrt::lab {
namespace {

constexpr int64_t tile_columns = 128;

// One call's output as the check sees it.
struct Rows {
  const DeviceBuffer& out;
  uint64_t start;  // bytes before the first row
  int64_t rows, columns, stride, step;
  bool is_fp32, is_clean;

  int64_t element_bytes() const { return is_fp32 ? 4 : 2; }
  // The last row ends with the memory.
  int64_t width(int64_t row) const {
    return row + 1 < rows ? stride : static_cast<int64_t>(out.bytes() - start) / element_bytes() - row * stride;
  }
};

struct Products {
  double xy = 0, xx = 0, yy = 0;
  void add(double x, double y) { xy += x * y, xx += x * x, yy += y * y; }
  void add(const Products& other) { xy += other.xy, xx += other.xx, yy += other.yy; }
  double calc_diff() const { return xx + yy == 0 ? 0 : 1 - 2 * xy / (xx + yy); }
};

// Sums of a tile's few logits may cancel, and what is left is then no measure of their error: the squares that as
// many logits have in all rows are, if they are more.
struct Tile {
  Products products;
  uint64_t logits = 0;

  double calc_diff(double square_of_a_logit) const {
    const double squares = products.xx + products.yy;
    const double usual = std::max(squares, square_of_a_logit * static_cast<double>(logits));
    return usual == 0 ? 0 : (squares - 2 * products.xy) / usual;
  }
};

Status check_row(const Rows& r, int64_t row, const double* want, std::vector<Tile>* tiles, LogitsError* result) {
  const int64_t width = r.width(row), size = r.element_bytes();
  std::vector<uint8_t> bytes(width * size);
  DGRT_TRY(r.out.download(bytes.data(), bytes.size(), r.start + row * r.stride * size));
  Tile tile;
  for (int64_t column = 0; column < width; ++column) {
    uint32_t bits = 0;
    std::memcpy(&bits, bytes.data() + column * size, size);
    const float got = r.is_fp32 ? std::bit_cast<float>(bits) : bf16_to_float(static_cast<uint16_t>(bits));
    const bool is_unwritten = bits == (r.is_fp32 ? 0xffffffffu : 0xffffu);
    const bool is_masked = column >= r.columns || want[column] == -HUGE_VAL;
    bool is_right = std::isfinite(got);
    if (is_masked)
      is_right = column < r.columns && r.is_clean ? got == -HUGE_VALF : is_unwritten;
    else if (std::isnan(want[column]))
      is_right = std::isnan(got) && !is_unwritten;
    if (!is_right)
      return dgrt::error(DGRT_INTERNAL, "row {}, column {}: got {} ({:#x}), want {}", row, column, got, bits,
                         column < r.columns ? want[column] : NAN);
    if (!is_masked && std::isfinite(want[column])) tile.products.add(got, want[column]), ++tile.logits;
    if (column % tile_columns != tile_columns - 1 && column + 1 != width) continue;
    result->logits += tile.logits;
    if (tile.logits > 0) tiles->push_back(tile);
    tile = {};
  }
  ++result->rows;
  return ok();
}

Result<LogitsError> check(const Device& device, const Rows& r, mqa_reference::Params p) {
  LogitsError error;
  if (r.rows == 0 || r.columns == 0) return error;
  const int64_t checked = (r.rows + r.step - 1) / r.step;
  DGRT_TRY(device.synchronize());
  DGRT_ASSIGN(const DeviceBuffer want_on_device, DeviceBuffer::make(device, checked * r.columns * sizeof(double)));
  p.want = want_on_device.as<double>();
  p.columns = static_cast<uint32_t>(r.columns), p.row_step = static_cast<uint32_t>(r.step);
  const LabKernel kernel{"mqa_reference", 0, mqa_reference::num_threads, sizeof(p)};
  DGRT_TRY(device.launch(kernel, &p, ceil_div(p.columns, mqa_reference::num_threads), static_cast<uint32_t>(checked),
                         device.stream()));
  DGRT_ASSIGN(const std::vector<double> want, want_on_device.download_all<double>());
  std::vector<Tile> tiles;
  for (int64_t i = 0; i < checked; ++i)
    DGRT_TRY(check_row(r, i * r.step, want.data() + i * r.columns, &tiles, &error));
  Products all;
  for (const Tile& tile : tiles) all.add(tile.products);
  error.calc_diff = all.calc_diff();
  const double square = tiles.empty() ? 0 : (all.xx + all.yy) / static_cast<double>(error.logits);
  for (const Tile& tile : tiles) error.worst_tile = std::max(error.worst_tile, tile.calc_diff(square));
  const double limit = r.is_fp32 ? logits_limit_fp32 : logits_limit_bf16;
  if (!(error.calc_diff <= limit && error.worst_tile <= limit))
    return dgrt::error(DGRT_INTERNAL, "limit {:.2g}: {}", limit, error.to_string());
  return error;
}

uint64_t offset_in(const DeviceBuffer& buffer, const void* address) {
  return static_cast<const std::byte*>(address) - buffer.as<std::byte>();
}

template <class Desc, class Args>
mqa_reference::Params common_params(const Desc& desc, const Args& args) {
  mqa_reference::Params p{};
  p.q = static_cast<const uint8_t*>(args.q), p.w = args.w;
  p.w_row = args.w_token_stride;
  p.num_heads = static_cast<uint32_t>(desc.num_heads), p.head_dim = static_cast<uint32_t>(desc.head_dim);
  return p;
}

int64_t step_of(int64_t rows, int64_t most_rows) { return std::max<int64_t>(1, (rows + most_rows - 1) / most_rows); }

}  // namespace

std::string LogitsError::to_string() const {
  return fmt::format("{} rows, {} logits, calc_diff {:.2g}, tile {:.2g}", rows, logits, calc_diff, worst_tile);
}

Result<LogitsError> check_mqa_logits(const Device& device, const dgrt_mqa_logits_desc& desc,
                                     const dgrt_mqa_logits_args& args, const DeviceBuffer& out, int64_t most_rows) {
  const bool compressed = (desc.flags & DGRT_LOGITS_COMPRESSED) != 0;
  mqa_reference::Params p = common_params(desc, args);
  p.kv = static_cast<const uint8_t*>(args.kv), p.kv_scale = args.kv_scale;
  p.begin = args.ks, p.end = args.ke;
  p.num_keys = static_cast<uint32_t>(args.kv_tokens), p.compressed = compressed ? 1 : 0;
  return check(device,
               {out, offset_in(out, args.out), args.tokens, compressed ? args.max_k : args.kv_tokens,
                args.out_token_stride, step_of(args.tokens, most_rows), desc.dtype_out == DGRT_FP32,
                (desc.flags & DGRT_LOGITS_CLEAN) != 0},
               p);
}

Result<LogitsError> check_mqa_logits(const Device& device, const dgrt_paged_mqa_logits_desc& desc,
                                     const dgrt_paged_mqa_logits_args& args, const DeviceBuffer& out,
                                     int64_t most_rows) {
  mqa_reference::Params p = common_params(desc, args);
  p.kv = static_cast<const uint8_t*>(args.kv_cache);
  p.end = args.context_lens, p.page_table = args.page_table;
  p.table_row = args.page_table_stride, p.page_bytes = args.kv_page_stride;
  const int64_t keys = std::min(args.max_context_len, args.max_pages * desc.page_size);
  p.num_keys = args.num_pages == 0 ? 0 : static_cast<uint32_t>(keys);
  p.page_size = static_cast<uint32_t>(desc.page_size), p.num_pages = static_cast<uint32_t>(args.num_pages);
  p.next_n = static_cast<uint32_t>(desc.next_n);
  const int64_t rows = args.batch * desc.next_n;
  return check(device,
               {out, offset_in(out, args.out), rows, args.max_context_len, args.out_token_stride,
                step_of(rows, most_rows), desc.dtype_out == DGRT_FP32, (desc.flags & DGRT_LOGITS_CLEAN) != 0},
               p);
}

}  // namespace dgrt::lab
