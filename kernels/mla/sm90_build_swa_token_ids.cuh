// SM90 build_swa_token_ids: the cache slots of each request's last tokens that its new tokens' windows reach, one
// request behind the other.
//
// Roles     A thread makes one id. Every thread block sums the requests' numbers from the start, a request a
//           thread at a time, until it is past its own ids; the first one writes the sums.
// Source    PTX ISA: griddepcontrol.
#pragma once
#include "device/common/interface.cuh"
#ifdef __CUDACC_RTC__
#include "device/ptx/grid.cuh"
#include "device/ptx/warpgroup.cuh"
#endif

namespace dgrt::sm90::build_swa_token_ids {

// ---- Interface: host and NVRTC ----

struct Params {
  const int32_t *seq_lens, *extend_lens, *request_rows;  // [batch]
  const int32_t* req_to_token;                           // [num_request_rows, max_tokens]
  const int64_t* full_to_swa;                            // [num_full]
  int32_t *token_ids, *first, *gather_lens, *offsets;    // [capacity], [batch] twice, [batch + 1]
  uint64_t req_to_token_row;                             // elements
  uint32_t batch, window, capacity, num_request_rows, max_tokens, num_full;
};

constexpr uint32_t num_threads = 1024;  // ids of a thread block

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----

// `num_threads` requests.
struct Smem {
  uint32_t starts[num_threads + 1];  // of their ids, and the end
  int32_t first[num_threads], row[num_threads];
  uint32_t warp_sums[num_threads / 32];
};

// The sum of the lower threads' values; `total`: of all. Ends with a barrier.
__device__ __forceinline__ uint32_t sum_below(Smem& smem, uint32_t value, uint32_t* total) {
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  uint32_t sum = value;
#pragma unroll
  for (uint32_t step = 1; step < 32; step *= 2) {
    const uint32_t other = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum += other;
  }
  if (lane == 31) smem.warp_sums[warp] = sum;
  __syncthreads();
  const uint32_t of_warp = smem.warp_sums[lane];
  *total = ptx::redux_add_u32(of_warp);
  return sum - value + ptx::redux_add_u32(lane < warp ? of_warp : 0);
}

// The last request whose ids begin at or before `id`.
__device__ __forceinline__ uint32_t find_request(const Smem& smem, uint32_t id) {
  uint32_t found = 0;
#pragma unroll
  for (uint32_t step = num_threads / 2; step > 0; step /= 2)
    if (smem.starts[found + step] <= id) found += step;
  return found;
}

__device__ __forceinline__ int32_t id_of(const Params& p, int32_t row, uint32_t position) {
  if (static_cast<uint32_t>(row) >= p.num_request_rows || position >= p.max_tokens) return -1;
  const uint32_t token = static_cast<uint32_t>(
      p.req_to_token[static_cast<uint32_t>(row) * p.req_to_token_row + position]);
  if (token >= p.num_full) return -1;
  const int64_t id = p.full_to_swa[token];
  return id < 0 || id > 0x7fffffff ? -1 : static_cast<int32_t>(id);
}

template <class Cfg>
__device__ __forceinline__ void run(const Params& p) {
  static_assert(Cfg::threads == num_threads, "32 warps, as many as a warp has lanes");
  __shared__ Smem smem;
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  const bool writes_sums = blockIdx.x == 0;
  const uint32_t first_id = blockIdx.x * num_threads, id = first_id + threadIdx.x;
  uint32_t done = 0;  // ids of the requests before `base`
#pragma unroll 1
  for (uint32_t base = 0; base < p.batch && (writes_sums || done < first_id + num_threads); base += num_threads) {
    const uint32_t request = base + threadIdx.x;
    uint32_t length = 0, gathered = 0;
    if (request < p.batch) {
      length = max(p.seq_lens[request], 0);
      gathered = min(length, static_cast<uint32_t>(max(p.extend_lens[request], 0)) + p.window - 1);
      smem.row[threadIdx.x] = p.request_rows[request];
      smem.first[threadIdx.x] = length - gathered;
    }
    uint32_t total;
    const uint32_t start = done + sum_below(smem, gathered, &total);
    smem.starts[threadIdx.x] = start;
    if (threadIdx.x == 0) smem.starts[num_threads] = done + total;
    if (writes_sums && request < p.batch) {
      p.first[request] = length - gathered;
      p.gather_lens[request] = gathered;
      p.offsets[request] = start;
    }
    __syncthreads();
    if (id >= done && id < done + total && id < p.capacity) {
      const uint32_t found = find_request(smem, id);
      p.token_ids[id] = id_of(p, smem.row[found], smem.first[found] + (id - smem.starts[found]));
    }
    done += total;
    __syncthreads();
  }
  if (id >= done && id < p.capacity) p.token_ids[id] = -1;
  if (writes_sums && threadIdx.x == 0) p.offsets[p.batch] = done;
}
#endif

}  // namespace dgrt::sm90::build_swa_token_ids
