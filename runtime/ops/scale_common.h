// What scale_layout and scale_pack_ue8m0 say in the same words on the host: the rules for groups and
// strides, the tiles there are and what they cost. Both move a matrix of scales per group through
// shared memory, `block_m` rows by 32 blocks of k per thread block.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "dgrt/gemm.h"
#include "runtime/base/config.h"
#include "runtime/base/status.h"
#include "runtime/ops/arg_rules.h"
#include "runtime/ops/op.h"

namespace dgrt::scale {

constexpr int64_t max_size = INT32_MAX;           // of m and of all groups' k blocks
constexpr int64_t max_stride = int64_t{1} << 40;  // elements, exclusive
constexpr int64_t max_grid_y = 65535;             // CUDA's limit; blocks loop over the rows beyond
constexpr int64_t max_groups = 65535;             // CUDA's limit of grid z
constexpr int64_t tile_k = 32;

inline int64_t group_count(int64_t num_groups) { return std::max<int64_t>(num_groups, 1); }

template <class Desc>
Status check_sizes(const Desc& d) {
  if (d.k_blocks < 1 || d.k_blocks > max_size)
    return invalid("k_blocks={}: must be 1 to {}", d.k_blocks, max_size);
  if (d.max_m < 0 || d.max_m > max_size)
    return invalid("max_m={}: must be 0 to {}", d.max_m, max_size);
  if (d.num_groups < 0 || d.num_groups > max_groups)
    return invalid("num_groups={}: must be 0 to {}", d.num_groups, max_groups);
  if (d.k_blocks * group_count(d.num_groups) > max_size)
    return invalid("num_groups={} with k_blocks={}: all groups may have at most {} k blocks",
                   d.num_groups, d.k_blocks, max_size);
  if (d.src_major != DGRT_K_MAJOR && d.src_major != DGRT_MN_MAJOR)
    return invalid("src_major={}: must be DGRT_K_MAJOR or DGRT_MN_MAJOR", d.src_major);
  return ok();
}

inline Status check_stride(const char* name, int64_t stride, int64_t least, const char* what) {
  if (stride < least || stride >= max_stride)
    return invalid("{}={}: must be at least {}={} and less than 2^40", name, stride, what, least);
  return ok();
}

// `columns` of k in src and in dst, per group; `groups` of them lie group strides apart.
template <class Desc, class Args>
Status check_operands(const Desc& d, const Args& x, int64_t src_columns, int64_t dst_columns,
                      int64_t groups) {
  if (x.m < 0 || x.m > d.max_m) return invalid("m={}: must be 0 to max_m={}", x.m, d.max_m);
  if (d.src_major == DGRT_K_MAJOR)
    DGRT_TRY(check_stride("ld_src", x.ld_src, src_columns, "k_blocks"));
  else
    DGRT_TRY(check_stride("ld_src", x.ld_src, x.m, "m"));
  if (x.ld_dst < dgrt_tma_aligned_rows(x.m, 4) || x.ld_dst % 4 != 0 || x.ld_dst >= max_stride)
    return invalid(
        "ld_dst={}: must be at least m={} rounded up to 4, a multiple of 4 and less than 2^40",
        x.ld_dst, x.m);
  if (groups > 1) {
    DGRT_TRY(check_stride("group_stride_src", x.group_stride_src, 0, "0"));
    if (x.group_stride_dst % 4 != 0 || x.group_stride_dst >= max_stride ||
        x.group_stride_dst / dst_columns < x.ld_dst)
      return invalid(
          "group_stride_dst={}: must be at least {} times ld_dst={}, a multiple of 4 and less than "
          "2^40",
          x.group_stride_dst, dst_columns, x.ld_dst);
  }
  if (x.m == 0) return ok();
  DGRT_TRY(check_pointer("src", x.src, 4));
  return check_pointer("dst", x.dst, 16);
}

inline SelectorVar selector_m(int64_t max_m) {
  SelectorVar m{"m", max_m, {}};
  for (int64_t rows = 32; rows < max_size; rows *= 2) m.breaks.push_back(rows);
  m.breaks.push_back(max_size);
  return m;
}

constexpr int64_t tile_rows[] = {32, 64, 128};

inline Status check_tile(const char* op, const Target& target, const Config& c) {
  if (target.arch != "sm_90a")
    return error(DGRT_UNSUPPORTED, "arch={}: {} has kernels for sm_90a", target.arch, op);
  const int64_t* block_m = c.find("block_m");
  if (!block_m) return invalid("block_m: missing");
  if (std::find(std::begin(tile_rows), std::end(tile_rows), *block_m) == std::end(tile_rows))
    return invalid("block_m={}: must be 32, 64 or 128", *block_m);
  return ok();
}

// A field of the config that only repeats what the desc says.
inline Status check_fixed(const Config& c, const char* name, bool value) {
  const int64_t* found = c.find(name);
  if (!found) return invalid("{}: missing", name);
  if (*found != int64_t{value}) return invalid("{}={}: the desc wants {:d}", name, *found, value);
  return ok();
}

// Memory, or rounds of blocks if they are too few to keep it busy; plus the launch. Products stay
// below 2^63 because columns * groups is at most max_size.
inline int64_t cost_ps(const Target& target, int64_t m, int64_t columns, int64_t groups,
                       int64_t bytes_per_scale, int64_t block_m) {
  const int64_t rows = std::max<int64_t>(m, 1);
  // 4.27 TB/s read and written, H200, measured.
  const int64_t memory_ps = rows * columns * groups / 427 * (bytes_per_scale * 100);
  const int64_t blocks =
      std::min(div_up(rows, block_m) * div_up(columns, tile_k) * groups, int64_t{1} << 40);
  // One round trip to memory and back per block, 8 blocks at once on an SM; longer tiles take
  // longer.
  const int64_t rounds_ps =
      div_up(blocks, int64_t{target.sm_count} * 8) * (1'200'000 + block_m * 3000);
  return 2'850'000 + std::max(memory_ps, rounds_ps);
}

// Grid over columns of k, rows and groups.
inline void set_grid(int64_t columns, int64_t m, int64_t groups, int64_t block_m, uint32_t threads,
                     uint32_t flags, Launch* launch) {
  launch->grid[0] = m == 0 ? 0 : static_cast<uint32_t>(div_up(columns, tile_k));
  launch->grid[1] = static_cast<uint32_t>(std::min(div_up(m, block_m), max_grid_y));
  launch->grid[2] = static_cast<uint32_t>(groups);
  launch->num_threads = threads;
  launch->block_m = static_cast<uint32_t>(block_m);
  launch->pdl = (flags & DGRT_FLAG_PDL) != 0;
}

}  // namespace dgrt::scale
