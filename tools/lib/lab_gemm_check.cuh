// Recomputes tiles of a product naively in fp64 and compares them with what dgrt wrote. Products of
// bf16, fp16 or e4m3 numbers are exact in fp64, and a sum over any k in reach is good to 1e-12: the
// reference is the exact result for all purposes here. Shares no code with the kernels that it
// judges.
//
// One block of 256 threads per 64 x 64 tile; each thread owns 4 x 4 elements, 16 apart. Scales are
// applied per 128 of k, like the definition in gemm.h says, so that infinite scales come out alike.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::lab::gemm_check {

constexpr uint32_t tile_size = 64;
constexpr uint32_t num_threads = 256;
constexpr uint32_t scale_k = 128;

enum Kind { kind_bf16, kind_e4m3, kind_fp16 };  // of a and b
enum class Output : uint32_t { bf16, fp16, fp32 };

struct Tile {
  uint32_t row, col;
};

// What one block found.
struct Stats {
  double xy, xx, yy, ee;     // sums over finite pairs: d * ref, d^2, ref^2, (d - ref)^2
  double tt, tttt;           // the same: t^2 and t^4, where t^2 are the squares of the products that ref sums up
  double worst, got, want;   // element with the largest |d - ref| / (|ref| + rms(ref)), where t may stand for ref
  double bad_got, bad_want;  // one pair of which not both are finite and which is not alike
  uint32_t worst_row, worst_col, bad_row, bad_col;
  uint32_t num_bad, num_checked;
};

struct Params {
  const void *a, *b, *c, *bias, *d;  // c, bias null: none
  const float *a_scale, *b_scale;    // null: none
  // Elements between rows, and between neighbours in k.
  int64_t a_row, a_k, b_row, b_k, ldc, ldd;
  int64_t a_scale_row, a_scale_k, b_scale_row, b_scale_k;  // k: between k blocks
  uint32_t m, n, k;
  Output output;
  uint32_t b_scale_rows;                     // rows of b that share a scale
  uint32_t scale_sums;                       // scales multiply the finished sums
  uint32_t head_left, head_width, head_mid;  // head_mid 0: columns are where they are
  uint32_t num_summed;                       // products that are added up
  int64_t a_summed, b_summed;                // elements between their operands
  const Tile* tiles;                         // null: all; then the grid's y and x name the tile
  Stats* stats;                              // one per block
};

#ifdef __CUDACC_RTC__

__device__ __forceinline__ double bf16_value(uint16_t bits) {
  return __uint_as_float(uint32_t{bits} << 16);
}

__device__ __forceinline__ double fp16_value(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ __forceinline__ double e4m3_value(uint8_t code) {
  const uint32_t exponent = code >> 3 & 15, mantissa = code & 7;
  float value = exponent == 0 ? static_cast<float>(mantissa) * (1.0f / 512.0f)
                              : __uint_as_float((exponent + 120) << 23 | mantissa << 20);
  if ((code & 0x7f) == 0x7f) value = __uint_as_float(0x7fc00000u);
  return code & 0x80 ? -value : value;
}

template <int kind>
__device__ __forceinline__ double load(const void* matrix, int64_t at) {
  if constexpr (kind == kind_e4m3) return e4m3_value(static_cast<const uint8_t*>(matrix)[at]);
  const uint16_t bits = static_cast<const uint16_t*>(matrix)[at];
  return kind == kind_fp16 ? fp16_value(bits) : bf16_value(bits);
}

__device__ __forceinline__ double load_output(const void* matrix, int64_t at, Output type) {
  if (type == Output::fp32) return static_cast<const float*>(matrix)[at];
  const uint16_t bits = static_cast<const uint16_t*>(matrix)[at];
  return type == Output::fp16 ? fp16_value(bits) : bf16_value(bits);
}

constexpr uint32_t step_k = 32;

struct Smem {
  double a[step_k][tile_size + 1], b[step_k][tile_size + 1];
  double sums[num_threads];
  uint32_t index[num_threads];
};

// What an element is the sum of: the sum, and the squares of its terms summed up.
struct Sums {
  double value = 0, squares = 0;
};

// sum[i][j] += over [first_k, first_k + step_k) of the tile at (tile.row, tile.col) of a product.
template <int kind>
__device__ __forceinline__ void add_step(const Params& p, Smem& smem, Tile tile, uint32_t product,
                                         uint32_t first_k, Sums (&sum)[4][4]) {
  const int64_t a = product * p.a_summed, b = product * p.b_summed;
  const uint32_t line = threadIdx.x / 4;
  __syncthreads();
  for (uint32_t i = 0; i < step_k / 4; ++i) {
    const uint32_t kk = threadIdx.x % 4 + i * 4, k = first_k + kk;
    const uint32_t row = tile.row + line, col = tile.col + line;
    smem.a[kk][line] = row < p.m && k < p.k ? load<kind>(p.a, a + row * p.a_row + k * p.a_k) : 0.0;
    smem.b[kk][line] = col < p.n && k < p.k ? load<kind>(p.b, b + col * p.b_row + k * p.b_k) : 0.0;
  }
  __syncthreads();
  const uint32_t ty = threadIdx.x / 16, tx = threadIdx.x % 16;
#pragma unroll 4
  for (uint32_t kk = 0; kk < step_k; ++kk) {
    double a[4], b[4];
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) a[i] = smem.a[kk][ty + 16 * i], b[i] = smem.b[kk][tx + 16 * i];
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i)
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) {
        const double term = a[i] * b[j];
        sum[i][j].value += term;
        sum[i][j].squares = fma(term, term, sum[i][j].squares);
      }
  }
}

// Of one element and k block.
__device__ __forceinline__ double scale_of(const Params& p, uint32_t row, uint32_t col,
                                           uint32_t k_block) {
  if (!p.a_scale || row >= p.m || col >= p.n) return 1.0;
  return double{p.a_scale[row * p.a_scale_row + k_block * p.a_scale_k]} *
         double{p.b_scale[col / p.b_scale_rows * p.b_scale_row + k_block * p.b_scale_k]};
}

// Where column `col` of the product stands in d.
__device__ __forceinline__ int64_t d_column(const Params& p, uint32_t col) {
  if (p.head_mid == 0) return col;
  const uint32_t head = col / p.head_width, within = col - head * p.head_width;
  return int64_t{head} * (p.head_width + p.head_mid) + within +
         (within < p.head_left ? 0 : p.head_mid);
}

// One product's share in the 16 elements of this thread. Elements outside the matrix are unspecified.
template <int kind>
__device__ __forceinline__ void add_product(const Params& p, Smem& smem, Tile tile,
                                            uint32_t product, Sums (&total)[4][4]) {
  const uint32_t ty = threadIdx.x / 16, tx = threadIdx.x % 16;
  for (uint32_t first_k = 0; first_k < p.k; first_k += scale_k) {
    Sums sum[4][4];
    for (uint32_t k = first_k; k < first_k + scale_k && k < p.k; k += step_k)
      add_step<kind>(p, smem, tile, product, k, sum);
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i)
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) {
        const uint32_t row = tile.row + ty + 16 * i, col = tile.col + tx + 16 * j;
        const double scale = p.scale_sums ? 1.0 : scale_of(p, row, col, first_k / scale_k);
        total[i][j].value = fma(scale, sum[i][j].value, total[i][j].value);
        total[i][j].squares = fma(scale * scale, sum[i][j].squares, total[i][j].squares);
      }
  }
}

// The reference.
template <int kind>
__device__ __forceinline__ void compute(const Params& p, Smem& smem, Tile tile,
                                        Sums (&total)[4][4]) {
  const uint32_t ty = threadIdx.x / 16, tx = threadIdx.x % 16;
  for (uint32_t product = 0; product < p.num_summed; ++product)
    add_product<kind>(p, smem, tile, product, total);
  if (!p.scale_sums) return;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i)
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) {
      const double scale = scale_of(p, tile.row + ty + 16 * i, tile.col + tx + 16 * j, 0);
      total[i][j].value *= scale;
      total[i][j].squares *= scale * scale;
    }
}

// Sum over the block, in every thread, in an order that does not change.
__device__ __forceinline__ double block_sum(Smem& smem, double value) {
  __syncthreads();
  smem.sums[threadIdx.x] = value;
  for (uint32_t half = num_threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) smem.sums[threadIdx.x] += smem.sums[threadIdx.x + half];
  }
  __syncthreads();
  return smem.sums[0];
}

// The thread with the largest value.
__device__ __forceinline__ uint32_t block_argmax(Smem& smem, double value) {
  __syncthreads();
  smem.sums[threadIdx.x] = value;
  smem.index[threadIdx.x] = threadIdx.x;
  for (uint32_t half = num_threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half && smem.sums[threadIdx.x + half] > smem.sums[threadIdx.x]) {
      smem.sums[threadIdx.x] = smem.sums[threadIdx.x + half];
      smem.index[threadIdx.x] = smem.index[threadIdx.x + half];
    }
  }
  __syncthreads();
  return smem.index[0];
}

// Values that round to infinity in d's type become it.
__device__ __forceinline__ double clip(double value, Output type) {
  const double limit = type == Output::fp32   ? 0x1.ffffffp127
                       : type == Output::fp16 ? 65520.0
                                              : 0x1.ffp127;
  if (fabs(value) < limit || value != value) return value;
  return value > 0 ? __longlong_as_double(0x7ff0000000000000ll)
                   : __longlong_as_double(static_cast<long long>(0xfff0000000000000ull));
}

__device__ __forceinline__ bool is_finite(double value) { return fabs(value) < 1e308; }

// One thread's part of Stats. got/want pairs are visited in a fixed order.
struct Findings {
  double xy = 0, xx = 0, yy = 0, ee = 0, tt = 0, tttt = 0;
  double bad_got = 0, bad_want = 0;
  uint32_t num_bad = 0, num_checked = 0, bad_row = 0, bad_col = 0;

  __device__ __forceinline__ void add(double got, double want, double squares, uint32_t row, uint32_t col) {
    ++num_checked;
    if (is_finite(got) && is_finite(want)) {
      xy += got * want, xx += got * got, yy += want * want;
      ee += (got - want) * (got - want);
      tt += squares, tttt += squares * squares;
    } else if (!(got == want || (got != got && want != want))) {
      if (num_bad++ == 0) bad_got = got, bad_want = want, bad_row = row, bad_col = col;
    }
  }
};

template <class Cfg>
__device__ void run(const Params& p) {
  __shared__ Smem smem;
  const uint32_t block = blockIdx.y * gridDim.x + blockIdx.x;
  const Tile tile = p.tiles ? p.tiles[block] : Tile{blockIdx.y * tile_size, blockIdx.x * tile_size};
  const uint32_t ty = threadIdx.x / 16, tx = threadIdx.x % 16;

  Sums sums[4][4];
  compute<Cfg::kind>(p, smem, tile, sums);
  double want[4][4] = {}, got[4][4] = {};
  Findings found;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i)
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) {
      const uint32_t row = tile.row + ty + 16 * i, col = tile.col + tx + 16 * j;
      if (row >= p.m || col >= p.n) continue;
      want[i][j] = sums[i][j].value;
      if (p.bias) want[i][j] += load_output(p.bias, col, p.output);
      if (p.c) want[i][j] += load_output(p.c, row * p.ldc + col, p.output);
      want[i][j] = clip(want[i][j], p.output);
      got[i][j] = load_output(p.d, row * p.ldd + d_column(p, col), p.output);
      found.add(got[i][j], want[i][j], sums[i][j].squares, row, col);
    }
  Stats s{};
  s.xy = block_sum(smem, found.xy), s.xx = block_sum(smem, found.xx);
  s.yy = block_sum(smem, found.yy), s.ee = block_sum(smem, found.ee);
  s.tt = block_sum(smem, found.tt), s.tttt = block_sum(smem, found.tttt);
  s.num_checked = static_cast<uint32_t>(block_sum(smem, found.num_checked));
  s.num_bad = static_cast<uint32_t>(block_sum(smem, found.num_bad));

  const double rms = sqrt(fmax(s.yy, s.tt) / (s.num_checked > 0 ? s.num_checked : 1));
  s.worst = -1;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i)
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) {
      const uint32_t row = tile.row + ty + 16 * i, col = tile.col + tx + 16 * j;
      if (row >= p.m || col >= p.n || !is_finite(got[i][j]) || !is_finite(want[i][j])) continue;
      const double error = fabs(got[i][j] - want[i][j]), size = fabs(want[i][j]) + rms;
      const double ratio = error == 0 ? 0 : size == 0 ? 1e300 : error / size;
      if (ratio <= s.worst) continue;
      s.worst = ratio, s.got = got[i][j], s.want = want[i][j];
      s.worst_row = row, s.worst_col = col;
    }
  // The thread with the worst element writes; the bad pair, if any, comes from another one.
  const uint32_t writer = block_argmax(smem, s.worst);
  if (threadIdx.x == writer) p.stats[block] = s;
  const uint32_t witness = block_argmax(smem, found.num_bad);  // also orders the two writes
  if (threadIdx.x == witness && found.num_bad > 0) {
    p.stats[block].bad_got = found.bad_got, p.stats[block].bad_want = found.bad_want;
    p.stats[block].bad_row = found.bad_row, p.stats[block].bad_col = found.bad_col;
  }
}

#endif
}  // namespace dgrt::lab::gemm_check
