// Tensor maps of a and b for groups whose addresses and lengths only the device knows: group g of a is a
// row-major [m, k of g] behind the groups before it, or MN-major the k of g rows behind theirs; likewise
// of b. Past the group's end TMA delivers zeros.
//
// One warp of each CTA builds the maps of the groups that the CTA visits, ahead of the loads and in
// memory of the CTA's own. No map is ever rewritten, so no load in flight can see a change.
#pragma once
#include "device/common/gemm_params.cuh"
#include "device/common/gemm_tile.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/tensor_map.cuh"

namespace dgrt {

struct GroupMaps {
  const GemmParams& p;
  uint32_t smem;  // gemm_group_maps_bytes of shared memory: map of a, map of b, groups done

  __device__ uint32_t done() const { return smem + 2 * sizeof(TensorMap); }
  __device__ TensorMap* of_group(uint32_t group) const {
    return p.groups.maps + (uint64_t{blockIdx.x} * p.groups.count + group) * 2;
  }

  // One thread, before the block's first barrier.
  __device__ void init() const { ptx::store_shared_u32(done(), 0); }

  // A whole warp. `k_group` as the loads' walk has it.
  template <class Walk, bool mn_major>
  __device__ void build(uint32_t k_group) const {
    const uint32_t lane = threadIdx.x % 32;
    const auto* maps = reinterpret_cast<const uint32_t*>(&p.a);
    for (uint32_t i = lane; i < 2 * sizeof(TensorMap) / 4; i += 32)
      ptx::store_shared_u32(smem + i * 4, maps[i]);
    Walk walk(p, k_group);
    uint32_t num_done = 0;
    while (walk.next()) {
      if (walk.group < num_done) continue;
      num_done = walk.group + 1;
      if (walk.num_k > 0) {
        __syncwarp();
        if (lane < 2) replace<mn_major>(lane, walk.first_k, walk.num_k);
        __syncwarp();
        ptx::publish_map(of_group(walk.group), smem);
        ptx::publish_map(of_group(walk.group) + 1, smem + sizeof(TensorMap));
      }
      __syncwarp();
      if (lane == 0) ptx::store_release_shared_u32(done(), num_done);
    }
  }

  // The thread that loads, before its first load of a group.
  template <class Walk>
  __device__ void wait(const Walk& walk) const {
    while (ptx::load_acquire_shared_u32(done()) <= walk.group) {
    }
    ptx::acquire_map(of_group(walk.group));
    ptx::acquire_map(of_group(walk.group) + 1);
  }

 private:
  // Of a (0) or b (1). Elements of K-major operands are bytes.
  template <bool mn_major>
  __device__ void replace(uint32_t which, uint32_t first_k, uint32_t num_k) const {
    const auto* base = static_cast<const char*>(which == 0 ? p.groups.a : p.groups.b);
    const uint32_t map = smem + which * sizeof(TensorMap);
    if constexpr (mn_major) {
      const uint64_t row_bytes = which == 0 ? p.groups.a_row_bytes : p.groups.b_row_bytes;
      ptx::replace_map_address(map, base + first_k * row_bytes);
      ptx::replace_map_rows(map, num_k);
    } else {
      const uint64_t rows = which == 0 ? p.out.m : p.out.n;
      ptx::replace_map_address(map, base + rows * first_k);
      ptx::replace_map_columns(map, num_k);
      ptx::replace_map_row_bytes(map, num_k);
    }
  }
};

// The maps that a tile's loads go through: the parameters', or those of its group.
template <bool built>
struct OperandMaps {
  const GroupMaps& groups;
  const TensorMap *a, *b;
  uint32_t num_ready = 0;  // groups whose maps were waited for

  __device__ explicit OperandMaps(const GroupMaps& groups)
      : groups(groups), a(&groups.p.a), b(&groups.p.b) {}

  template <class Walk>
  __device__ __forceinline__ void enter(const Walk& walk) {
    if constexpr (built) {
      if (walk.k_begin != walk.k_end && walk.group >= num_ready) {
        groups.wait(walk);
        num_ready = walk.group + 1;
      }
      a = groups.of_group(walk.group), b = a + 1;
    }
  }
};

}  // namespace dgrt
