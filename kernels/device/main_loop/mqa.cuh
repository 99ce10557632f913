// Logits of an indexer: for a token i and a key j that it may see,
//   logit[i, j] = scale[j] * sum over heads h of w[i, h] * max(0, q[i, h] . k[j]).
//
// Roles     Two math warpgroups of 64 keys each: products of keys (rows) and the heads of some tokens (columns),
//           whose columns a thread then adds up in registers, weighted. The first warp of the last warpgroup
//           loads; the others fill what no token may see, if they are to.
// Columns   See mqa_team: of four tokens or more, each thread has one of every section, and no sum crosses
//           threads.
// Pipeline  mqa_q_slots of q with its weights, rows and the range of its key tiles: an item. `stages` slots of
//           key tiles. Of more than 128 columns a half is added up while the other one is multiplied; and each
//           warpgroup while the other one multiplies.
// Order     A logit is the sum of two chains over a thread's heads in ascending order, and over the threads that
//           share its token: its bits depend on its token's and key's data alone.
// Source    PTX ISA: wgmma.mma_async, fragment layouts.
#pragma once
#include "device/common/mqa_tile.cuh"
#include "device/mma/slab_product.cuh"
#include "device/pipeline/ring.cuh"
#include "device/ptx/convert.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/memory.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/tma.cuh"
#include "device/ptx/warpgroup.cuh"
#include "device/ptx/wgmma_e4m3.gen.cuh"

namespace dgrt {

template <class Cfg>
struct MqaSmem {
  static constexpr MqaConfig config{Cfg::num_heads, Cfg::head_dim, Cfg::tokens, Cfg::stages};
  static constexpr uint32_t team = mqa_team(Cfg::tokens), sections = mqa_sections(Cfg::tokens);
  static constexpr uint32_t section_columns = mqa_section_columns(config), columns = mqa_columns(config);
  static constexpr uint32_t section_bytes = section_columns * Cfg::head_dim;
  static constexpr uint32_t halves = columns > 128 ? 2 : 1, half_columns = columns / halves;
  static constexpr uint32_t kv_bytes = mqa_kv_bytes(config);
  static constexpr uint32_t kv_offset = mqa_q_slots * mqa_q_bytes(config);
  static constexpr uint32_t scale_offset = kv_offset + Cfg::stages * kv_bytes;
  static constexpr uint32_t scale_bytes = mqa_block_kv * 4;
  static constexpr uint32_t side_offset = scale_offset + Cfg::stages * scale_bytes;
  static constexpr uint32_t scratch_offset = side_offset + mqa_q_slots * mqa_side_bytes(config);
  static constexpr uint32_t barrier_offset = scratch_offset + mqa_scratch_bytes;
  static_assert(columns <= mqa_max_columns && mqa_registers(config) <= mqa_max_registers, "too few registers");
  static_assert(Cfg::tokens < 4 || Cfg::tokens % 4 == 0, "large sections have four tokens");
  static_assert(half_columns % 8 == 0 && 8 % team == 0, "eight columns are heads of each of a team's tokens");
  static_assert(barrier_offset + (mqa_q_slots + Cfg::stages) * 16 <= mqa_smem_bytes(config),
                "host and kernel must agree on shared memory");

  uint32_t base;

  __device__ uint32_t q(uint32_t slot) const { return base + slot * mqa_q_bytes(config); }
  __device__ uint32_t kv(uint32_t slot) const { return base + kv_offset + slot * kv_bytes; }
  __device__ uint32_t scales(uint32_t slot) const { return base + scale_offset + slot * scale_bytes; }
  __device__ uint32_t item(uint32_t slot) const { return base + side_offset + slot * mqa_side_bytes(config); }
  __device__ uint32_t row(uint32_t slot, uint32_t token) const {
    return item(slot) + mqa_item_bytes + token * mqa_row_bytes;
  }
  __device__ uint32_t weights(uint32_t slot) const { return row(slot, sections * team); }
  __device__ uint32_t scratch() const { return base + scratch_offset; }
  __device__ Ring<mqa_q_slots> q_ring() const { return Ring<mqa_q_slots>(base + barrier_offset); }
  __device__ Ring<Cfg::stages> kv_ring() const {
    return Ring<Cfg::stages>(base + barrier_offset + mqa_q_slots * 16);
  }
  // One thread.
  __device__ void init_barriers() const {
    q_ring().init(mqa_math_warpgroups * 4);
    kv_ring().init(mqa_math_warpgroups * 4);
    ptx::fence_mbarrier_init();
  }
};

// Key tiles of a block of q. None: there are no more items.
struct MqaItem {
  int32_t first_tile, end_tile;
};

// Keys that a token may see, and where key 0's logit would be: elements from the start of out.
struct MqaRow {
  int32_t begin, end;
  int64_t out;
};

// ---- Producer: a whole warp ----

// The next item to the math warpgroups: `row` of lane `token`, empty of those that do not exist. w [token][head]
// of num_tokens tokens; q comes by TMA from token q_token of its map on.
template <class Cfg>
__device__ __forceinline__ void load_item(const MqaSmem<Cfg>& smem, Ring<mqa_q_slots>& ring, const MqaItem& item,
                                          const MqaRow& row, const TensorMap* q, uint32_t q_token, const float* w,
                                          uint64_t w_row, uint32_t num_tokens) {
  using Smem = MqaSmem<Cfg>;
  constexpr uint32_t columns = Smem::columns, each = ceil_div(columns, 32), team_heads = 8 / Smem::team;
  const uint32_t lane = threadIdx.x % 32;
  float weight[each];
#pragma unroll
  for (uint32_t i = 0; i < each; ++i) {
    const uint32_t column = i * 32 + lane, section = column / Smem::section_columns;
    const uint32_t group = column % Smem::section_columns / 8;
    const uint32_t token = section * Smem::team + column % 8 / team_heads, head = group * team_heads + column % team_heads;
    weight[i] = token < num_tokens && column < columns ? w[token * w_row + head] : 0.0f;
  }
  ring.wait_empty();
  const uint32_t slot = ring.slot;
#pragma unroll
  for (uint32_t i = 0; i < each; ++i)
    if (columns % 32 == 0 || i * 32 + lane < columns)
      ptx::store_shared_f32(smem.weights(slot) + (i * 32 + lane) * 4, weight[i]);
  if (lane < Smem::sections * Smem::team) {
    const uint64_t out = static_cast<uint64_t>(row.out);
    ptx::store_shared_s32x4(smem.row(slot, lane), make_int4(row.begin, row.end, static_cast<int32_t>(out),
                                                           static_cast<int32_t>(out >> 32)));
  }
  if (lane == 0) ptx::store_shared_s32x4(smem.item(slot), make_int4(item.first_tile, item.end_tile, 0, 0));
  __syncwarp();
  if (lane == 0) {
    ptx::mbarrier_arrive_expect_tx(ring.full(), Smem::sections * Smem::section_bytes);
#pragma unroll
    for (uint32_t section = 0; section < Smem::sections; ++section)
      ptx::tma_load_4d(smem.q(slot) + section * Smem::section_bytes, q, ring.full(), 0, 0,
                       q_token + section * Smem::team, 0);
  }
  ring.advance();
}

template <class Cfg>
__device__ __forceinline__ void end_items(const MqaSmem<Cfg>& smem, const Ring<mqa_q_slots>& ring) {
  if (threadIdx.x % 32 != 0) return;
  ring.wait_empty();
  ptx::store_shared_s32x4(smem.item(ring.slot), make_int4(0, 0, 0, 0));
  ptx::mbarrier_arrive(ring.full());
}

// ---- Math ----

template <int dtype>
__device__ __forceinline__ void store_logit(uint8_t* out, int32_t key, float logit) {
  if constexpr (dtype == dtype_fp32)
    ptx::store_f32(out + int64_t{key} * 4, logit);
  else
    ptx::store_b16(out + int64_t{key} * 2, static_cast<uint16_t>(ptx::pack_half2<dtype>(logit, 0.0f)));
}

// One math warpgroup. scale(tile, slot, row): of a key of a tile, which may be past the last one.
template <class Cfg, class Scale>
class MqaMath {
 public:
  __device__ MqaMath(const MqaSmem<Cfg>& smem, void* out, const Scale& scale, uint32_t warpgroup)
      : smem_(smem),
        out_(static_cast<uint8_t*>(out)),
        scale_(scale),
        kv_(smem.kv_ring()),
        slab_(warpgroup),
        lane_(threadIdx.x % 32),
        row_(slab_ * 64 + threadIdx.x / 32 % 4 * 16 + lane_ / 4 + (rows == 1 ? lane_ % 2 * 8 : 0)) {}

  __device__ __forceinline__ void run() {
    for (Ring<mqa_q_slots> q = smem_.q_ring();; q.advance()) {
      q.wait_full();
      const int4 item = ptx::load_shared_s32x4(smem_.item(q.slot));
      if (item.x >= item.y) return;
      load_side(q.slot);
#pragma unroll 1
      for (int32_t tile = item.x; tile < item.y; ++tile) run_tile(q.slot, tile);
      __syncwarp();
      if (lane_ == 0) ptx::mbarrier_arrive(q.empty());
    }
  }

 private:
  using Smem = MqaSmem<Cfg>;
  static constexpr uint32_t sections = Smem::sections, half_columns = Smem::half_columns;
  // Of a tile's keys, whose logits this thread stores: row_ and, with a team of four, the one 8 further on.
  static constexpr uint32_t rows = Smem::team == 4 ? 2 : 1;

  __device__ __forceinline__ void load_side(uint32_t q_slot) {
#pragma unroll
    for (uint32_t i = 0; i < Smem::columns / 8; ++i) {
      const float2 pair = ptx::load_shared_f32x2(smem_.weights(q_slot) + (i * 8 + lane_ % 4 * 2) * 4);
      // See relu(): it doubles every second product.
      w_[2 * i] = pair.x, w_[2 * i + 1] = 0.5f * pair.y;
    }
#pragma unroll
    for (uint32_t section = 0; section < sections; ++section) {
      const int4 row = ptx::load_shared_s32x4(smem_.row(q_slot, section * Smem::team + lane_ % 4 * Smem::team / 4));
      const bool stores = Smem::team > 1 || lane_ % 4 < 2;
      begin_[section] = row.x, end_[section] = stores ? row.y : row.x;
      const auto at = static_cast<int64_t>(static_cast<uint64_t>(static_cast<uint32_t>(row.w)) << 32 |
                                           static_cast<uint32_t>(row.z));
      row_out_[section] = out_ + at * static_cast<int64_t>(dtype_bytes<Cfg::dtype_out>);
    }
  }

  // Returns at once.
  template <uint32_t half>
  __device__ __forceinline__ void issue(uint32_t q_slot, uint32_t kv_slot) {
    const uint64_t k = row_descriptor<Cfg::head_dim>(smem_.kv(kv_slot) + slab_ * 64 * Cfg::head_dim);
    const uint64_t q = row_descriptor<Cfg::head_dim>(smem_.q(q_slot) + half * half_columns * Cfg::head_dim);
    keep_all(acc_[half]);
    ptx::wgmma_fence();
#pragma unroll
    for (uint32_t step = 0; step < Cfg::head_dim / 32; ++step)  // 32 bytes: 2 in the descriptor's units
      ptx::WgmmaE4m3<half_columns>::mma(acc_[half], k + 2 * step, q + 2 * step, step != 0);
    ptx::wgmma_commit();
    keep_all(acc_[half]);
  }

  // max(0, x), NaN of NaN, or twice that: one keeps the pipe of comparisons busy, the other that of sums.
  template <uint32_t element>
  static __device__ __forceinline__ float relu(float x) {
    if constexpr (element == 0)
      return ptx::max_nan_f32(x, 0.0f);
    else
      return x + fabsf(x);
  }

  // Requires: the half's products are complete.
  template <uint32_t half>
  __device__ __forceinline__ void add_heads(float (&sum)[sections][2][2]) {
    keep_all(acc_[half]);
#pragma unroll
    for (uint32_t i = 0; i < half_columns / 8; ++i) {
      const uint32_t group = half * (half_columns / 8) + i;
      float(&s)[2][2] = sum[group * 8 / Smem::section_columns];
#pragma unroll
      for (uint32_t row = 0; row < 2; ++row) {
        s[row][0] = ptx::fma_rn_f32(w_[2 * group], relu<0>(acc_[half][4 * i + 2 * row]), s[row][0]);
        s[row][1] = ptx::fma_rn_f32(w_[2 * group + 1], relu<1>(acc_[half][4 * i + 2 * row + 1]), s[row][1]);
      }
    }
  }

  __device__ __forceinline__ void store(int32_t tile, const float (&sum)[sections][2][2],
                                        const float (&scale)[rows]) const {
    const int32_t key = tile * static_cast<int32_t>(mqa_block_kv) + static_cast<int32_t>(row_);
#pragma unroll
    for (uint32_t section = 0; section < sections; ++section) {
      float logit[2] = {sum[section][0][0] + sum[section][0][1], sum[section][1][0] + sum[section][1][1]};
      if constexpr (rows == 1) {  // two threads or four share a token: the even ones take the first row
        const bool odd = lane_ % 2 != 0;
        const float give = odd ? logit[0] : logit[1];
        logit[0] = (odd ? logit[1] : logit[0]) + __shfl_xor_sync(0xffffffff, give, 1);
        if constexpr (Smem::team == 1) logit[0] += __shfl_xor_sync(0xffffffff, logit[0], 2);
      }
#pragma unroll
      for (uint32_t row = 0; row < rows; ++row) {
        const int32_t at = key + static_cast<int32_t>(row * 8);
        if (at >= begin_[section] && at < end_[section])
          store_logit<Cfg::dtype_out>(row_out_[section], at, logit[row] * scale[row]);
      }
    }
  }

  // Nothing runs at the end: the assembler would wait for it where the loop turns.
  __device__ __forceinline__ void run_tile(uint32_t q_slot, int32_t tile) {
    kv_.wait_full();
    issue<0>(q_slot, kv_.slot);
    if constexpr (Smem::halves == 2) issue<1>(q_slot, kv_.slot);
    float scale[rows], sum[sections][2][2] = {};
#pragma unroll
    for (uint32_t row = 0; row < rows; ++row) scale[row] = scale_(tile, kv_.slot, row_ + row * 8);
    if constexpr (Smem::halves == 2) {
      ptx::wgmma_wait<1>();
      add_heads<0>(sum);
    }
    ptx::wgmma_wait<0>();
    // The products, and where it lies in the slot, the scale were read.
    if (lane_ == 0) ptx::mbarrier_arrive_after(kv_.empty(), scale[0] + scale[rows - 1]);
    kv_.advance();
    add_heads<Smem::halves - 1>(sum);
    store(tile, sum, scale);
  }

  const MqaSmem<Cfg>& smem_;
  uint8_t* out_;
  const Scale& scale_;
  Ring<Cfg::stages> kv_;
  const uint32_t slab_;        // 64 keys of a tile
  const uint32_t lane_, row_;
  int32_t begin_[sections], end_[sections];
  uint8_t* row_out_[sections];
  float acc_[Smem::halves][half_columns / 2], w_[Smem::columns / 4];
};

// The whole kernel after its start: one branch per role.
template <class Cfg, class Load, class Fill, class Scale>
__device__ __forceinline__ void run_mqa_roles(const MqaSmem<Cfg>& smem, void* out, const Load& load,
                                              const Fill& fill, const Scale& scale) {
  constexpr uint32_t math_warps = mqa_math_warpgroups * 4;
  const uint32_t warp = ptx::redux_max_u32(threadIdx.x / 32);
  if (warp >= math_warps) {
    ptx::setmaxnreg_dec<56>();  // 2 * 128 * 224 + 128 * 56 are the 384 * 168 of the start
    if (warp == math_warps)
      load();
    else if constexpr (Cfg::clean)
      fill(warp - math_warps - 1);
  } else {
    ptx::setmaxnreg_inc<224>();
    MqaMath<Cfg, Scale>(smem, out, scale, warp / 4).run();
  }
}

}  // namespace dgrt
