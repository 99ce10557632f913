// What host and kernels of hc_prenorm agree on: parameters, sizes of tiles and of shared memory.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::sm90::hc_prenorm {

// Where sums go: z[split * z_split + row * ldz + column], q[split * q_split + row].
struct Sums {
  float *z, *q;
  uint64_t ldz, z_split, q_split;  // elements
};

// What must be there before a CTA can load anything stands together: constants come in lines of 64 bytes.
struct Params {
  TensorMap x, w;               // tiles through shared memory: [m, k], [2 * padded n, k]
  const void *x_rows, *w_rows;  // tiles through registers: the same
  uint64_t ldx, ldw;            // elements
  uint32_t m;
  uint32_t num_groups;  // CTAs that share the k of a row tile
  // Parts of k get as many blocks as others, the first ones one more.
  uint32_t least_k_blocks, num_longer_parts;
  uint32_t num_adders;     // CTAs that add up their parts, which are zero before and after; or 0
  uint32_t parts_per_cta;  // parts of k that a CTA adds up apart, then in order
  uint32_t max_slices;     // at most most_slices; ranges of parts that may be added up apart
  float* parts;        // [row tile][group][part_floats]; null: what the groups add up is the result
  uint32_t* counters;  // [row tile], zero; tiles through shared memory, with parts
  Sums out;
};

constexpr uint32_t block_k = 64;  // one swizzle row of 128 bytes
constexpr uint32_t row_bytes = block_k * 2;
constexpr uint32_t tile_warpgroups = 2;

constexpr uint32_t most_slices = 8;

// Tiles of fewer rows go from global memory to registers.
DGRT_HD constexpr bool in_registers(uint32_t block_m) { return block_m < 64; }
DGRT_HD constexpr uint32_t padded(uint32_t n) { return align_up(n, 8); }
// `warps` multiply and add; tiles in shared memory have one more, which loads.
DGRT_HD constexpr uint32_t num_threads(uint32_t block_m, uint32_t warps) {
  return warps * 32 + (in_registers(block_m) ? 0 : 32);
}
DGRT_HD constexpr uint32_t stage_bytes(uint32_t block_m, uint32_t n) {
  return (block_m + 2 * padded(n)) * row_bytes;
}
// Floats of one CTA's sums of a tile, z and then q.
DGRT_HD constexpr uint32_t part_floats(uint32_t block_m, uint32_t n) { return block_m * (n + 1); }

// Floats between rows of staged sums: an odd multiple of 8, so that a fragment's writes of 8 bytes
// meet no bank twice.
DGRT_HD constexpr uint32_t staging_pitch(uint32_t n) {
  return padded(n) / 8 % 2 == 1 ? padded(n) : padded(n) + 8;
}
// z, then q.
DGRT_HD constexpr uint32_t copy_bytes(uint32_t block_m, uint32_t n) {
  return block_m * (staging_pitch(n) + 1) * 4;
}
// What an adder's threads tell each other in one pass over the parts: sums of slices, and each warp's word.
DGRT_HD constexpr uint32_t pass_bytes(uint32_t warps) { return warps * (32 * 16 + 4); }
// Sums of every warp that has its own, later those of slices of parts; an adder's last two passes.
DGRT_HD constexpr uint32_t staging_bytes(uint32_t block_m, uint32_t n, uint32_t warps) {
  const bool registers = in_registers(block_m);
  const uint32_t copies = (registers ? warps : 1) * copy_bytes(block_m, n);
  const uint32_t slices = registers ? 2 * pass_bytes(warps) : warps * 32 * 16;
  return copies > slices ? copies : slices;
}
// `stages` 0: in registers. 16 bytes at the end are the last arriver's.
DGRT_HD constexpr uint32_t smem_bytes(uint32_t block_m, uint32_t n, uint32_t stages,
                                      uint32_t warps) {
  return align_up(stages * (stage_bytes(block_m, n) + 16) + staging_bytes(block_m, n, warps) + 16,
                  smem_alignment);
}

}  // namespace dgrt::sm90::hc_prenorm
