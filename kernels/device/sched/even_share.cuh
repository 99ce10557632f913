// Work of many owners (sequences, say), laid end to end on one axis, of which every CTA takes a range of the
// same length. What each owner costs is read on the device, and every CTA finds its range alone: no plan to
// make beforehand, and costs may change between replays of a graph.
#pragma once
#include "device/common/interface.cuh"
#include "device/ptx/shared.cuh"

namespace dgrt {

struct EvenShare {
  uint32_t begin, end;   // of this CTA
  uint32_t length;       // of every CTA's
  uint32_t owner, base;  // the one that `begin` lies in, and where it starts
};

// Of shared memory, in find_share.
template <uint32_t num_threads>
constexpr uint32_t share_scratch_bytes = align_up(num_threads / 32 * 4, 16) + 8;

__device__ __forceinline__ uint32_t warp_prefix_sum(uint32_t x) {
#pragma unroll
  for (uint32_t distance = 1; distance < 32; distance *= 2) {
    const uint32_t before = __shfl_up_sync(0xffffffff, x, distance);
    if (threadIdx.x % 32 >= distance) x += before;
  }
  return x;
}

// Of an owner before `last`, of others nothing: a number that is put right stands for a branch. Requires: last > 0.
template <class Cost>
__device__ __forceinline__ uint32_t cost_before(const Cost& cost_of, uint32_t owner, uint32_t last) {
  const uint32_t cost = cost_of(min(owner, last - 1));
  return owner < last ? cost : 0;
}

// All threads of a warp: which owner from `first` on, that starts at `base`, `at` lies in, and where it
// starts, to shared memory. 32 side by side, so that many owners' costs are read in whole lines.
template <class Cost>
__device__ __forceinline__ void find_owner(const Cost& cost_of, uint32_t at, uint32_t base, uint32_t first,
                                           uint32_t last, uint32_t to) {
#pragma unroll 1
  for (;; first += 32) {
    const uint32_t owner = first + threadIdx.x % 32;
    const uint32_t cost = cost_before(cost_of, owner, last);
    const uint32_t end = base + warp_prefix_sum(cost), start = end - cost;
    if (at >= start && at < end) {
      ptx::store_shared_u32(to, owner);
      ptx::store_shared_u32(to + 4, start);
    }
    base = __shfl_sync(0xffffffff, end, 31);
    if (at < base) return;
  }
}

__device__ __forceinline__ uint32_t piece_cost(uint32_t pieces) { return pieces == 0 ? 0 : pieces + 1; }

// What a warp's owners cost: all of them, and where this lane's run of `run` owners, of 32 runs, ends.
struct WarpCosts {
  uint32_t own, of_lane, to_lane, run;
};

// Four costs are on their way at once, for thousands of owners.
template <class Cost>
__device__ __forceinline__ WarpCosts sum_costs(const Cost& cost_of, uint32_t first, uint32_t last, uint32_t each) {
  const uint32_t lane = threadIdx.x % 32, run = ceil_div(each, 1024) * 32, lane_first = first + lane * run;
  uint32_t of_lane = 0;
#pragma unroll 1
  for (uint32_t at = first; at < last; at += 4 * 32) {
    uint32_t costs[4];
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) costs[i] = cost_before(cost_of, at + i * 32 + lane, last);
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t cost = __reduce_add_sync(0xffffffff, costs[i]);
      if (at + i * 32 >= lane_first && at + i * 32 < lane_first + run) of_lane += cost;
    }
  }
  const uint32_t to_lane = warp_prefix_sum(of_lane);
  return {__shfl_sync(0xffffffff, to_lane, 31), of_lane, to_lane, run};
}

// Of ranges with so much to do altogether.
template <uint32_t slack>
__device__ __forceinline__ uint32_t share_length(uint32_t total, uint32_t count, uint32_t first_cost,
                                                 uint32_t num_ranges, uint32_t least) {
  const uint32_t length = max(ceil_div(total, num_ranges), least);
  if constexpr (slack != 0) {
    const uint32_t whole = quick_ceil_div(count, num_ranges) * first_cost;
    if (total == count * first_cost && whole - length <= slack) return whole;
  }
  return length;
}

// find_share of not more than 32 owners: every warp looks at all of them.
template <uint32_t slack, class Cost>
__device__ __forceinline__ EvenShare find_share_of_few(uint32_t count, const Cost& cost_of, uint32_t index,
                                                       uint32_t num_ranges, uint32_t least) {
  const uint32_t lane = threadIdx.x % 32, cost = lane < count ? cost_of(lane) : 0;
  const uint32_t end = warp_prefix_sum(cost), total = __shfl_sync(0xffffffff, end, 31);
  EvenShare share;
  share.length = share_length<slack>(total, count, __shfl_sync(0xffffffff, cost, 0), num_ranges, least);
  share.begin = min(index * share.length, total);
  share.end = min(share.begin + share.length, total);
  share.owner = __popc(__ballot_sync(0xffffffff, end <= share.begin));
  share.base = __shfl_sync(0xffffffff, end - cost, share.owner % 32);
  return share;
}

// All threads of the CTA, which meet here. cost_of(i) for i < count; together less than 2^32. scratch: share_scratch_bytes of
// shared memory. Owner and base say nothing where the range is empty. index: of the range, of so many. many: owners
// come in thousands, and what finds them fast may take registers. slack: where all owners cost what the first does, ranges
// may be so much longer if that leaves every owner to one of them. few: up to 32 owners are looked at by every warp.
// least: length of a range, at least 1.
template <uint32_t num_threads, bool many = true, uint32_t slack = 0, bool few = false, class Cost>
__device__ EvenShare find_share(uint32_t count, const Cost& cost_of, uint32_t scratch, uint32_t index = blockIdx.x,
                                uint32_t num_ranges = gridDim.x, uint32_t least = 1) {
  if (few && count <= 32) {
    __syncthreads();
    return find_share_of_few<slack>(count, cost_of, index, num_ranges, least);
  }
  constexpr uint32_t found_at = align_up(num_threads / 32 * 4, 16);
  const uint32_t lane = threadIdx.x % 32, each = ceil_div(count, num_threads) * 32;  // of a warp
  uint32_t first = min(threadIdx.x / 32 * each, count);
  const uint32_t last = min(first + each, count);
  const uint32_t first_cost = slack != 0 ? cost_of(0) : 0;
  WarpCosts costs = {};
  if constexpr (many) {
    costs = sum_costs(cost_of, first, last, each);
  } else {
#pragma unroll 4
    for (uint32_t i = first + lane; i < last; i += 32) costs.own += cost_of(i);
    costs.own = __reduce_add_sync(0xffffffff, costs.own);
  }
  const uint32_t own = costs.own;
  if (lane == 0) ptx::store_shared_u32(scratch + threadIdx.x / 32 * 4, own);
  __syncthreads();
  uint32_t total = 0, base = 0;
#pragma unroll
  for (uint32_t warp = 0; warp < num_threads / 32; ++warp) {
    const uint32_t sum = ptx::load_shared_u32(scratch + warp * 4);
    if (warp < threadIdx.x / 32) base += sum;
    total += sum;
  }
  EvenShare share;
  share.length = share_length<slack>(total, count, first_cost, num_ranges, least);
  share.begin = min(index * share.length, total);
  share.end = min(share.begin + share.length, total);
  if (share.begin >= base && share.begin < base + own) {
    if constexpr (many) {
      const int found = __ffs(static_cast<int>(__ballot_sync(0xffffffff, share.begin < base + costs.to_lane))) - 1;
      base = __shfl_sync(0xffffffff, base + costs.to_lane - costs.of_lane, found);
      first += static_cast<uint32_t>(found) * costs.run;
    }
    find_owner(cost_of, share.begin, base, first, last, scratch + found_at);
  }
  __syncthreads();
  share.owner = ptx::load_shared_u32(scratch + found_at);
  share.base = ptx::load_shared_u32(scratch + found_at + 4);
  return share;
}

// What find_share() finds, by one warp and without a barrier. owner, base: of 32 owners, of which `begin` lies in one;
// cost: of this lane's.
struct WarpShare {
  EvenShare share;
  uint32_t cost;
};
constexpr uint32_t warp_share_owners = 256;  // at most

template <class Cost>
__device__ __forceinline__ WarpShare find_share_in_warp(uint32_t count, const Cost& cost_of) {
  constexpr uint32_t groups = warp_share_owners / 32;
  const uint32_t lane = threadIdx.x % 32;
  uint32_t costs[groups], total = 0;
#pragma unroll
  for (uint32_t i = 0; i < groups; ++i) costs[i] = i * 32 + lane < count ? cost_of(i * 32 + lane) : 0;
  uint32_t bases[groups];
#pragma unroll
  for (uint32_t i = 0; i < groups; ++i) bases[i] = total, total += __reduce_add_sync(0xffffffff, costs[i]);
  WarpShare found = {{0, 0, max(ceil_div(total, gridDim.x), 1u), 0, 0}, costs[0]};
  EvenShare& share = found.share;
  share.begin = min(blockIdx.x * share.length, total);
  share.end = min(share.begin + share.length, total);
#pragma unroll
  for (uint32_t i = 1; i < groups; ++i)
    if (share.begin >= bases[i]) share.owner = i * 32, share.base = bases[i], found.cost = costs[i];
  return found;
}

// A warp. Of 32 owners side by side, from `first` on, which costs `cost` a lane and starts at `base`: those that the share
// reaches, as in walk_share. Returns where the next ones start.
template <class Segment>
__device__ __forceinline__ uint32_t walk_owners(const EvenShare& share, uint32_t first, uint32_t base, uint32_t cost,
                                                const Segment& segment) {
  const uint32_t end = base + warp_prefix_sum(cost), start = end - cost;
  uint32_t left = __ballot_sync(0xffffffff, cost > 0 && end > share.begin && start < share.end);
#pragma unroll 1
  for (; left != 0; left &= left - 1) {
    const uint32_t owner = __ffs(left) - 1;
    const uint32_t from = __shfl_sync(0xffffffff, start, owner) + 1;
    const uint32_t to = min(__shfl_sync(0xffffffff, end, owner), share.end);
    // A share may end with what comes with an owner.
    if (to > from && to > share.begin) segment(first + owner, max(share.begin, from) - from, to - from);
  }
  return __shfl_sync(0xffffffff, end, 31);
}

// A warp. Of every owner that the share reaches: segment(owner, begin, end), the pieces of it that are this CTA's.
// An owner of n pieces costs n and one more for what comes with it, of none nothing: see piece_cost. 32 owners are
// looked at side by side.
template <class Pieces, class Segment>
__device__ __forceinline__ void walk_share(const EvenShare& share, uint32_t count, const Pieces& pieces_of,
                                           const Segment& segment) {
  const uint32_t lane = threadIdx.x % 32;
  uint32_t base = share.base;
#pragma unroll 1
  for (uint32_t first = share.owner; share.begin < share.end && base < share.end; first += 32)
    base = walk_owners(share, first, base, first + lane < count ? piece_cost(pieces_of(first + lane)) : 0, segment);
}

}  // namespace dgrt
