// SM90 scale_pack_ue8m0: fp32 scales become UE8M0 bytes, four k blocks to an int32, lowest k in the
// lowest byte: dst[word * ld_dst + row]. Bytes past the last k block of a group and rows between m
// and the next multiple of 4 are written as zeros.
//
// A tile of `block_m` rows by 32 blocks of k passes through shared memory as bytes. Reading, a warp
// takes 32 neighbours along the contiguous axis of src; writing, 128 contiguous bytes per word
// (store_columns).
// K-grouped, src is the groups' k blocks one after another, and each group begins at a whole word:
// every block first sums the groups' sizes, which only the device knows, and then finds the k blocks
// of its own words.
//
// Needs     dst 16-byte aligned, ld_dst and the groups' distance multiples of 4. k_grouped: mn_major.
// Source    PTX ISA: griddepcontrol; OCP Microscaling Formats 1.0, E8M0.
#pragma once
#include "device/common/interface.cuh"
#ifdef __CUDACC_RTC__
#include "device/epilogue/store_columns.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/memory.cuh"
#endif

namespace dgrt::sm90::scale_pack_ue8m0 {

// ---- Interface: host and NVRTC ----

struct Params {
  const float* src;                            // [groups][m, k_blocks], either order
  uint32_t* dst;                               // [groups][words, m]
  const int32_t* ks;                           // [groups], elements; k_grouped only
  int64_t ld_src, ld_dst;                      // elements
  int64_t group_stride_src, group_stride_dst;  // elements; not k_grouped
  uint32_t m, k_blocks;                        // k_grouped: of all groups together
  uint32_t num_groups, gran_k;                 // k_grouped only
  uint32_t round_up;                           // 0 or 1
};

constexpr uint32_t word_k = 4;  // k blocks per word
constexpr uint32_t tile_words = 8;
constexpr uint32_t tile_k = tile_words * word_k;  // blocks of k per thread block
constexpr uint32_t num_threads = 256;
constexpr uint32_t max_k_groups = 128;
constexpr uint32_t nan_code = 0xff;

// The UE8M0 code of an fp32, both as bits. Code e means 2^(e - 127); 2^-127 is subnormal in fp32, and
// +0 takes that smallest code too. Negative, infinite or NaN: nan_code. Not a power of two, or a
// smaller one: rounded up to the next code, or nan_code.
DGRT_HD constexpr uint32_t ue8m0_code(uint32_t bits, bool round_up) {
  constexpr uint32_t infinity = 0x7f800000, mantissa = 0x007fffff, least = 0x00400000;
  if (bits >= infinity) return nan_code;  // also every sign bit
  if (round_up) return bits <= least ? 0 : (bits + mantissa) >> 23;
  if ((bits & mantissa) == 0) return bits >> 23;
  return bits == least ? 0 : nan_code;
}

// Most words that k_blocks can fill when num_groups groups are padded to whole words each.
DGRT_HD constexpr uint32_t max_group_words(uint32_t k_blocks, uint32_t num_groups) {
  const uint32_t ragged = k_blocks < num_groups ? k_blocks : num_groups;
  return k_blocks / word_k + (k_blocks % word_k + ragged * (word_k - 1)) / word_k;
}

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----

// Where each group begins, and behind the last where it ends.
struct Groups {
  uint32_t first_block[max_k_groups + 1];  // of src
  uint32_t first_word[max_k_groups + 1];   // of dst
};

template <class Cfg, bool k_grouped = Cfg::k_grouped>
struct Smem {
  ColumnTile<Cfg::block_m, tile_words> tile;
  Groups groups;
};
template <class Cfg>
struct Smem<Cfg, false> {
  ColumnTile<Cfg::block_m, tile_words> tile;
};

// k blocks of src that make one word: begin up to 3 more, but before end.
struct Span {
  uint32_t begin, end;
};

// Sum over the lower lanes, at most `limit`. Requires: value <= limit < 2^31.
__device__ __forceinline__ uint32_t sum_below(uint32_t value, uint32_t limit) {
  const uint32_t lane = threadIdx.x % 32;
  uint32_t sum = value;
#pragma unroll
  for (uint32_t step = 1; step < 32; step *= 2) {
    const uint32_t other = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum = min(sum + other, limit);
  }
  const uint32_t before = __shfl_up_sync(0xffffffffu, sum, 1);
  return lane == 0 ? 0 : before;
}

// Warp 0 sums the groups' sizes, 4 groups a lane. Sizes that do not add up to k_blocks are cut
// there, so that nothing outside src and the largest possible dst is touched.
__device__ __forceinline__ void index_groups(const Params& p, Groups& groups) {
  constexpr uint32_t per_lane = max_k_groups / 32;
  if (threadIdx.x >= 32) return;
  const uint32_t first = threadIdx.x * per_lane;
  uint32_t blocks[per_lane], all_blocks = 0, all_words = 0;
#pragma unroll
  for (uint32_t i = 0; i < per_lane; ++i) {
    const int32_t k = first + i < p.num_groups ? p.ks[first + i] : 0;
    blocks[i] = min(ceil_div(static_cast<uint32_t>(max(k, 0)), p.gran_k), p.k_blocks);
    all_blocks = min(all_blocks + blocks[i], p.k_blocks);
  }
  uint32_t block = sum_below(all_blocks, p.k_blocks);
#pragma unroll
  for (uint32_t i = 0; i < per_lane; ++i) {
    groups.first_block[first + i] = block;
    blocks[i] = min(blocks[i], p.k_blocks - block);
    block += blocks[i];
    all_words += ceil_div(blocks[i], word_k);
  }
  uint32_t word = sum_below(all_words, 0x7fffffff);
#pragma unroll
  for (uint32_t i = 0; i < per_lane; ++i) {
    groups.first_word[first + i] = word;
    word += ceil_div(blocks[i], word_k);
  }
  if (threadIdx.x == 31) {
    groups.first_block[max_k_groups] = block;
    groups.first_word[max_k_groups] = word;
  }
}

// Requires: word < the number of words of all groups; the same in the whole warp.
__device__ __forceinline__ Span find_span(const Groups& groups, uint32_t word) {
  uint32_t group = 0;  // how many end at or before the word
#pragma unroll
  for (uint32_t i = 0; i < max_k_groups; i += 32)
    group +=
        __popc(__ballot_sync(0xffffffffu, groups.first_word[i + threadIdx.x % 32 + 1] <= word));
  return {groups.first_block[group] + (word - groups.first_word[group]) * word_k,
          groups.first_block[group + 1]};
}

// K-major source: a warp reads 32 k blocks of a row and writes them as the 8 words of that row.
template <class Cfg>
__device__ __forceinline__ void load_k_major(const Params& p, const float* src, Smem<Cfg>& smem,
                                             uint32_t first_row, uint32_t first_word) {
  constexpr uint32_t row_step = num_threads / tile_k, num_loads = Cfg::block_m / row_step;
  const uint32_t lane = threadIdx.x % tile_k, slot = threadIdx.x / tile_k;
  const uint32_t k = first_word * word_k + lane;
  float values[num_loads];
#pragma unroll
  for (uint32_t i = 0; i < num_loads; ++i) {
    const uint32_t row = first_row + slot + i * row_step;
    values[i] = 0.0f;
    if (k < p.k_blocks && row < p.m) values[i] = ptx::load_stream_f32(src + row * p.ld_src + k);
  }
#pragma unroll
  for (uint32_t i = 0; i < num_loads; ++i)
    reinterpret_cast<uint8_t*>(smem.tile[slot + i * row_step])[lane] =
        static_cast<uint8_t>(ue8m0_code(__float_as_uint(values[i]), p.round_up));
}

// MN-major source: each warp makes one word, of 32 rows at a time.
template <class Cfg>
__device__ __forceinline__ void load_mn_major(const Params& p, const float* src, Smem<Cfg>& smem,
                                              uint32_t first_row, Span span) {
  constexpr uint32_t num_parts = Cfg::block_m / 32;
  const uint32_t lane = threadIdx.x % 32;
  float values[num_parts][word_k];
#pragma unroll
  for (uint32_t part = 0; part < num_parts; ++part)
#pragma unroll
    for (uint32_t i = 0; i < word_k; ++i) {
      const uint32_t row = first_row + part * 32 + lane, k = span.begin + i;
      values[part][i] = 0.0f;
      if (k < span.end && row < p.m)
        values[part][i] = ptx::load_stream_f32(src + k * p.ld_src + row);
    }
#pragma unroll
  for (uint32_t part = 0; part < num_parts; ++part) {
    uint32_t word = 0;
#pragma unroll
    for (uint32_t i = 0; i < word_k; ++i)
      word |= ue8m0_code(__float_as_uint(values[part][i]), p.round_up) << (8 * i);
    smem.tile[part * 32 + lane][threadIdx.x / 32] = word;
  }
}

// Cfg: block_m, mn_major (the source's rows are contiguous), k_grouped.
template <class Cfg>
__device__ __forceinline__ void run(const Params& p) {
  static_assert(Cfg::block_m % 32 == 0, "a warp takes 32 rows at once");
  static_assert(num_threads / 32 == tile_words, "each warp makes one word of an MN-major source");
  static_assert(Cfg::mn_major || !Cfg::k_grouped, "k-grouped scales are MN-major");
  __shared__ Smem<Cfg> smem;
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();

  const float* src = p.src + blockIdx.z * p.group_stride_src;
  uint32_t* dst = p.dst + blockIdx.z * p.group_stride_dst;
  const uint32_t first_word = blockIdx.x * tile_words, word = first_word + threadIdx.x / 32;
  uint32_t num_words = ceil_div(p.k_blocks, word_k);
  Span span = {word * word_k, p.k_blocks};
  if constexpr (Cfg::k_grouped) {
    index_groups(p, smem.groups);
    __syncthreads();
    num_words = smem.groups.first_word[max_k_groups];
    span = word < num_words ? find_span(smem.groups, word) : Span{0, 0};
  }
  if (first_word >= num_words) return;  // the grid covers the most that the groups could fill
  const uint32_t num_row_blocks = ceil_div(p.m, Cfg::block_m);
  for (uint32_t row_block = blockIdx.y; row_block < num_row_blocks; row_block += gridDim.y) {
    const uint32_t first_row = row_block * Cfg::block_m;
    if constexpr (Cfg::mn_major)
      load_mn_major(p, src, smem, first_row, span);
    else
      load_k_major(p, src, smem, first_row, first_word);
    __syncthreads();
    store_columns<Cfg::block_m, tile_words, num_threads>(
        smem.tile, dst + first_word * p.ld_dst + first_row, p.ld_dst, p.m - first_row,
        num_words - first_word);
    __syncthreads();
  }
}
#endif

}  // namespace dgrt::sm90::scale_pack_ue8m0
