// SM90 kv_dequant_paged: rows of a quantised, paged cache of sparse MLA as bf16: those of a list of slots, or the
// last ones of every sequence. Bound by memory: each byte is read once and written once.
//
// Numbers   bf16(fp32(e4m3) * scale), rounded once; rotary columns are copied.
// Roles     A warp makes a row: lanes take 8 columns, 8 or 16 bytes side by side, in turns. `rows_per_warp` rows'
//           loads are in flight together.
// Needs     rows and pages 16-byte aligned.
// Source    PTX ISA: cvt.rn.f16x2.e4m3x2, cvt.rn.bf16x2.f32, griddepcontrol.
#pragma once
#include "device/common/gemm_params.cuh"  // dtype_bf16
#include "device/common/latent_row.cuh"
#ifdef __CUDACC_RTC__
#include "device/ptx/convert.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/memory.cuh"
#endif

namespace dgrt::sm90::kv_dequant_paged {

// ---- Interface: host and NVRTC ----

struct Params {
  const void* cache;
  void* out;                   // bf16 [rows, columns]; by sequence [batch, rows, columns]
  const void* slots;           // int32 or int64 [rows]
  const int32_t* seq_lens;     // [batch]
  const int32_t* gather_lens;  // [batch], or null: all
  const int32_t* page_table;   // [batch, max_pages]
  uint64_t page_bytes;         // between pages
  uint64_t out_row, out_sequence, page_table_row;  // elements
  uint32_t num_rows, batch, num_pages, page_size, max_pages;
};

constexpr uint32_t num_threads = 256;
constexpr uint32_t max_grid_y = 65535;  // CUDA's limit; blocks loop over the sequences beyond
DGRT_HD constexpr uint32_t block_rows(uint32_t rows_per_warp) { return num_threads / 32 * rows_per_warp; }

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----

// A row of the cache. It does not exist where page == no_page: then its row of the result is zeros.
struct Source {
  uint32_t page, in_page;
};
constexpr uint32_t no_page = 0xffffffff;

template <bool wide>
__device__ __forceinline__ Source of_slot(const Params& p, uint32_t row) {
  const int64_t slot = load_slot<wide>(p.slots, row);
  if (slot < 0 || slot >= uint64_t{p.num_pages} * p.page_size) return {no_page, 0};
  const uint32_t page = static_cast<uint32_t>(slot) / p.page_size;
  return {page, static_cast<uint32_t>(slot) - page * p.page_size};
}

__device__ __forceinline__ Source of_position(const Params& p, uint32_t sequence, uint32_t position) {
  const uint32_t index = position / p.page_size;
  if (index >= p.max_pages) return {no_page, 0};
  const uint32_t page = static_cast<uint32_t>(p.page_table[sequence * p.page_table_row + index]);
  return {page < p.num_pages ? page : no_page, position - index * p.page_size};
}

// Two codes of the lower half, times the scale.
__device__ __forceinline__ uint32_t dequantise_2(uint32_t codes, float scale) {
  const uint32_t v = ptx::upcast_e4m3x2<dtype_fp16>(codes & 0xffff);
  return ptx::pack_half2<dtype_bf16>(ptx::mul_rn_f32(ptx::half_low<dtype_fp16>(v), scale),
                                     ptx::mul_rn_f32(ptx::half_high<dtype_fp16>(v), scale));
}

// What a lane has of a row: vectors of 8 columns, 32 vectors apart.
template <int format>
struct Vectors {
  using Row = LatentRow<format>;
  static constexpr uint32_t all = Row::columns / 8, each = ceil_div(all, 32);
  static constexpr uint32_t quantised = Row::quantised_columns / 8;
  uint4 data[each];  // quantised: the first 8 bytes
  float scale[each];

  __device__ void load(const LatentPlace& from, uint32_t lane) {
#pragma unroll
    for (uint32_t i = 0; i < each; ++i) {
      const uint32_t vector = i * 32 + lane;
      if (vector < quantised) {
        const uint2 codes = ptx::load_stream_b32x2(from.row + vector * 8);
        data[i].x = codes.x, data[i].y = codes.y;
        const uint32_t group = vector * 8 / Row::group_columns;
        if constexpr (Row::is_planar) {
          const uint32_t exponent = from.scales[group];
          scale[i] = __uint_as_float(exponent == 0 ? 0x400000u : exponent << 23);
        } else {
          scale[i] = ptx::load_stream_f32(from.scales + group * 4);
        }
      } else if (vector < all) {
        data[i] = ptx::load_stream_b32x4(from.row + Row::rotary_at + (vector - quantised) * 16);
      }
    }
  }
  __device__ void store(uint16_t* to, uint32_t lane, bool exists) const {
#pragma unroll
    for (uint32_t i = 0; i < each; ++i) {
      const uint32_t vector = i * 32 + lane;
      if (vector >= all) continue;
      uint4 v = data[i];
      if (vector < quantised)
        v = make_uint4(dequantise_2(data[i].x, scale[i]), dequantise_2(data[i].x >> 16, scale[i]),
                       dequantise_2(data[i].y, scale[i]), dequantise_2(data[i].y >> 16, scale[i]));
      ptx::store_b32x4(to + vector * 8, exists ? v : make_uint4(0, 0, 0, 0));
    }
  }
};

// Rows [first, first + ...) of one sequence, or of the list; those at `end` and beyond do not exist.
template <class Cfg>
__device__ __forceinline__ void make_rows(const Params& p, uint32_t sequence, uint32_t first, uint32_t end,
                                          uint32_t first_position) {
  constexpr uint32_t rows = Cfg::rows_per_warp, num_warps = num_threads / 32;
  const uint32_t lane = threadIdx.x % 32;
  Source sources[rows];
  Vectors<Cfg::format> vectors[rows];
#pragma unroll
  for (uint32_t i = 0; i < rows; ++i) {
    const uint32_t row = first + i * num_warps;
    sources[i] = {no_page, 0};
    if (row >= end) continue;
    if constexpr (Cfg::by_sequence)
      sources[i] = of_position(p, sequence, first_position + row);
    else
      sources[i] = of_slot<Cfg::wide_slots>(p, row);
  }
#pragma unroll
  for (uint32_t i = 0; i < rows; ++i)
    if (sources[i].page != no_page)
      vectors[i].load(latent_place<Cfg::format>(p.cache, p.page_bytes, p.page_size, sources[i].page,
                                                sources[i].in_page),
                      lane);
#pragma unroll
  for (uint32_t i = 0; i < rows; ++i) {
    const uint32_t row = first + i * num_warps;
    if (row >= end) continue;
    uint16_t* const out = static_cast<uint16_t*>(p.out) + sequence * p.out_sequence + row * p.out_row;
    vectors[i].store(out, lane, sources[i].page != no_page);
  }
}

// Cfg: format, by_sequence, wide_slots, rows_per_warp.
template <class Cfg>
__device__ __forceinline__ void run(const Params& p) {
  const uint32_t first = blockIdx.x * block_rows(Cfg::rows_per_warp) + threadIdx.x / 32;
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  if constexpr (Cfg::by_sequence) {
#pragma unroll 1
    for (uint32_t sequence = blockIdx.y; sequence < p.batch; sequence += gridDim.y) {
      const int32_t length = max(p.seq_lens[sequence], 0);
      int32_t gathered = p.gather_lens == nullptr ? length : min(max(p.gather_lens[sequence], 0), length);
      gathered = min(static_cast<uint32_t>(gathered), p.num_rows);
      make_rows<Cfg>(p, sequence, first, gathered, length - gathered);
    }
  } else {
    make_rows<Cfg>(p, 0, first, p.num_rows, 0);
  }
}
#endif

}  // namespace dgrt::sm90::kv_dequant_paged
