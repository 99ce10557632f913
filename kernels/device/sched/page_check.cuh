// Looks for entries of a page table that name no page, and tells the caller of the first. Kernels read nothing
// for such entries, whether or not they are looked for: their keys count as zeros.
#pragma once
#include "device/common/interface.cuh"
#include "device/ptx/atomic.cuh"

namespace dgrt {

// error: {1, sequence, column, entry} of the first one so far, or zeros.
__device__ __forceinline__ void report_page(int32_t* error, uint32_t sequence, uint32_t column, int32_t entry) {
  const int4 own = make_int4(1, static_cast<int32_t>(sequence), static_cast<int32_t>(column), entry);
  int4 seen = make_int4(0, 0, 0, 0);
  while (true) {
    const int4 before = ptx::atomic_cas_b128(error, seen, own);
    if (before.x == seen.x && before.y == seen.y && before.z == seen.z && before.w == seen.w) return;
    if (before.x != 0 && (before.y < own.y || (before.y == own.y && before.z <= own.z))) return;
    seen = before;
  }
}

// All threads of the grid: a CTA takes a sequence, its threads the entries of keys that some query may see.
// lens_of(sequence): what has q_len, kv_len and offset(). With new_keys the last q_len keys have no entries.
template <bool new_keys, class Params, class LensOf>
__device__ __forceinline__ void check_pages(const Params& p, const LensOf& lens_of) {
  bool found = false;  // what follows in this thread comes later in the table
#pragma unroll 1
  for (uint32_t sequence = blockIdx.x; sequence < p.batch && !found; sequence += gridDim.x) {
    const auto lens = lens_of(sequence);
    const int32_t first = max(lens.offset() - p.window_left, 0), end = new_keys ? lens.offset() : lens.kv_len;
    if (lens.q_len <= 0 || end <= first) continue;
    const uint32_t last = static_cast<uint32_t>(end - 1) / p.page_size;
    uint32_t column = static_cast<uint32_t>(first) / p.page_size + threadIdx.x;
#pragma unroll 1
    for (; column <= last && !found; column += blockDim.x) {
      const int32_t entry = p.page_table[sequence * p.table_row + column];
      found = static_cast<uint32_t>(entry) >= p.num_pages;
      if (found) report_page(p.page_error, sequence, column, entry);
    }
  }
  __syncwarp();  // what follows wants whole warps
}

}  // namespace dgrt
