// Attention of many queries: o = softmax(q k^T) v for 64 rows per warpgroup, key tiles from
// the last to the first, so that the masked ones come first.
//
// Roles     last warpgroup: the first warp loads q, k and v by TMA, the second looks for tiles; over
//           pages up to four load, and the first looks for tiles too. Math warpgroups: 64 rows
//           each; with split_v, two of them share 64 rows, compute the same scores and hold half of
//           o's columns each (head sizes whose o would not fit in registers).
// Pipeline  one or two q, `stages` slots of k and of v, one of what the next tile is. A warpgroup
//           issues the scores of a tile and the output of the one before together. Several take
//           turns in issuing, so that one's softmax hides behind the others' products; a single one
//           turns scores into weights while its output still runs.
// Source    Shah et al., FlashAttention-3, arXiv 2407.08608 (warp specialisation, the two
//           overlaps).
#pragma once
#include "device/common/attn_params.cuh"
#include "device/epilogue/attn_output.cuh"
#include "device/main_loop/attn_keys.cuh"
#include "device/main_loop/mask_reader.cuh"
#include "device/main_loop/online_softmax.cuh"
#include "device/mma/attn_product.cuh"
#include "device/pipeline/ring.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/warpgroup.cuh"

namespace dgrt {

// Geometry of a config, and where things lie in shared memory.
template <class Cfg>
struct AttnSmem {
  static constexpr AttnConfig config{Cfg::block_m,    Cfg::block_n, Cfg::head_dim_qk,
                                     Cfg::head_dim_v, Cfg::stages,  Cfg::split_v};
  static constexpr uint32_t math_warpgroups = attn_math_warpgroups(config);
  static constexpr uint32_t q_slots = attn_q_slots(config);
  static constexpr uint32_t slabs = Cfg::block_m / attn_slab_rows;
  static constexpr uint32_t q_box = attn_slab_rows * attn_row_bytes;
  static constexpr uint32_t k_box = Cfg::block_n * attn_row_bytes;
  static constexpr uint32_t q_bytes = attn_tile_bytes(attn_slab_rows, Cfg::head_dim_qk);  // of a slab
  static constexpr uint32_t k_bytes = attn_tile_bytes(Cfg::block_n, Cfg::head_dim_qk);
  static constexpr uint32_t v_bytes = attn_tile_bytes(Cfg::block_n, Cfg::head_dim_v);
  static constexpr uint32_t k_offset = q_slots * slabs * q_bytes;
  static constexpr uint32_t v_offset = k_offset + Cfg::stages * k_bytes;
  static constexpr uint32_t work_offset = v_offset + Cfg::stages * v_bytes;
  static constexpr uint32_t barrier_offset = work_offset + attn_work_slots * attn_work_bytes;
  static constexpr uint32_t columns = Cfg::head_dim_v / Cfg::split_v;  // of o, per warpgroup

  uint32_t base;

  __device__ uint32_t q(uint32_t slot, uint32_t slab) const {
    return base + (slot * slabs + slab) * q_bytes;
  }
  __device__ uint32_t k(uint32_t slot) const { return base + k_offset + slot * k_bytes; }
  __device__ uint32_t v(uint32_t slot) const { return base + v_offset + slot * v_bytes; }
  __device__ uint32_t work(uint32_t slot) const {
    return base + work_offset + slot * attn_work_bytes;
  }
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
  ptx::store_shared_s32x4(to + 16, make_int4(tile.first_row, tile.head, tile.mask_column, 0));
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
        load_boxes<qk_boxes>(smem.q(ring.slot, slab), Smem::q_box, &p.q, ring.full(),
                             tile.q_begin + tile.first_row + slab * attn_slab_rows, tile.head);
      }
    }
    q_ring.advance();
  }

  // told: barrier on which one lane says that the next tile may be looked for, early enough to know it when
  // it is needed, so late that nobody takes a tile who has still much to do.
  __device__ __forceinline__ void tile(const RaggedTile& tile, uint32_t told) {
    const Range range(p, tile);
    Keys keys(p, tile, range);
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
      if (at < range.end) {
        keys.load_v(v_ring, smem.v(v_ring.slot), at);
        v_ring.advance();
      }
      keys.look_ahead(at - 2);
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
    for (uint32_t row = 0; row < Cfg::block_m; row += attn_slab_rows)
      ptx::tma_prefetch_3d(&p.q, box * attn_box_columns, tile.q_begin + tile.first_row + row,
                           tile.head);
}

// A warp: the next tile that has keys; rows of others are stored here. q_len 0: there is none.
template <class Cfg, class Keys>
__device__ __forceinline__ void find_tile(const typename Keys::Params& p,
                                          RaggedWalk<Cfg::block_m, Keys>& walk, RaggedTile& tile) {
  while (walk.next(tile)) {
    if (!KeyRange<Cfg::block_m, Cfg::block_n, Cfg::new_keys>(p, tile).is_empty()) return;
    const auto rows = static_cast<uint32_t>(tile.q_len - tile.first_row);
    store_unseeing_rows(p, static_cast<uint64_t>(tile.q_begin) + static_cast<uint64_t>(tile.first_row),
                        min(rows, Cfg::block_m), static_cast<uint32_t>(tile.head));
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
  RaggedWalk<Cfg::block_m, Keys> walk(p);
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

// Whose turn it is to issue products: warpgroups in a circle.
template <uint32_t warpgroups>
struct Turns {
  uint32_t own;
  static constexpr uint32_t first_barrier = 1;

  __device__ explicit Turns(uint32_t warpgroup) : own(warpgroup) {
    if (warpgroups > 1 && own == warpgroups - 1) pass();
  }
  __device__ void wait() const {
    if constexpr (warpgroups > 1) ptx::named_barrier_sync(first_barrier + own, 256);
  }
  __device__ void pass() const {
    if constexpr (warpgroups > 1)
      ptx::named_barrier_arrive(first_barrier + (own + 1 == warpgroups ? 0 : own + 1), 256);
  }
};

// What a warpgroup's rows may see. Rows count from the sequence's first.
template <class Cfg>
struct RowMask {
  static constexpr auto block_n = static_cast<int32_t>(Cfg::block_n);

  using Tiles = KeyTiles<Cfg::block_n, Cfg::new_keys>;

  int32_t left, right;  // first and last visible key of the slab's first row, by the windows alone
  int32_t last_end;     // of the keys of all rows
  int32_t row;          // this thread's first row, from the slab's first; the other is 8 below
  Tiles tiles;
  MaskReader<Cfg> given;

  __device__ RowMask(const AttnParams& p, const RaggedTile& tile, int32_t slab_row, int32_t key_end)
      : left(tile.offset() + slab_row - p.window_left),
        right(tile.offset() + slab_row + p.window_right),
        last_end(key_end),
        row(threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4),
        tiles(tile.offset()),
        given(p.mask, {tile.kv_begin,
                       tile.q_len,
                       tile.kv_len,
                       tile.kv_len + tile.mask_column,
                       slab_row + row / 16 * 16,
                       16,
                       {threadIdx.x % 32 / 4, threadIdx.x % 32 / 4 + 8}}) {}

  // What apply() needs of key tile `at`, while its scores are on their way.
  __device__ __forceinline__ void load(int32_t at) {
    // With a mask last_end is that of all keys.
    given.load(tiles.first_key(at), given.columns() - last_end);
  }

  // Scores of key tile `at`: minus infinity where a key is not visible.
  template <uint32_t count>
  __device__ __forceinline__ void apply(float (&s)[count], int32_t at) const {
    const int32_t first = tiles.first_key(at), last = first + block_n - 1;
    const int32_t key_end = tiles.end(at, last_end);
    given.apply(s, first);
    if (last < key_end && last <= right && first >= left + static_cast<int32_t>(attn_slab_rows) - 1)
      return;
    const int32_t column = first + static_cast<int32_t>(threadIdx.x % 4) * 2;
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
      // Offsets from the thread's first column.
      const int32_t low = left + row + static_cast<int32_t>(half) * 8 - column;
      const int32_t high = min(right + row + static_cast<int32_t>(half) * 8, key_end - 1) - column;
#pragma unroll
      for (uint32_t i = half * 2; i < count; i += 4)
#pragma unroll
        for (uint32_t j = 0; j < 2; ++j) {
          const int32_t offset = static_cast<int32_t>(i / 4 * 8 + j);
          if (offset < low || offset > high) s[i + j] = -ptx::infinity();
        }
    }
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

template <class Cfg>
struct AttnMath {
  using Smem = AttnSmem<Cfg>;
  using Wgmma = typename AttnWgmma<Cfg::dtype, Cfg::block_n>::Scores;
  using OutputWgmma = typename AttnWgmma<Cfg::dtype, Smem::columns>::Output;
  using Keys = KeyRange<Cfg::block_m, Cfg::block_n, Cfg::new_keys>;

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
        work_ring(smem.work_ring()) {}

  template <class R>
  __device__ __forceinline__ void release(R& ring) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(ring.empty());
    ring.advance();
  }

  __device__ __forceinline__ void issue_s() {
    uint32_t q = smem.q(q_ring.slot, slab);
    uint32_t k = smem.k(k_ring.slot);
    // Else the descriptors of all steps would be kept in registers.
    if constexpr (Cfg::split_v > 1) q = ptx::redux_max_u32(q), k = ptx::redux_max_u32(k);
    keep_all(s);
    ptx::wgmma_fence();
    issue_scores<Wgmma, Cfg::head_dim_qk>(s, q, Smem::q_box, k, Smem::k_box);
    ptx::wgmma_commit();
    keep_all(s);
  }

  // Of key tile `at`.
  __device__ __forceinline__ void issue_o(const Keys& keys, int32_t at) {
    v_ring.wait_full();
    uint32_t v = smem.v(v_ring.slot);
    if constexpr (Cfg::split_v > 1)
      v = ptx::redux_max_u32(v + part * (Smem::columns / attn_box_columns) * Smem::k_box);
    const int32_t first = keys.tiles.first_key(at), end = keys.tiles.end(at, keys.key_end);
    if (keys.key_first > first || end < first + static_cast<int32_t>(Cfg::block_n))
      zero_values<Cfg>(
          v, keys.key_first - first, end - first,
          Turns<Smem::math_warpgroups>::first_barrier + Smem::math_warpgroups + warpgroup);
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
      for (uint32_t i = 0; i < Cfg::block_n / 2; ++i) s[i] = tanh_f32(s[i] * p.cap_scale);
    mask.apply(s, at);
    softmax.update(s, p.scale_log2, rescale);
  }

  __device__ __forceinline__ void attend(const Keys& keys, RowMask<Cfg>& mask,
                                         OnlineSoftmax& softmax) {
    float rescale[2];
#pragma unroll
    for (uint32_t i = 0; i < Smem::columns / 2; ++i) o[i] = 0.0f;
    q_ring.wait_full();
    k_ring.wait_full();
    issue_s();
    mask.load(keys.end - 1);
    ptx::wgmma_wait<0>();
    keep_all(s);
    release(k_ring);
    // With one slot the next tile's q waits for this.
    if (Smem::q_slots == 1 && keys.first == keys.end - 1) release(q_ring);
    weigh(mask, keys.end - 1, softmax, rescale);
    pack_scores<Cfg::dtype>(weights, s);
#pragma unroll 1
    for (int32_t at = keys.end - 2; at >= keys.first; --at) {
      turns.wait();
      k_ring.wait_full();
      issue_s();
      issue_o(keys, at + 1);
      turns.pass();
      mask.load(at);
      ptx::wgmma_wait<1>();
      keep_all(s);
      if (Smem::q_slots == 1 && at == keys.first) release(q_ring);
      // With nobody to take turns with, the softmax must come before the wait for the output, which
      // the compiler would move up.
      if constexpr (Smem::math_warpgroups > 1) release(k_ring);
      weigh(mask, at, softmax, rescale);
      if constexpr (Smem::math_warpgroups == 1) {
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
      pack_scores<Cfg::dtype>(weights, s);
    }
    if (Smem::q_slots > 1) release(q_ring);
    issue_o(keys, keys.first);
    ptx::wgmma_wait<0>();
    keep_all(o);
    release(v_ring);
  }

  // Stores o and lse. `row`: the thread's first.
  __device__ __forceinline__ void finish(const RaggedTile& tile, int32_t row,
                                         const OnlineSoftmax& softmax) {
    const auto head = static_cast<uint32_t>(tile.head);
    uint16_t* rows[2];
    float scale[2];
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      const int32_t at = row + static_cast<int32_t>(i) * 8;
      const uint64_t token = static_cast<uint64_t>(tile.q_begin) + static_cast<uint64_t>(at);
      const float sum = row_sum(softmax.sum[i]);
      rows[i] = nullptr, scale[i] = 0.0f;
      if (at >= tile.q_len) continue;
      rows[i] = static_cast<uint16_t*>(p.o) + token * p.o_token + head * p.o_head;
      scale[i] = close_row(p, token, head, sum, softmax.max[i] * p.scale_log2,
                           part == 0 && threadIdx.x % 4 == 0);
    }
    store_rows<Cfg::dtype>(o, rows, scale, part * Smem::columns, p.v_columns);
  }

  __device__ __forceinline__ void run() {
    while (true) {
      work_ring.wait_full();
      const RaggedTile tile = load_work(smem.work(work_ring.slot));
      release(work_ring);
      if (tile.q_len == 0) return;
      const Keys keys(p, tile);
      const int32_t slab_row = tile.first_row + static_cast<int32_t>(slab * attn_slab_rows);
      RowMask<Cfg> mask(p, tile, slab_row, keys.key_end);
      OnlineSoftmax softmax;
      attend(keys, mask, softmax);
      finish(tile, slab_row + mask.row, softmax);
    }
  }
};

// The whole kernel. Cfg: block_m, block_n, head_dim_qk, head_dim_v, stages, split_v, dtype,
// softcap, mask, mask_skip_prefix, new_keys.
template <class Cfg, class Keys>
__device__ void run_attn(const typename Keys::Params& p) {
  using Smem = AttnSmem<Cfg>;
  static_assert(Cfg::block_m % attn_slab_rows == 0 && Cfg::block_n % 16 == 0,
                "whole slabs, whole steps");
  static_assert(Cfg::head_dim_qk % 16 == 0 && Smem::columns % 32 == 0, "whole steps, whole stores");
  static_assert(Cfg::split_v == 1 || Smem::columns % attn_box_columns == 0,
                "parts of v are whole boxes");
  static_assert(
      Smem::barrier_offset + 2 * (Smem::q_slots * Smem::slabs + 2 * Cfg::stages + attn_work_slots) * 8 <=
          attn_smem_bytes(Smem::config),
      "host and kernel must agree on shared memory");
  constexpr uint32_t producer = Smem::math_warpgroups * 4;
  const Smem smem{ptx::dynamic_shared_address()};
  const uint32_t warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
  if (warp == producer && ptx::elect_one()) {
    ptx::prefetch_tensor_map(&p.q);
    ptx::prefetch_tensor_map(&p.k);
    ptx::prefetch_tensor_map(&p.v);
    smem.init_barriers(attn_followers<Keys>(p), Keys::fills(p));
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  Keys::check(p);
  if (warp >= producer) {
    ptx::setmaxnreg_dec<Smem::math_warpgroups == 3 ? 32 + Keys::more_registers * 3
                                                   : 40 + Keys::more_registers * 2>();
    attn_produce<Cfg, Keys>(p, smem, warp - producer);
  } else {
    if constexpr (Smem::math_warpgroups > 1)
      ptx::setmaxnreg_inc<(Smem::math_warpgroups == 3 ? 160 : 232) - Keys::more_registers>();
    AttnMath<Cfg>(p, smem, warp / 4).run();
  }
}

}  // namespace dgrt
