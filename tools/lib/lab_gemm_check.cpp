#include "tools/lib/lab_gemm_check.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "tools/lib/lab_compare.cuh"
#include "tools/lib/lab_gemm_check.cuh"

namespace dgrt::lab {
namespace {

static_assert(check_tile == gemm_check::tile_size && sizeof(GemmTile) == sizeof(gemm_check::Tile));

gemm_check::Params make_params(const GemmProduct& x) {
  gemm_check::Params p{};
  p.a = x.a, p.b = x.b, p.c = x.c, p.bias = x.bias, p.d = x.d;
  p.a_row = x.a_row, p.a_k = x.a_k, p.b_row = x.b_row, p.b_k = x.b_k;
  p.ldc = x.ldc, p.ldd = x.ldd;
  p.m = static_cast<uint32_t>(x.m), p.n = static_cast<uint32_t>(x.n);
  p.k = static_cast<uint32_t>(x.k);
  p.output = x.dtype_d == DGRT_FP32   ? gemm_check::Output::fp32
             : x.dtype_d == DGRT_FP16 ? gemm_check::Output::fp16
                                      : gemm_check::Output::bf16;
  if (x.scale_mode != DGRT_SCALE_NONE) p.a_scale = x.a_scale, p.b_scale = x.b_scale;
  p.a_scale_row = x.a_scale_row, p.a_scale_k = x.a_scale_k;
  p.b_scale_row = x.b_scale_row, p.b_scale_k = x.b_scale_k;
  p.b_scale_rows = x.scale_mode == DGRT_SCALE_BLOCK ? 128 : 1;
  p.scale_sums = x.scale_mode == DGRT_SCALE_CHANNEL;
  p.head_left = x.head_left, p.head_width = x.head_left + x.head_right, p.head_mid = x.head_mid;
  p.num_summed = static_cast<uint32_t>(x.num_summed);
  p.a_summed = x.a_summed, p.b_summed = x.b_summed;
  return p;
}

// Moves a pointer by `count` elements of a type.
const void* advance(const void* from, int64_t count, dgrt_dtype dtype) {
  const int64_t bytes = dtype == DGRT_E4M3 ? 1 : dtype == DGRT_FP32 ? 4 : 2;
  return from ? static_cast<const char*>(from) + count * bytes : nullptr;
}
const float* advance(const float* from, int64_t count) { return from ? from + count : nullptr; }

// What the descs and args of all ops call by the same names.
template <class Desc, class Args>
GemmProduct common_product(const Desc& desc, const Args& args) {
  GemmProduct p{};
  p.dtype_ab = desc.dtype_ab, p.dtype_d = desc.dtype_d, p.scale_mode = desc.scale_mode;
  p.m = args.m, p.n = desc.n, p.k = desc.k;
  p.a = args.a, p.b = args.b, p.d = args.d;
  p.a_row = args.lda, p.a_k = 1;
  if constexpr (requires { desc.a_major; })
    if (desc.a_major == DGRT_MN_MAJOR) p.a_row = 1, p.a_k = args.lda;
  const bool b_mn = desc.b_major == DGRT_MN_MAJOR;
  p.b_row = b_mn ? 1 : args.ldb, p.b_k = b_mn ? args.ldb : 1;
  p.ldd = args.ldd;
  if constexpr (requires { args.c; }) {
    p.c = (desc.flags & DGRT_GEMM_WITH_C) != 0 ? args.c : nullptr;
    p.ldc = args.ldc;
  }
  p.a_scale = args.a_scale, p.b_scale = args.b_scale;
  p.a_scale_row = 1, p.a_scale_k = args.ld_a_scale;
  if (desc.scale_mode == DGRT_SCALE_CHANNEL) {
    p.a_scale_row = args.ld_a_scale, p.b_scale_row = args.ld_b_scale;
    p.a_scale_k = p.b_scale_k = 0;
  } else {
    const bool k_major = desc.scale_mode == DGRT_SCALE_BLOCK && desc.b_scale_major == DGRT_K_MAJOR;
    p.b_scale_row = k_major ? args.ld_b_scale : 1;
    p.b_scale_k = k_major ? 1 : args.ld_b_scale;
  }
  return p;
}

// How far an element of d may be off: `rounding` of itself, `truncation` of what was summed up.
struct Precision {
  double rounding, truncation;
};

// d of bf16 or fp16: its unit roundoff u, 2^-8 or 2^-11, bounds the relative error of each element,
// hence also of each tile. Over many elements the error is uniform in half a unit: its mean square is
// u^2 / 6.25 of that of numbers with evenly spread mantissas and u^2 / 3 at the worst; calc_diff is
// half of that. The limit lies between the two.
//
// d of fp32: the tensor core truncates when it adds 16 products to a sum, at most 2^-23 of the sum
// each time; k / 16 times.
//
// e4m3: the tensor core aligns the sum and the products of 32 of k with the largest of them and cuts
// them off 13 bits below its first. So computed on a host, d is what an H100 writes to 1e-7 of it. The
// error is 2^-13 of t, the root of the sum of squares of what is summed, as a mean over elements, and
// was at most 3.3 * 2^-11 for single ones of some 500000 that were so computed, k = 8 to 1024.
Precision precision_of(const GemmProduct& x) {
  const double truncation = x.dtype_ab == DGRT_E4M3
                                ? 0x1p-11
                                : 0x1p-21 + static_cast<double>(x.k * x.num_summed) / 16 * 0x1p-23;
  const double rounding = x.dtype_d == DGRT_BF16   ? 0x1p-8
                          : x.dtype_d == DGRT_FP16 ? 0x1p-11
                                                   : 0x1p-24;
  return {rounding, truncation};
}

// What a tile's error is compared with: ||ref||. But truncation is one of what was summed, which is much more than ref
// where sums cancel: among thousands of elements they do not, in a tile of a few rows and columns they may. And a
// few elements may all be among those that are off by several times the usual; hence, of each 4 times its t.
double reach(const gemm_check::Stats& s, const Precision& p) {
  const double result = std::sqrt(s.yy);
  const double summed = std::max({result, std::sqrt(s.tt), 4 * std::sqrt(std::sqrt(s.tttt))});
  return (p.rounding * result + p.truncation * summed) / (p.rounding + p.truncation);
}

GemmError summarise(const std::vector<gemm_check::Stats>& stats,
                    const std::vector<GemmTile>& tiles, const Precision& precision) {
  GemmError e;
  double xy = 0, squares = 0;
  e.worst_element = -1;
  for (size_t i = 0; i < stats.size(); ++i) {
    const gemm_check::Stats& s = stats[i];
    xy += s.xy;
    squares += s.xx + s.yy;
    e.checked += s.num_checked;
    const double relative = s.ee == 0 ? 0 : std::sqrt(s.ee) / reach(s, precision);
    if (relative > e.worst_tile || i == 0) e.worst_tile = relative, e.worst_tile_at = tiles[i];
    if (s.worst > e.worst_element) {
      e.worst_element = s.worst, e.worst_row = s.worst_row, e.worst_col = s.worst_col;
      e.worst_got = s.got, e.worst_want = s.want;
    }
    if (s.num_bad > 0 && e.class_mismatches == 0) {
      e.mismatch_row = s.bad_row, e.mismatch_col = s.bad_col;
      e.mismatch_got = s.bad_got, e.mismatch_want = s.bad_want;
    }
    e.class_mismatches += s.num_bad;
  }
  e.calc_diff = squares == 0 ? 0 : 1 - 2 * xy / squares;
  e.worst_element = std::max(e.worst_element, 0.0);
  return e;
}

// Runs the comparison and returns the smallest offset that differs, or -1.
Result<int64_t> find_first(const Device& device, compare::Params params) {
  const uint64_t count = params.num_rows * (params.end_byte - params.first_byte);
  if (count == 0) return int64_t{-1};
  DGRT_TRY(device.synchronize());
  DGRT_ASSIGN(const DeviceBuffer first, DeviceBuffer::make(device, sizeof(uint64_t)));
  params.first = first.as<unsigned long long>();  // fresh memory is all ones
  constexpr uint32_t threads = 256;
  const LabKernel kernel{"compare", 0, threads, sizeof(params)};
  const uint64_t blocks = (count + threads - 1) / threads;
  const uint32_t grid = static_cast<uint32_t>(std::min<uint64_t>(blocks, 8192));
  DGRT_TRY(device.launch(kernel, &params, grid, 1, device.stream()));
  uint64_t at = 0;
  DGRT_TRY(first.download(&at, sizeof(at)));
  return static_cast<int64_t>(at);
}

}  // namespace

std::string GemmError::to_string() const {
  std::string text = fmt::format(
      "{} elements: calc_diff {:.3g}, worst tile {:.3g} at ({}, {}), worst element {:.3g} at "
      "({}, {}): got {:.9g}, want {:.9g}",
      checked, calc_diff, worst_tile, worst_tile_at.row, worst_tile_at.col, worst_element,
      worst_row, worst_col, worst_got, worst_want);
  if (class_mismatches > 0)
    text += fmt::format("; {} wrongly finite or not, e.g. ({}, {}): got {}, want {}",
                        class_mismatches, mismatch_row, mismatch_col, mismatch_got, mismatch_want);
  return text;
}

GemmProduct product_of(const dgrt_gemm_desc& desc, const dgrt_gemm_args& args) {
  GemmProduct p = common_product(desc, args);
  if ((desc.flags & DGRT_GEMM_WITH_BIAS) != 0) p.bias = args.bias;
  p.head_left = desc.head_left, p.head_mid = desc.head_mid, p.head_right = desc.head_right;
  return p;
}

GemmProduct product_of(const dgrt_gemm_grouped_contiguous_desc& desc,
                       const dgrt_gemm_grouped_contiguous_args& args, uint32_t group,
                       int64_t first_row, int64_t num_rows) {
  GemmProduct p = common_product(desc, args);
  p.m = num_rows;
  p.a = advance(p.a, first_row * args.lda, desc.dtype_ab);
  p.a_scale = advance(p.a_scale, first_row);
  p.d = advance(p.d, first_row * args.ldd, desc.dtype_d);
  p.b = advance(p.b, group * args.b_group_stride, desc.dtype_ab);
  p.b_scale = advance(p.b_scale, group * args.b_scale_group_stride);
  return p;
}

GemmProduct product_of(const dgrt_gemm_grouped_masked_desc& desc,
                       const dgrt_gemm_grouped_masked_args& args, uint32_t group,
                       int64_t num_rows) {
  GemmProduct p = common_product(desc, args);
  p.m = num_rows;
  p.a = advance(p.a, group * args.a_group_stride, desc.dtype_ab);
  p.a_scale = advance(p.a_scale, group * args.a_scale_group_stride);
  p.d = advance(p.d, group * args.d_group_stride, desc.dtype_d);
  p.b = advance(p.b, group * args.b_group_stride, desc.dtype_ab);
  p.b_scale = advance(p.b_scale, group * args.b_scale_group_stride);
  return p;
}

GemmProduct product_of(const dgrt_gemm_batched_desc& desc, const dgrt_gemm_batched_args& args,
                       uint32_t batch) {
  GemmProduct p = common_product(desc, args);
  if ((desc.flags & DGRT_GEMM_SUM_BATCHES) != 0) {
    p.num_summed = desc.num_batches;
    p.a_summed = args.a_batch_stride, p.b_summed = args.b_batch_stride;
    return p;
  }
  p.a = advance(p.a, batch * args.a_batch_stride, desc.dtype_ab);
  p.a_scale = advance(p.a_scale, batch * args.a_scale_batch_stride);
  p.c = advance(p.c, batch * args.c_batch_stride, desc.dtype_d);
  p.d = advance(p.d, batch * args.d_batch_stride, desc.dtype_d);
  p.b = advance(p.b, batch * args.b_batch_stride, desc.dtype_ab);
  p.b_scale = advance(p.b_scale, batch * args.b_scale_batch_stride);
  return p;
}

Result<GemmError> check_gemm(const Device& device, const GemmProduct& product,
                             const std::vector<GemmTile>& tiles) {
  if (product.m == 0) return GemmError{};
  const std::vector<GemmTile>& list =
      tiles.empty() ? sample_tiles(product.m, product.n, SIZE_MAX, 0) : tiles;
  DGRT_TRY(device.synchronize());
  DGRT_ASSIGN(const DeviceBuffer device_tiles,
              DeviceBuffer::make(device, list.size() * sizeof(GemmTile)));
  DGRT_TRY(device_tiles.upload(list.data(), device_tiles.bytes()));
  DGRT_ASSIGN(const DeviceBuffer stats,
              DeviceBuffer::make(device, list.size() * sizeof(gemm_check::Stats)));
  gemm_check::Params params = make_params(product);
  params.tiles = device_tiles.as<gemm_check::Tile>();
  params.stats = stats.as<gemm_check::Stats>();
  const int kind = product.dtype_ab == DGRT_E4M3   ? gemm_check::kind_e4m3
                   : product.dtype_ab == DGRT_FP16 ? gemm_check::kind_fp16
                                                   : gemm_check::kind_bf16;
  const LabKernel kernel{"gemm_check", kind, gemm_check::num_threads, sizeof(params)};
  DGRT_TRY(device.launch(kernel, &params, static_cast<uint32_t>(list.size()), 1, device.stream()));
  DGRT_ASSIGN(const std::vector<gemm_check::Stats> found, stats.download_all<gemm_check::Stats>());
  return summarise(found, list, precision_of(product));
}

std::vector<GemmTile> sample_tiles(uint64_t m, uint64_t n, size_t count, uint64_t seed) {
  const auto num_tiles = [](uint64_t size) {
    return static_cast<uint32_t>((size + check_tile - 1) / check_tile);
  };
  const uint32_t rows = num_tiles(m), cols = num_tiles(n);
  std::vector<GemmTile> tiles;
  const auto add = [&tiles](uint32_t row, uint32_t col) {
    tiles.push_back({row * check_tile, col * check_tile});
  };
  if (uint64_t{rows} * cols <= count) {
    for (uint32_t row = 0; row < rows; ++row)
      for (uint32_t col = 0; col < cols; ++col) add(row, col);
    return tiles;
  }
  for (const uint32_t row : {0u, rows - 1})
    for (const uint32_t col : {0u, cols - 1}) add(row, col);
  // The low bits of mt19937_64 modulo a small number: uniform enough, and the same everywhere.
  std::mt19937_64 random(seed);
  while (tiles.size() < count) {
    const uint32_t edge = random() % 8;  // a quarter lies in the last row or column of tiles
    const uint32_t row = edge == 0 ? rows - 1 : random() % rows;
    const uint32_t col = edge == 1 ? cols - 1 : random() % cols;
    add(row, col);
  }
  return tiles;
}

GemmLimits gemm_limits(const GemmProduct& x) {
  const Precision p = precision_of(x);
  const double mean_square = x.dtype_d == DGRT_FP32 ? 0 : 0.262 * p.rounding * p.rounding;
  return {(mean_square + p.truncation * p.truncation) / 2, p.rounding + p.truncation, p.rounding + 8 * p.truncation};
}

Status check_limits(const GemmError& e, const GemmLimits& limits) {
  // In a small matrix chance may put all roundings on one side; there the tile's limit decides.
  const bool is_large = e.checked >= 4096;
  const char* what = e.class_mismatches > 0                 ? "finite where it must not be, or not"
                     : is_large && !(e.calc_diff <= limits.calc_diff) ? "calc_diff too large"
                     : !(e.worst_tile <= limits.worst_tile) ? "a tile is wrong"
                     : !(e.worst_element <= limits.worst_element) ? "an element is wrong"
                                                                  : nullptr;
  if (!what) return ok();
  return error(DGRT_INTERNAL, "{} (limits {:.3g}, {:.3g}, {:.3g}): {}", what,
               limits.calc_diff, limits.worst_tile, limits.worst_element, e.to_string());
}

Status check_untouched(const Device& device, const ByteColumns& columns, const void* before) {
  compare::Params params{};
  params.x = static_cast<const uint8_t*>(columns.base);
  params.y = static_cast<const uint8_t*>(before);
  params.num_rows = columns.rows;
  params.first_byte = columns.first_byte;
  params.end_byte = columns.end_byte;
  params.row_stride = columns.row_stride;
  params.value = 0xff;
  DGRT_ASSIGN(const int64_t at, find_first(device, params));
  if (at < 0) return ok();
  return error(DGRT_INTERNAL, "byte {} of row {} was written; bytes {} to {} must stay",
               static_cast<uint64_t>(at) % columns.row_stride,
               static_cast<uint64_t>(at) / columns.row_stride, columns.first_byte,
               columns.end_byte);
}

Result<int64_t> first_difference(const Device& device, const void* x, const void* y,
                                 uint64_t bytes) {
  compare::Params params{};
  params.x = static_cast<const uint8_t*>(x);
  params.y = static_cast<const uint8_t*>(y);
  params.num_rows = 1;
  params.end_byte = params.row_stride = bytes;
  return find_first(device, params);
}

}  // namespace dgrt::lab
