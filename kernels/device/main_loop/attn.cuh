// Attention of many queries: o = softmax(q k^T) v for 64 rows per warpgroup, key tiles from
// the last to the first, so that the masked ones come first.
//
// Rows      several query heads that share a key head may share a tile, so that it has fewer tokens: of a window's
//           keys, and of a causal mask's last ones, each row then visits fewer that it does not see.
// Roles     last warpgroup: the first warp loads q, k and v by TMA, the second looks for tiles; over
//           pages up to four load, and the first looks for tiles too. Math warpgroups: 64 rows
//           each; with split_v, two of them share 64 rows, compute the same scores and hold half of
//           o's columns each (head sizes whose o would not fit in registers).
// Pipeline  one or two q, `stages` slots of k and of v, one of what the next tile is. A warpgroup
//           issues the scores of a tile and the output of the one before together. Of several, one's
//           softmax hides behind the others' products; a single one turns scores into weights while
//           its output still runs. Rows are closed while the last output runs, and stored while the
//           next tile is worked on.
// e4m3      keys and values become fp16 on their way (attn_upcast.cuh), bf16 queries with them, by the warpgroups
//           that multiply them (fp16_queries.cuh).
// Source    Shah et al., FlashAttention-3, arXiv 2407.08608 (warp specialisation, the two
//           overlaps).
#pragma once
#include "device/common/attn_params.cuh"
#include "device/epilogue/attn_output.cuh"
#include "device/epilogue/attn_store.cuh"
#include "device/main_loop/attn_keys.cuh"
#include "device/main_loop/fp16_queries.cuh"
#include "device/main_loop/kv_scales.cuh"
#include "device/main_loop/online_softmax.cuh"
#include "device/main_loop/row_mask.cuh"
#include "device/mma/attn_product.cuh"
#include "device/pipeline/ring.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/warpgroup.cuh"

namespace dgrt {

// Geometry of a config, and where things lie in shared memory.
template <class Cfg>
struct AttnSmem {
  static constexpr AttnConfig config = attn_config<Cfg>;
  static constexpr uint32_t math_warpgroups = attn_math_warpgroups(config);
  static constexpr uint32_t q_slots = attn_q_slots(config);
  static constexpr bool staged = attn_is_staged(config);
  static constexpr uint32_t slabs = Cfg::block_m / attn_slab_rows;
  static constexpr uint32_t q_box = attn_slab_rows * attn_row_bytes;
  static constexpr uint32_t k_box = Cfg::block_n * attn_row_bytes;
  static constexpr uint32_t q_bytes = attn_tile_bytes(attn_slab_rows, Cfg::head_dim_qk);  // of a slab
  static constexpr uint32_t k_bytes = attn_tile_bytes(Cfg::block_n, Cfg::head_dim_qk);
  static constexpr uint32_t v_bytes = attn_tile_bytes(Cfg::block_n, Cfg::head_dim_v);
  static constexpr uint32_t k_offset = q_slots * slabs * q_bytes;
  static constexpr uint32_t v_offset = k_offset + Cfg::stages * k_bytes;
  static constexpr uint32_t o_offset = v_offset + Cfg::stages * v_bytes;
  static constexpr uint32_t raw_offset = o_offset + (staged ? math_warpgroups * attn_staging_bytes(config) : 0);
  static constexpr uint32_t work_offset =
      raw_offset + (Cfg::kv_bytes == 1 ? attn_raw_slots(config) * attn_raw_slot_bytes(config) : 0);
  static constexpr uint32_t barrier_offset = work_offset + attn_work_slots * attn_work_bytes;
  static constexpr uint32_t table_offset =
      barrier_offset + 2 * (q_slots * slabs + 2 * Cfg::stages + attn_work_slots) * 8;
  static constexpr uint32_t columns = Cfg::head_dim_v / Cfg::split_v;  // of o, per warpgroup

  uint32_t base;

  __device__ uint32_t q(uint32_t slot, uint32_t slab) const {
    return base + (slot * slabs + slab) * q_bytes;
  }
  __device__ uint32_t k(uint32_t slot) const { return base + k_offset + slot * k_bytes; }
  __device__ uint32_t v(uint32_t slot) const { return base + v_offset + slot * v_bytes; }
  __device__ uint32_t o(uint32_t warpgroup) const {
    return base + o_offset + warpgroup * attn_staging_bytes(config);
  }
  __device__ uint32_t work(uint32_t slot) const {
    return base + work_offset + slot * attn_work_bytes;
  }
  // Of e4m3: see attn_raw_bytes().
  __device__ uint32_t raw() const { return base + raw_offset; }
  __device__ uint32_t tables() const { return base + table_offset; }
  // Full and empty barriers: of each slab's q, of k, v, work.
  __device__ Ring<q_slots> q_ring(uint32_t slab) const {
    return Ring<q_slots>(base + barrier_offset + slab * q_slots * 16);
  }
  __device__ Ring<Cfg::stages> k_ring() const {
    return Ring<Cfg::stages>(base + barrier_offset + slabs * q_slots * 16);
  }
  __device__ Ring<Cfg::stages> v_ring() const {
    return Ring<Cfg::stages>(base + barrier_offset + (slabs * q_slots + Cfg::stages) * 16);
  }
  __device__ Ring<attn_work_slots> work_ring() const {
    return Ring<attn_work_slots>(base + barrier_offset + (slabs * q_slots + 2 * Cfg::stages) * 16);
  }
  // One thread. followers: warps that are told of tiles. fills: arrivals that fill a
  // slot of keys or values.
  __device__ void init_barriers(uint32_t followers, uint32_t fills) const {
    for (uint32_t slab = 0; slab < slabs; ++slab) q_ring(slab).init(Cfg::split_v * 4);
    k_ring().init(math_warpgroups * 4, fills);
    v_ring().init(math_warpgroups * 4, fills);
    work_ring().init(math_warpgroups * 4 + followers);
  }
};

// ---- Producer ----

// What the math warpgroups are told of a tile; rows 0: there are no more.
__device__ __forceinline__ void store_work(uint32_t to, const RaggedTile& tile, int32_t rows) {
  ptx::store_shared_s32x4(to, make_int4(tile.q_begin, rows, tile.kv_begin, tile.kv_len));
  ptx::store_shared_s32x4(to + 16, make_int4(tile.first_token, tile.head, tile.mask_column, 0));
}
__device__ __forceinline__ RaggedTile load_work(uint32_t from) {
  const int4 tokens = ptx::load_shared_s32x4(from), place = ptx::load_shared_s32x4(from + 16);
  return {tokens.x, tokens.y, tokens.z, tokens.w, place.x, place.y, place.z};
}

// One thread, or all of the warps that load keys, of which one thread leads: it alone loads q.
template <class Cfg, class Keys>
struct AttnLoad {
  using Smem = AttnSmem<Cfg>;
  using Range = typename Keys::Range;
  static constexpr uint32_t qk_boxes = attn_boxes(Cfg::head_dim_qk);

  const typename Keys::Params& p;
  const Smem& smem;
  Ring<Smem::q_slots> q_ring;
  Ring<Cfg::stages> k_ring, v_ring;

  __device__ AttnLoad(const typename Keys::Params& p, const Smem& smem)
      : p(p), smem(smem), q_ring(smem.q_ring(0)), k_ring(smem.k_ring()), v_ring(smem.v_ring()) {}

  // Slabs one by one: with one slot, a warpgroup that is done need not wait for the others.
  __device__ __forceinline__ void load_q(const RaggedTile& tile) {
    if (Keys::leads()) {
#pragma unroll 1
      for (uint32_t slab = 0; slab < Smem::slabs; ++slab) {
        Ring<Smem::q_slots> ring = q_ring;
        ring.barriers += slab * Smem::q_slots * 16;
        ring.wait_empty();
        const QueryBox<Cfg> box(tile, slab * attn_slab_tokens<Cfg>);
        load_boxes<qk_boxes>(smem.q(ring.slot, slab), Smem::q_box, &p.q, ring.full(), box.middle, box.outer);
      }
    }
    q_ring.advance();
  }

  // told: barrier on which one lane says that the next tile may be looked for, early enough to know it when
  // it is needed, so late that nobody takes a tile who has still much to do.
  __device__ __forceinline__ void tile(const RaggedTile& tile, uint32_t told) {
    const Range range(p, tile);
    Keys keys(p, tile, range, smem.tables(), smem.raw());
    const int32_t tell_at = min(range.first + 1, range.end - 1);
#pragma unroll 1
    for (int32_t at = range.end; at >= range.first; --at) {
      if (!Keys::all_lanes && at == tell_at) ptx::mbarrier_arrive(told);
      // What has to wait longer for its slot comes second.
      if (Smem::q_slots > 1 && at == range.end) load_q(tile);
      if (at > range.first) {
        keys.load_k(k_ring, smem.k(k_ring.slot), at - 1);
        k_ring.advance();
      }
      if (Smem::q_slots == 1 && at == range.end) load_q(tile);
      keys.look_ahead(at - 2);
      if (at < range.end) {
        keys.load_v(v_ring, smem.v(v_ring.slot), at);
        v_ring.advance();
      }
    }
    keys.finish();
  }
};

// A tile's q on its way into the L2 cache: its slot is taken until the tile before is through.
template <class Cfg>
__device__ __forceinline__ void prefetch_q(const AttnParams& p, const RaggedTile& tile) {
#pragma unroll 1
  for (uint32_t box = 0; box < attn_boxes(Cfg::head_dim_qk); ++box)
#pragma unroll 1
    for (uint32_t token = 0; token < attn_tile_tokens<Cfg>; token += attn_slab_tokens<Cfg>) {
      const QueryBox<Cfg> at(tile, token);
      ptx::tma_prefetch_3d(&p.q, box * attn_box_columns, at.middle, at.outer);
    }
}

// A warp: the next tile that has keys; rows of others are stored here. q_len 0: there is none.
template <class Cfg, class Keys>
__device__ __forceinline__ void find_tile(const typename Keys::Params& p,
                                          RaggedWalk<attn_tile_tokens<Cfg>, Cfg::tile_heads, Keys>& walk,
                                          RaggedTile& tile) {
  while (walk.next(tile)) {
    if (!typename Keys::Range(p, tile).is_empty()) return;
    const auto tokens = static_cast<uint32_t>(tile.q_len - tile.first_token);
    store_unseeing_rows<Cfg::tile_heads>(
        p, static_cast<uint64_t>(tile.q_begin) + static_cast<uint64_t>(tile.first_token),
        min(tokens, attn_tile_tokens<Cfg>), static_cast<uint32_t>(tile.head));
  }
  tile.q_len = 0;
}

// A whole warp: looks for tiles and tells the others, or is told; loads them, with one lane or all of
// them, as Keys says. Finds, Loads: bool or Constant.
template <class Cfg, class Keys, class Finds, class Loads>
__device__ __forceinline__ void attn_load(const typename Keys::Params& p, const AttnSmem<Cfg>& smem,
                                          Finds finds, Loads loads) {
  Ring<attn_work_slots> work_ring = smem.work_ring();
  AttnLoad<Cfg, Keys> load(p, smem);
  RaggedWalk<attn_tile_tokens<Cfg>, Cfg::tile_heads, Keys> walk(p);
  RaggedTile tile = {};
  while (true) {
    const uint32_t told = work_ring.empty();
    if (finds) {
      work_ring.wait_empty();
      find_tile<Cfg>(p, walk, tile);
      if (ptx::elect_one()) {
        store_work(smem.work(work_ring.slot), tile, tile.q_len);
        ptx::mbarrier_arrive(work_ring.full());
        if (AttnSmem<Cfg>::q_slots == 1 && tile.q_len != 0) prefetch_q<Cfg>(p, tile);
      }
    } else {
      work_ring.wait_full();
      tile = load_work(smem.work(work_ring.slot));
      __syncwarp();
      if (Keys::all_lanes && threadIdx.x % 32 == 0) ptx::mbarrier_arrive(told);
    }
    work_ring.advance();
    if (tile.q_len == 0) return;
    if (loads && (Keys::all_lanes || ptx::elect_one())) load.tile(tile, told);
    __syncwarp();
  }
}

template <bool constant>
struct Constant {
  __device__ constexpr operator bool() const { return constant; }
};

// Warps that are told of tiles. The search takes as long as a few loads: where one warp loads, another
// does nothing but search.
template <class Keys>
__device__ uint32_t attn_followers(const typename Keys::Params& p) {
  return Keys::all_lanes ? Keys::followers(p) : 1;
}

// The last warpgroup.
template <class Cfg, class Keys>
__device__ __forceinline__ void attn_produce(const typename Keys::Params& p, const AttnSmem<Cfg>& smem,
                                             uint32_t warp) {
  if (warp > attn_followers<Keys>(p)) return;
  if constexpr (Keys::all_lanes)
    attn_load<Cfg, Keys>(p, smem, warp == 0, Constant<true>());
  else if (warp == 0)
    attn_load<Cfg, Keys>(p, smem, Constant<false>(), Constant<true>());
  else
    attn_load<Cfg, Keys>(p, smem, Constant<true>(), Constant<false>());
}

// ---- Math ----

// Whose turn it is to issue products: three warpgroups in a circle. Other numbers do better without.
template <uint32_t warpgroups>
struct Turns {
  static constexpr bool exist = warpgroups == 3;
  static constexpr uint32_t first_barrier = 1;
  uint32_t own;

  __device__ explicit Turns(uint32_t warpgroup) : own(warpgroup) {
    if (own == warpgroups - 1) pass();
  }
  __device__ void wait() const {
    if constexpr (exist) ptx::named_barrier_sync(first_barrier + own, 256);
  }
  __device__ void pass() const {
    if constexpr (exist)
      ptx::named_barrier_arrive(first_barrier + (own + 1 == warpgroups ? 0 : own + 1), 256);
  }
};

// Zeroes the rows of a value tile outside [first, end): what lies there belongs to nobody who may
// see it, and zero weights do not make NaN zero. Every warpgroup does so for the columns that it
// reads.
template <class Cfg>
__device__ __forceinline__ void zero_values(uint32_t v, int32_t first, int32_t end,
                                            uint32_t barrier) {
  constexpr uint32_t boxes = attn_boxes(AttnSmem<Cfg>::columns);
#pragma unroll 1
  for (uint32_t i = threadIdx.x % 128; i < boxes * Cfg::block_n * 8; i += 128) {
    const auto row = static_cast<int32_t>(i / 8 % Cfg::block_n);
    if (row < first || row >= end) ptx::store_shared_s32x4(v + i * 16, make_int4(0, 0, 0, 0));
  }
  ptx::fence_proxy_async();
  ptx::named_barrier_sync(barrier, 128);
}

// ordinary_writes: slots are filled by them.
template <class Cfg, bool ordinary_writes>
struct AttnMath {
  using Smem = AttnSmem<Cfg>;
  static constexpr int dtype = attn_operand_dtype<Cfg>;
  static constexpr int lift = dtype == Cfg::dtype ? 0 : fp16_weight_lift;  // weights are up to 2^lift
  using Wgmma = typename AttnWgmma<dtype, Cfg::block_n>::Scores;
  using OutputWgmma = typename AttnWgmma<dtype, Smem::columns>::Output;
  using Keys = KeyRange<attn_tile_tokens<Cfg>, Cfg::block_n, Cfg::new_keys>;

  // The softmax must come before the wait for the output, which the compiler would move up: with nobody
  // beside it, and with four warpgroups. Two and three lose by it.
  static constexpr bool weighs_first = Smem::math_warpgroups == 1 || Smem::math_warpgroups == 4;

  const AttnParams& p;
  const Smem& smem;
  uint32_t warpgroup, slab, part;
  Turns<Smem::math_warpgroups> turns;
  Ring<Smem::q_slots> q_ring;
  Ring<Cfg::stages> k_ring, v_ring;
  Ring<attn_work_slots> work_ring;
  float s[Cfg::block_n / 2];
  float o[Smem::columns / 2];
  uint32_t weights[Cfg::block_n / 4];
  KvScales<Cfg> scales;

  __device__ AttnMath(const AttnParams& p, const Smem& smem, uint32_t warpgroup)
      : p(p),
        smem(smem),
        warpgroup(warpgroup),
        slab(Cfg::split_v == 1 ? warpgroup : warpgroup % Smem::slabs),
        part(Cfg::split_v == 1 ? 0 : warpgroup / Smem::slabs),
        turns(warpgroup),
        q_ring(smem.q_ring(slab)),
        k_ring(smem.k_ring()),
        v_ring(smem.v_ring()),
        work_ring(smem.work_ring()),
        scales(p) {}

  // Named, of the warpgroup alone.
  __device__ uint32_t own_barrier() const {
    return Turns<Smem::math_warpgroups>::first_barrier + Smem::math_warpgroups + warpgroup;
  }

  // Of those who share the slab.
  __device__ uint32_t slab_barrier() const {
    if constexpr (Cfg::split_v == 1) return own_barrier();
    return Turns<Smem::math_warpgroups>::first_barrier + 2 * Smem::math_warpgroups + slab;
  }

  template <class R>
  __device__ __forceinline__ void release(R& ring) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(ring.empty());
    ring.advance();
  }

  __device__ __forceinline__ void convert_q() {
    float factor[2];
    slab_to_fp16<Cfg::head_dim_qk, Cfg::split_v>(
        smem.q(q_ring.slot, slab), part, [&] { ptx::named_barrier_sync(slab_barrier(), Cfg::split_v * 128); }, factor);
    scales.set_rows(factor);
  }

  // Whoever filled the slot need not have waited for it.
  __device__ __forceinline__ static void wait_full(const Ring<Cfg::stages>& ring) {
    ring.wait_full();
    if constexpr (ordinary_writes) ptx::fence_proxy_async();
  }

  // is_first: of a tile's keys, outside the loop.
  template <bool is_first>
  __device__ __forceinline__ void issue_s() {
    uint32_t q = smem.q(q_ring.slot, slab);
    uint32_t k = smem.k(k_ring.slot);
    // Else the descriptors of all steps would be kept in registers.
    if constexpr (Cfg::split_v > 1) q = ptx::redux_max_u32(q), k = ptx::redux_max_u32(k);
    if constexpr (is_first)
#pragma unroll
      for (float& x : s) x = 0.0f;
    keep_all(s);
    ptx::wgmma_fence();
    if constexpr (is_first)
      issue_scores_in_loop<Wgmma, Cfg::head_dim_qk>(s, q, Smem::q_box, k, Smem::k_box);
    else
      issue_scores<Wgmma, Cfg::head_dim_qk>(s, q, Smem::q_box, k, Smem::k_box);
    ptx::wgmma_commit();
    keep_all(s);
  }

  // Of key tile `at`.
  __device__ __forceinline__ void issue_o(const Keys& keys, int32_t at) {
    wait_full(v_ring);
    uint32_t v = smem.v(v_ring.slot);
    if constexpr (Cfg::split_v > 1)
      v = ptx::redux_max_u32(v + part * (Smem::columns / attn_box_columns) * Smem::k_box);
    const int32_t first = keys.tiles.first_key(at), end = keys.tiles.end(at, keys.key_end);
    if (keys.key_first > first || end < first + static_cast<int32_t>(Cfg::block_n))
      zero_values<Cfg>(v, keys.key_first - first, end - first, own_barrier());
    keep_all(o);
    ptx::wgmma_fence();
    issue_output<OutputWgmma, Cfg::block_n>(o, weights, v);
    ptx::wgmma_commit();
    keep_all(o);
  }

  __device__ __forceinline__ void weigh(const RowMask<Cfg>& mask, int32_t at,
                                        OnlineSoftmax& softmax, float (&rescale)[2]) {
    if constexpr (Cfg::softcap)
#pragma unroll
      for (uint32_t i = 0; i < Cfg::block_n / 2; ++i) s[i] = tanh_f32(s[i] * scales.cap(i / 2 % 2));
    mask.apply(s, at);
    softmax.update<lift>(s, {scales.logit(0), scales.logit(1)}, rescale);
  }

  // Leaves the key tiles that no row of the slab sees to the other slabs. Returns the end of its own: at
  // least one. (Two warpgroups lose more by running apart than they save.)
  __device__ __forceinline__ int32_t skip_unseen(const Keys& keys, const RowMask<Cfg>& mask,
                                                 bool has_rows) {
    int32_t end = keys.end;
    if constexpr (Smem::slabs > 2) {
      constexpr auto tokens = static_cast<int32_t>(attn_slab_tokens<Cfg>);
      const int32_t key_end = min(mask.right, keys.key_end - tokens) + tokens;
      const bool sees = has_rows && key_end > keys.key_first;
      // Else all that follows would not be uniform for the compiler: the ring's slots, waits.
      const int32_t seen = sees ? keys.tiles.of(key_end - 1) : keys.first;
      const auto last = static_cast<int32_t>(ptx::redux_max_u32(static_cast<uint32_t>(seen)));
#pragma unroll 1
      for (; end > last + 1; --end) {
        k_ring.wait_full();
        release(k_ring);
        turns.wait();
        turns.pass();
        v_ring.wait_full();
        release(v_ring);
      }
    }
    return end;
  }

  // All key tiles. The last product with values is still on its way.
  __device__ __forceinline__ void attend(const Keys& keys, uint32_t head, RowMask<Cfg>& mask, bool has_rows,
                                         OnlineSoftmax& softmax) {
    float rescale[2];
    scales.begin(head);
#pragma unroll
    for (uint32_t i = 0; i < Smem::columns / 2; ++i) o[i] = 0.0f;
    const int32_t end = skip_unseen(keys, mask, has_rows);
    q_ring.wait_full();
    if constexpr (dtype != Cfg::dtype) convert_q();
    wait_full(k_ring);
    issue_s<true>();
    mask.load(end - 1);
    ptx::wgmma_wait<0>();
    keep_all(s);
    release(k_ring);
    // With one slot the next tile's q waits for this.
    if (Smem::q_slots == 1 && keys.first == end - 1) release(q_ring);
    weigh(mask, end - 1, softmax, rescale);
    pack_scores<dtype>(weights, s);
#pragma unroll 1
    for (int32_t at = end - 2; at >= keys.first; --at) {
      turns.wait();
      wait_full(k_ring);
      issue_s<false>();
      issue_o(keys, at + 1);
      turns.pass();
      mask.load(at);
      ptx::wgmma_wait<1>();
      keep_all(s);
      if (Smem::q_slots == 1 && at == keys.first) release(q_ring);
      if constexpr (!weighs_first) release(k_ring);
      const bool enters = scales.enters(keys.tiles, at);
      if (enters) scales.enter(head, softmax.max);
      weigh(mask, at, softmax, rescale);
      if (enters)
        for (float& x : rescale) x *= scales.output(head);
      if constexpr (weighs_first) {
        __syncwarp();
        if (threadIdx.x % 32 == 0)
          ptx::mbarrier_arrive_after(k_ring.empty(), softmax.sum[0] + softmax.sum[1]);
        k_ring.advance();
      }
      ptx::wgmma_wait<0>();
      keep_all(o);
      release(v_ring);
#pragma unroll
      for (uint32_t i = 0; i < Smem::columns / 2; ++i) o[i] *= rescale[i / 2 % 2];
      pack_scores<dtype>(weights, s);
    }
    if (Smem::q_slots > 1) release(q_ring);
    issue_o(keys, keys.first);
  }

  // lse of a slab's rows, and what those of o must be multiplied by. `row`: the thread's first, from the slab's.
  __device__ __forceinline__ void close(const RaggedTile& tile, const Keys& keys, int32_t slab_token, int32_t row,
                                        const OnlineSoftmax& softmax, float (&scale)[2]) const {
    const float value_scale = scales.value(static_cast<uint32_t>(tile.head), keys.tiles, keys.first);
    float sum[2];
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) sum[i] = row_sum(softmax.sum[i]);
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      const int32_t at = slab_token + RowMask<Cfg>::token(row + static_cast<int32_t>(i) * 8);
      const auto head = static_cast<uint32_t>(tile.head + RowMask<Cfg>::head(row + static_cast<int32_t>(i) * 8));
      const uint64_t token = static_cast<uint64_t>(tile.q_begin) + static_cast<uint64_t>(at);
      scale[i] = value_scale * close_row(p, token, head, sum[i], softmax.max[i] * scales.logit(i) - lift,
                                         part == 0 && threadIdx.x % 4 == 0 && at < tile.q_len);
    }
  }

  using Store = AttnStore<Cfg::dtype, Smem::columns, Cfg::tile_heads>;
  __device__ Store store() const {
    return {smem.o(warpgroup), own_barrier(), part * Smem::columns};
  }

  // As close().
  __device__ __forceinline__ void store_o(const RaggedTile& tile, int32_t slab_token, int32_t row,
                                          const float (&scale)[2]) const {
    if constexpr (Smem::staged) {
      store().store(p, o, scale,
                    {static_cast<uint32_t>(tile.q_begin + slab_token),
                     static_cast<uint32_t>(max(tile.q_len - slab_token, 0)), static_cast<uint32_t>(tile.head)});
    } else {
      uint16_t* rows[2];
#pragma unroll
      for (uint32_t i = 0; i < 2; ++i) {
        const int32_t at = slab_token + RowMask<Cfg>::token(row + static_cast<int32_t>(i) * 8);
        const auto head = static_cast<uint32_t>(tile.head + RowMask<Cfg>::head(row + static_cast<int32_t>(i) * 8));
        const uint64_t token = static_cast<uint64_t>(tile.q_begin) + static_cast<uint64_t>(at);
        rows[i] = at < tile.q_len ? static_cast<uint16_t*>(p.o) + token * p.o_token + head * p.o_head
                                  : nullptr;
      }
      store_rows<Cfg::dtype>(o, rows, scale, part * Smem::columns, p.v_columns);
    }
  }

  __device__ __forceinline__ void run() {
    while (true) {
      work_ring.wait_full();
      const RaggedTile tile = load_work(smem.work(work_ring.slot));
      release(work_ring);
      if (tile.q_len == 0) break;
      const Keys keys(p, tile);
      const int32_t slab_token = tile.first_token + static_cast<int32_t>(slab * attn_slab_tokens<Cfg>);
      RowMask<Cfg> mask(p, tile, slab_token, keys.key_end);
      OnlineSoftmax softmax;
      attend(keys, static_cast<uint32_t>(tile.head), mask, slab_token < tile.q_len, softmax);
      float scale[2];
      close(tile, keys, slab_token, mask.row, softmax, scale);
      ptx::wgmma_wait<0>();
      keep_all(o);
      release(v_ring);
      store_o(tile, slab_token, mask.row, scale);
    }
    if constexpr (Smem::staged) store().wait();
  }
};

// The whole kernel. Cfg: block_m, tile_heads, block_n, head_dim_qk, head_dim_v, stages, split_v, dtype, kv_bytes,
// softcap, mask, mask_skip_prefix, new_keys.
template <class Cfg, class Keys>
__device__ void run_attn(const typename Keys::Params& p) {
  using Smem = AttnSmem<Cfg>;
  static_assert(Cfg::block_m % attn_slab_rows == 0 && Cfg::block_n % 16 == 0,
                "whole slabs, whole steps");
  static_assert(attn_slab_rows % Cfg::tile_heads == 0, "whole tokens");
  static_assert(Cfg::head_dim_qk % 16 == 0 && Smem::columns % 32 == 0, "whole steps, whole stores");
  static_assert(Cfg::split_v == 1 || Smem::columns % attn_box_columns == 0,
                "parts of v are whole boxes");
  static_assert(
      Smem::table_offset + attn_raw_bytes(Smem::config, 0) <= attn_smem_bytes(Smem::config),
      "host and kernel must agree on shared memory");
  constexpr uint32_t producer = Smem::math_warpgroups * 4;
  const Smem smem{ptx::dynamic_shared_address()};
  const uint32_t warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
  if (warp == producer && ptx::elect_one()) {
    ptx::prefetch_tensor_map(&p.q);
    if constexpr (Cfg::kv_bytes == 2) {
      ptx::prefetch_tensor_map(&p.k);
      ptx::prefetch_tensor_map(&p.v);
    }
    ptx::prefetch_tensor_map(&p.o_map);
    smem.init_barriers(attn_followers<Keys>(p), Keys::fills(p));
    ptx::fence_mbarrier_init();
  }
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  Keys::check(p);
  __syncthreads();
  if (warp >= producer) {
    ptx::setmaxnreg_dec<Smem::math_warpgroups >= 3 ? 32 + Keys::more_registers * Smem::math_warpgroups
                                                   : 40 + Keys::more_registers * 2>();
    attn_produce<Cfg, Keys>(p, smem, warp - producer);
  } else {
    if constexpr (Smem::math_warpgroups > 1)
      ptx::setmaxnreg_inc<(Smem::math_warpgroups == 4   ? 112
                           : Smem::math_warpgroups == 3 ? 160
                                                        : 232) -
                          Keys::more_registers>();
    AttnMath<Cfg, Keys::ordinary_writes>(p, smem, warp / 4).run();
  }
}

}  // namespace dgrt
