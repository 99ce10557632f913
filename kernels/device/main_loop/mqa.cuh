// Logits of an indexer: for a token i and a key j that it may see,
//   logit[i, j] = scale[j] * sum over heads h of w[i, h] * max(0, q[i, h] . k[j]).
//
// Roles     Two math warpgroups of 64 keys each: a product of keys (rows) and the heads of some tokens
//           (columns), whose columns a thread then adds up in registers, weighted. The first warp of the last
//           warpgroup loads; the others fill what no token may see, if they are to.
// Pipeline  mqa_q_slots of q with its weights, rows and the range of its key tiles: an item. `stages` slots of
//           key tiles.
// Order     A logit is the sum over a thread's heads in ascending order, then over four threads in one order:
//           its bits depend on its token's and key's data alone.
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
  static constexpr MqaConfig config{Cfg::num_heads, Cfg::head_dim, Cfg::tokens, Cfg::parts, Cfg::stages};
  static constexpr uint32_t columns = mqa_columns(config);
  static constexpr uint32_t part_tokens = Cfg::tokens / Cfg::parts;
  static constexpr uint32_t part_columns = columns / Cfg::parts;
  static constexpr uint32_t q_bytes = columns * Cfg::head_dim;  // that TMA brings
  static constexpr uint32_t kv_bytes = mqa_kv_bytes(config);
  static constexpr uint32_t kv_offset = mqa_q_slots * mqa_q_bytes(config);
  static constexpr uint32_t scale_offset = kv_offset + Cfg::stages * kv_bytes;
  static constexpr uint32_t scale_bytes = mqa_block_kv * 4;
  static constexpr uint32_t side_offset = scale_offset + Cfg::stages * scale_bytes;
  static constexpr uint32_t scratch_offset = side_offset + mqa_q_slots * mqa_side_bytes(config);
  static constexpr uint32_t barrier_offset = scratch_offset + mqa_scratch_bytes;
  static_assert(Cfg::tokens % Cfg::parts == 0, "a token's heads are columns of one product");
  static_assert(Cfg::parts == 1 || Cfg::parts == 2, "registers hold one or two products");
  static_assert(part_columns % 8 == 0 && part_columns <= mqa_max_columns, "columns that wgmma has");
  static_assert(Cfg::tokens <= mqa_max_tokens, "lanes of a warp stand for tokens");
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
  __device__ uint32_t weights(uint32_t slot) const { return row(slot, Cfg::tokens); }
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

__device__ __forceinline__ uint32_t warp_min_u32(uint32_t x) { return ~ptx::redux_max_u32(~x); }

// Key tiles that some lane's row sees.
__device__ __forceinline__ MqaItem tiles_of_rows(int32_t begin, int32_t end) {
  const uint32_t first = warp_min_u32(begin < end ? begin : ~0u);
  const uint32_t last = ptx::redux_max_u32(begin < end ? end : 0);
  return {static_cast<int32_t>(first / mqa_block_kv), static_cast<int32_t>(ceil_div(last, mqa_block_kv))};
}

// The next item to the math warpgroups: `row` of lane `token`; w [rows][heads] of the first token, of which
// num_tokens exist. q comes by TMA from row q_row of its map.
template <class Cfg>
__device__ __forceinline__ void load_item(const MqaSmem<Cfg>& smem, Ring<mqa_q_slots>& ring, const MqaItem& item,
                                          const MqaRow& row, const TensorMap* q, uint32_t q_row, const float* w,
                                          uint64_t w_row, uint32_t num_tokens) {
  constexpr uint32_t columns = MqaSmem<Cfg>::columns, each = ceil_div(columns, 32);
  const uint32_t lane = threadIdx.x % 32;
  float weight[each];
#pragma unroll
  for (uint32_t i = 0; i < each; ++i) {
    const uint32_t column = i * 32 + lane, token = column / Cfg::num_heads;
    weight[i] = token < num_tokens ? w[token * w_row + column % Cfg::num_heads] : 0.0f;
  }
  ring.wait_empty();
  const uint32_t slot = ring.slot;
#pragma unroll
  for (uint32_t i = 0; i < each; ++i)
    if (columns % 32 == 0 || i * 32 + lane < columns)
      ptx::store_shared_f32(smem.weights(slot) + (i * 32 + lane) * 4, weight[i]);
  if (lane < Cfg::tokens) {
    const uint64_t out = static_cast<uint64_t>(row.out);
    ptx::store_shared_s32x4(smem.row(slot, lane), make_int4(row.begin, row.end, static_cast<int32_t>(out),
                                                           static_cast<int32_t>(out >> 32)));
  }
  if (lane == 0) ptx::store_shared_s32x4(smem.item(slot), make_int4(item.first_tile, item.end_tile, 0, 0));
  __syncwarp();
  if (lane == 0) {
    ptx::mbarrier_arrive_expect_tx(ring.full(), MqaSmem<Cfg>::q_bytes);
    ptx::tma_load_2d(smem.q(slot), q, ring.full(), 0, q_row);
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

// Tokens of a part come in pairs: a quad's even half ends up with a pair's first token, the odd half with its
// second, and in each half one lane with either row.
template <class Cfg>
constexpr uint32_t mqa_pairs = ceil_div(MqaSmem<Cfg>::part_tokens, 2);

// A part's sums weighted and added up over its heads. w: of this thread's columns.
template <class Cfg>
__device__ __forceinline__ void add_heads(const float (&acc)[MqaSmem<Cfg>::part_columns / 2],
                                          const float (&w)[MqaSmem<Cfg>::part_columns / 4],
                                          float (&logits)[mqa_pairs<Cfg>]) {
  constexpr uint32_t tokens = MqaSmem<Cfg>::part_tokens;
  float sum[tokens][2] = {};
#pragma unroll
  for (uint32_t i = 0; i < MqaSmem<Cfg>::part_columns / 8; ++i)
#pragma unroll
    for (uint32_t e = 0; e < 2; ++e)
#pragma unroll
      for (uint32_t row = 0; row < 2; ++row) {
        float& s = sum[i * 8 / Cfg::num_heads][row];
        s = ptx::fma_rn_f32(w[2 * i + e], ptx::max_nan_f32(acc[4 * i + 2 * row + e], 0.0f), s);
      }
  const bool second_token = (threadIdx.x & 2) != 0, second_row = (threadIdx.x & 1) != 0;
#pragma unroll
  for (uint32_t pair = 0; pair < mqa_pairs<Cfg>; ++pair) {
    const float* first = sum[2 * pair];
    const float* second = sum[min(2 * pair + 1, tokens - 1)];
    float half[2];
#pragma unroll
    for (uint32_t row = 0; row < 2; ++row)
      half[row] = (second_token ? second[row] : first[row]) +
                  __shfl_xor_sync(0xffffffff, second_token ? first[row] : second[row], 2);
    logits[pair] = (second_row ? half[1] : half[0]) +
                   __shfl_xor_sync(0xffffffff, second_row ? half[0] : half[1], 1);
  }
}

template <int dtype>
__device__ __forceinline__ void store_logit(void* out, int64_t at, float logit) {
  if constexpr (dtype == dtype_fp32)
    ptx::store_f32(static_cast<float*>(out) + at, logit);
  else
    ptx::store_b16(static_cast<uint16_t*>(out) + at, static_cast<uint16_t>(ptx::pack_half2<dtype>(logit, 0.0f)));
}

// One math warpgroup. scale(tile, slot, row): of a key of a tile, which may be past the last one.
template <class Cfg, class Scale>
class MqaMath {
 public:
  __device__ MqaMath(const MqaSmem<Cfg>& smem, void* out, const Scale& scale)
      : smem_(smem),
        out_(out),
        scale_(scale),
        kv_(smem.kv_ring()),
        lane_(threadIdx.x % 32),
        row_(threadIdx.x / 32 * 16 + lane_ / 4 + lane_ % 2 * 8) {}

  __device__ __forceinline__ void run() {
    for (Ring<mqa_q_slots> q = smem_.q_ring();; q.advance()) {
      q.wait_full();
      const int4 item = ptx::load_shared_s32x4(smem_.item(q.slot));
      if (item.x >= item.y) return;
      load_weights(q.slot);
      run_tiles(q.slot, item.x, item.y);
      __syncwarp();
      if (lane_ == 0) ptx::mbarrier_arrive(q.empty());
    }
  }

 private:
  using Smem = MqaSmem<Cfg>;
  static constexpr uint32_t part_columns = Smem::part_columns;

  __device__ __forceinline__ void load_weights(uint32_t q_slot) {
#pragma unroll
    for (uint32_t part = 0; part < Cfg::parts; ++part)
#pragma unroll
      for (uint32_t i = 0; i < part_columns / 8; ++i) {
        const float2 pair = ptx::load_shared_f32x2(smem_.weights(q_slot) +
                                                   (part * part_columns + i * 8 + lane_ % 4 * 2) * 4);
        w_[part][2 * i] = pair.x, w_[part][2 * i + 1] = pair.y;
      }
  }

  // Returns at once.
  template <uint32_t part>
  __device__ __forceinline__ void issue(uint32_t q_slot, uint32_t kv_slot) {
    const uint64_t k = row_descriptor<Cfg::head_dim>(smem_.kv(kv_slot) + threadIdx.x / 128 * 64 * Cfg::head_dim);
    const uint64_t q = row_descriptor<Cfg::head_dim>(smem_.q(q_slot) + part * part_columns * Cfg::head_dim);
    keep_all(acc_[part]);
    ptx::wgmma_fence();
#pragma unroll
    for (uint32_t step = 0; step < Cfg::head_dim / 32; ++step)  // 32 bytes: 2 in the descriptor's units
      ptx::WgmmaE4m3<part_columns>::mma(acc_[part], k + 2 * step, q + 2 * step, step != 0);
    ptx::wgmma_commit();
    keep_all(acc_[part]);
  }

  // Requires: the part's products are complete.
  template <uint32_t part>
  __device__ __forceinline__ void finish(uint32_t q_slot, int32_t tile, float scale) {
    keep_all(acc_[part]);
    float logits[mqa_pairs<Cfg>];
    add_heads<Cfg>(acc_[part], w_[part], logits);
    const int32_t key = tile * static_cast<int32_t>(mqa_block_kv) + static_cast<int32_t>(row_);
#pragma unroll
    for (uint32_t pair = 0; pair < mqa_pairs<Cfg>; ++pair) {
      const uint32_t token = 2 * pair + lane_ / 2 % 2;
      if (Smem::part_tokens % 2 != 0 && token >= Smem::part_tokens) continue;
      const int4 row = ptx::load_shared_s32x4(smem_.row(q_slot, part * Smem::part_tokens + token));
      if (key < row.x || key >= row.y) continue;
      const auto at = static_cast<int64_t>(static_cast<uint64_t>(static_cast<uint32_t>(row.w)) << 32 |
                                           static_cast<uint32_t>(row.z));
      store_logit<Cfg::dtype_out>(out_, at + key, logits[pair] * scale);
    }
  }

  // After the last read of a slot; `scale` was one.
  __device__ __forceinline__ void release(const Ring<Cfg::stages>& ring, float scale) const {
    if (lane_ == 0) ptx::mbarrier_arrive_after(ring.empty(), scale);
  }

  // One part's sums are weighted while the other's products run, both while the other warpgroup's do. (Nothing
  // runs at the end of a turn: there the assembler would wait for it.)
  __device__ __forceinline__ void run_tiles(uint32_t q_slot, int32_t tile, int32_t end) {
#pragma unroll 1
    for (; tile < end; ++tile) {
      kv_.wait_full();
      const float scale = scale_(tile, kv_.slot, row_);
      issue<0>(q_slot, kv_.slot);
      if constexpr (Cfg::parts == 2) {
        issue<1>(q_slot, kv_.slot);
        ptx::wgmma_wait<1>();
        finish<0>(q_slot, tile, scale);
      }
      ptx::wgmma_wait<0>();
      release(kv_, scale);
      kv_.advance();
      finish<Cfg::parts - 1>(q_slot, tile, scale);
    }
  }

  const MqaSmem<Cfg>& smem_;
  void* out_;
  const Scale& scale_;
  Ring<Cfg::stages> kv_;
  const uint32_t lane_, row_;  // row_: the tile's key whose logits this thread stores
  float acc_[Cfg::parts][part_columns / 2], w_[Cfg::parts][part_columns / 4];
};

// The whole kernel after its start: one branch per role.
template <class Cfg, class Load, class Fill, class Scale>
__device__ __forceinline__ void run_mqa_roles(const MqaSmem<Cfg>& smem, void* out, const Load& load,
                                              const Fill& fill, const Scale& scale) {
  const uint32_t warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
  if (warp >= mqa_math_warpgroups * 4) {
    ptx::setmaxnreg_dec<40>();
    if (warp == mqa_math_warpgroups * 4)
      load();
    else if constexpr (Cfg::clean)
      fill(warp - mqa_math_warpgroups * 4 - 1);
  } else {
    ptx::setmaxnreg_inc<232>();
    MqaMath<Cfg, Scale>(smem, out, scale).run();
  }
}

}  // namespace dgrt
