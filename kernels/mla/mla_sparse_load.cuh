// The loading half of MLA over lists of slots: one warpgroup gathers rows of a quantised cache, makes bf16 of them,
// and leaves them as tiles of keys.
//
// Roles     Of each tile 16 rows are a warp's, in two steps of 8 rows; four lanes have a row, and each 16 bytes of each
//           of its boxes. While a lane converts half of its row, the next half is on its way. A tile's indices are read
//           while the tile before is converted, and found in the cache before or while the last half of that is; then
//           scales are loaded, and rows come to the L2 cache. The first thread also fetches queries.
// Clusters  The two CTAs of a cluster have the same lists: a CTA takes one of the two steps, and sends the rows that it
//           made on to the other's shared memory, half a tile at a time. A CTA copies all rotary columns behind v:
//           weights take their place while they might still be on their way to the other.
// Order     As in mla_load.cuh: the half of a tile that becomes free first comes first.
// Holes     Rows of indices that name no slot are whatever finite numbers the codes of the first slot make with scales
//           of 0, and have rotary columns of 0: they get no weight.
#pragma once
#include "device/ptx/cluster.cuh"
#include "device/ptx/copy_async.cuh"
#include "device/ptx/memory.cuh"
#include "device/ptx/tma.cuh"
#include "mla/latent_dequant.cuh"
#include "device/main_loop/mla_paged.cuh"
#include "mla/mla_sparse_tile.cuh"

namespace dgrt {

// Boxes of one half of a slot have one barrier. Both CTAs of a cluster write to a half, after both have left it.
template <class Cfg>
struct MlaSparseSmem : MlaSmem {
  static constexpr uint32_t loader_warps = MlaSparseSmemLayout::warps;

  __device__ explicit MlaSparseSmem(uint32_t base) : MlaSmem{base} {}
  __device__ uint32_t exist(uint32_t slot) const { return base + MlaSparseSmemLayout::exist + slot * (mla_keys / 8); }
  // Of one warp's.
  __device__ uint32_t own_segment(uint32_t warp) const {
    return base + MlaSparseSmemLayout::walks + warp * MlaSparseSmemLayout::warp_bytes;
  }
  __device__ uint32_t own_walk(uint32_t warp) const { return own_segment(warp) + MlaSparseSmemLayout::walk; }
  __device__ uint32_t own_list(uint32_t warp) const { return own_segment(warp) + MlaSparseSmemLayout::list; }
  // A row of one of the warp's tiles: 16 bytes of scales, or 8, and its address.
  __device__ uint32_t own_row(uint32_t warp, uint32_t tile, uint32_t row) const {
    using Layout = MlaSparseSmemLayout;
    return own_segment(warp) + Layout::rows + (tile % 2 * Layout::warp_rows + row) * Layout::row_bytes;
  }
  __device__ uint32_t half_full(uint32_t slot, uint32_t half) const { return MlaSmem::full(slot, half); }
  // With the first box of a half the others come, rotary columns too.
  __device__ void wait_box(uint32_t slot, uint32_t, uint32_t order, uint32_t phase) const {
    if (order % mla_half_boxes != 0 || order == mla_boxes - 1) return;
    while (!ptx::mbarrier_try_wait(half_full(slot, order / mla_half_boxes), phase)) {
    }
  }

  __device__ void release(uint32_t slot, uint32_t half) const {
    if constexpr (Cfg::cluster == 1)
      MlaSmem::release(slot, half);
    else
      for (uint32_t cta = 0; cta < Cfg::cluster; ++cta) ptx::mbarrier_arrive_remote(ptx::mapa(empty(slot, half), cta));
  }

  // One thread.
  __device__ void init_barriers() const {
    q_ring().init(mla_math_threads / 32, 1);
#pragma unroll 1
    for (uint32_t i = 0; i < mla_slots * 2; ++i) {
      ptx::mbarrier_init(half_full(i / 2, i % 2), loader_warps);
      ptx::mbarrier_init(empty(i / 2, i % 2), 4 * Cfg::cluster);
    }
  }
};

__device__ __forceinline__ int32_t list_length(const SlotPool& pool, uint32_t sequence) {
  const auto most = static_cast<int32_t>(pool.top_k);
  return pool.lengths == nullptr ? most : min(max(pool.lengths[sequence], 0), most);
}

// See PagedSequence.
template <class Cfg>
struct ListSequence : PagedSequence<Cfg> {
  using Params = MlaSparseParams;
  static constexpr bool looks_at_few = true;

  __device__ ListSequence() {}
  __device__ ListSequence(const Params& p, uint32_t sequence) {
    this->q_begin = static_cast<int32_t>(sequence * p.list_tokens);
    this->q_len = static_cast<int32_t>(p.list_tokens);
    this->kv_len = list_length(p.main, sequence) + list_length(p.extra, sequence);
  }
};

// Which keys of a segment there are.
template <class Cfg>
struct MlaListedMask {
  static constexpr bool may_cut_tiles = false;

  uint32_t exist;  // of slot 0

  __device__ MlaListedMask(const MlaSparseParams&, const KeySegment&, const MlaSparseSmem<Cfg>& smem)
      : exist(smem.exist(0)) {}
  __device__ __forceinline__ void apply(float (&s)[mla_keys / 2], uint32_t, int32_t, uint32_t slot) const {
    mask_absent(s, ptx::load_shared_u64(exist + slot * (mla_keys / 8)));
  }
};

template <class Cfg>
__device__ __forceinline__ PagedScales mla_scales(const MlaSparseParams& p) {
  return PagedScales(p);
}

// One warpgroup.
template <class Cfg>
class LatentGather {
 public:
  __device__ LatentGather(const MlaSparseParams& p, const MlaSparseSmem<Cfg>& smem, const EvenShare& range)
      : p_(p), smem_(smem), first_step_(Cfg::cluster == 1 ? 0 : ptx::cluster_cta_rank()) {
    static_assert(key_walk_bytes == MlaSparseSmemLayout::list - MlaSparseSmemLayout::walk, "room for a walk");
    Walk(p, range).store(smem.own_walk(warp()));
    ptx::store_shared_s32x4(smem.own_list(warp()), make_int4(0, 0, 0, 0));
  }

  __device__ __forceinline__ void run() {
    Tile next{};
    bool more = advance(next);
    read_index(next, more);
    place(next);
    load_half(next, 0, 0);
#pragma unroll 1
    while (more) {
      forget_addresses();
      const Tile now = next;
      if (now.begins) publish_segment();
      ptx::copy_async_wait<0>();  // scales
      __syncwarp();
      more = advance(next);
#pragma unroll
      for (uint32_t step = 0; step < steps; ++step) {
        const bool is_last = step + 1 == steps;
        if (step == 0) wait_empty(now.slot, 0), store_exist(now);
        convert(now, step, 0, [&] {
          load_half(now, step, 1);
          if (steps == 1) read_index(next, more);
        });
        if (is_last) announce<0>(now.slot);
        if (is_last && places_early) place(next);
        if (step == 0) wait_empty(now.slot, 1);
        convert(now, step, 1, [&] {
          if (is_last && !places_early) place(next);
          load_half(is_last ? next : now, is_last ? 0 : step + 1, 0);
          if (step + 2 == steps) read_index(next, more);
        });
        if (is_last) announce<1>(now.slot);
      }
      phases_ ^= 1u << now.slot;
    }
    ptx::copy_async_wait<0>();
    publish_end();
    if constexpr (Cfg::cluster > 1) outlive_cluster();
  }

 private:
  using Row = LatentRow<Cfg::format>;
  using Walk = KeyWalk<Cfg, ListSequence<Cfg>>;
  static constexpr uint32_t boxes = attn_boxes(Row::columns), rotary_box = boxes - 1;
  static constexpr bool is_v4 = Row::is_planar;  // rotary columns are the last of v
  static constexpr uint32_t warp_rows = MlaSparseSmemLayout::warp_rows, step_rows = warp_rows / 2;
  static constexpr uint32_t steps = 2 / Cfg::cluster;  // of the CTA
  // Rows are found before the wait for the second half's slot. In clusters that made tiles take longer, not less.
  static constexpr bool places_early = Cfg::cluster == 1;
  static_assert(Row::columns == Cfg::head_dim_qk, "the format says how many columns a row has");

  // Of what a lane has of a tile: row lane % 16 of its warp's.
  struct Tile {
    uint32_t index;       // in the pool
    bool extra, begins;   // begins: a segment
    uint32_t slot, number;  // number: from 0 to 1 and back
    uint32_t exist;       // a bit for each of the warp's rows
  };
  using Source = const uint8_t*;

  __device__ uint32_t lane() const { return thread_ % 32; }
  __device__ uint32_t warp() const { return thread_ / 32; }
  __device__ uint32_t row_in_step() const { return lane() / 4; }
  // Else addresses that follow from these are computed in front of the loops, all of them, and spilled.
  __device__ __forceinline__ void forget_addresses() { ptx::renew(smem_.base), ptx::renew(thread_); }

  // What a warp must know of its segment's list.
  struct List {
    int32_t token, end, length, main_length;  // end: of the segment's tiles

    __device__ void store(uint32_t to) const {
      ptx::store_shared_s32x4(to, make_int4(token, end, length, main_length));
    }
    __device__ explicit List(uint32_t from) {
      const int4 v = ptx::load_shared_s32x4(from);
      token = v.x, end = v.y, length = v.z, main_length = v.w;
    }
    __device__ List(const KeySegment& s, int32_t main_length)
        : token(s.q_begin + s.first_token), end(s.end), length(s.kv_len), main_length(main_length) {}
  };

  // False after the last segment.
  __device__ __forceinline__ bool enter_segment() {
    KeySegment segment;
    Walk walk(p_, smem_.own_walk(warp()));
    if (!walk.next(segment)) return false;
    walk.store(smem_.own_walk(warp()));
    segment.store(smem_.own_segment(warp()));
    List(segment, list_length(p_.main, segment.sequence)).store(smem_.own_list(warp()));
    tile_ = segment.begin;
    return true;
  }

  // From a tile to the next of all segments. False: there is none.
  __device__ __forceinline__ bool advance(Tile& tile) {
    ++tile_, tile.slot ^= 1, tile.number ^= 1;
    tile.begins = tile_ >= List(smem_.own_list(warp())).end;
    if (tile.begins) {
      if (!enter_segment()) return false;
      tile.slot = 0;
    }
    return true;
  }

  // The tile's index is on its way then. Without the tile there is no index.
  __device__ __forceinline__ void read_index(Tile& tile, bool exists) {
    const List list(smem_.own_list(warp()));
    const int32_t key =
        tile_ * static_cast<int32_t>(mla_keys) + static_cast<int32_t>(warp() * warp_rows + lane() % warp_rows);
    tile.extra = key >= list.main_length;
    const int32_t* from = tile.extra ? p_.extra.indices + list.token * p_.extra.index_token + (key - list.main_length)
                                     : p_.main.indices + list.token * p_.main.index_token + key;
    tile.index = ptx::load_b32_if(exists && key < list.length, from, ~0u);
  }

  // Finds the rows. Scales are on their way then, and what is loaded later comes to the L2 cache: rotary columns, and where
  // half of a step takes less time than rows take to come, all columns. Two lanes find each row.
  __device__ __forceinline__ void place(Tile& tile) const {
    const bool extra = tile.extra;
    const bool exists = tile.index < (extra ? p_.extra.num_slots : p_.main.num_slots);
    const uint32_t page_size = extra ? p_.extra.page_size : p_.main.page_size;
    const uint32_t found = exists ? tile.index : 0, page = found / page_size;
    const LatentPlace at =
        latent_place<Cfg::format>(extra ? p_.extra.cache : p_.main.cache,
                                  extra ? p_.extra.page_bytes : p_.main.page_bytes, page_size, page,
                                  found - page * page_size);
    const uint32_t row = smem_.own_row(warp(), tile.number, lane() % warp_rows);
    ptx::store_shared_u64(row + 16, reinterpret_cast<uint64_t>(at.row));
    if constexpr (is_v4)
      ptx::copy_async_b64(row, at.scales, exists ? 8 : 0);
    else
      ptx::copy_async_b128(row, at.scales, exists ? 16 : 0);
    if (exists) ptx::prefetch_l2(at.row + Row::rotary_at);
    ptx::copy_async_commit();
    tile.exist = __ballot_sync(0xffffffff, exists) & ((1u << warp_rows) - 1);
    __syncwarp();
    if constexpr (!places_early) return;
    constexpr uint32_t sector = 32;
#pragma unroll
    for (uint32_t step = 0; step < steps; ++step) {
      const Source from = source(tile, row_in_warp(step)) + lane() % 4 * sector;
#pragma unroll
      for (uint32_t i = 0; i < mla_head_dim_v; i += 4 * sector) ptx::prefetch_l2(from + i);
    }
  }

  // step: of the CTA's.
  __device__ uint32_t row_in_warp(uint32_t step) const {
    return (first_step_ + step) * step_rows + row_in_step();
  }
  __device__ uint32_t row_of(const Tile& tile, uint32_t step) const {
    return smem_.own_row(warp(), tile.number, row_in_warp(step));
  }

  // Boxes of a half of the slot, four from this one on.
  __device__ static uint32_t first_box(uint32_t slot, uint32_t half) { return (slot ^ half) * mla_half_boxes; }
  // Box number i of a half: of V4 the last box is rotary.
  __device__ static bool is_rotary(uint32_t slot, uint32_t half, uint32_t i) {
    return is_v4 && i == mla_half_boxes - 1 && slot != half;
  }
  __device__ static bool has_rotary(uint32_t slot, uint32_t half) { return is_v4 ? half != slot : half == 1; }

  __device__ __forceinline__ Source source(const Tile& tile, uint32_t row) const {
    return reinterpret_cast<Source>(ptx::load_shared_u64(smem_.own_row(warp(), tile.number, row) + 16));
  }

  __device__ __forceinline__ void load_half(const Tile& tile, uint32_t step, uint32_t half) {
    const Source from =
        source(tile, row_in_warp(step)) + first_box(tile.slot, half) * attn_box_columns + lane() % 4 * 16;
#pragma unroll
    for (uint32_t i = 0; i < mla_half_boxes; ++i) data_[half][i] = ptx::load_stream_b32x4(from + i * attn_box_columns);
  }

  // Rotary columns go to their box as they are: of V3.2 those of all the warp's rows, of V4 those of the CTA's. Four
  // lanes have half of a row's at a time.
  __device__ __forceinline__ void copy_rotary(const Tile& tile) const {
    constexpr uint32_t rounds = is_v4 ? steps : 2;
    const uint32_t box = smem_.box(tile.slot, rotary_box);
    const uint32_t first_row = (is_v4 ? first_step_ : 0) * step_rows + row_in_step();
    Source from[rounds];
#pragma unroll
    for (uint32_t round = 0; round < rounds; ++round)
      from[round] = source(tile, first_row + round * step_rows) + Row::rotary_at;
#pragma unroll
    for (uint32_t round = 0; round < rounds; ++round) {
      const uint32_t row = first_row + round * step_rows, bytes = (tile.exist >> row & 1) * 16;
#pragma unroll
      for (uint32_t chunk = lane() % 4; chunk < 8; chunk += 4)
        ptx::copy_async_b128(box + attn_chunk_offset(mla_keys, warp() * warp_rows + row, chunk),
                             from[round] + chunk * 16, bytes);
    }
    ptx::copy_async_commit();
  }

  __device__ __forceinline__ void store_exist(const Tile& tile) const {
    if (lane() == 0)
      ptx::store_shared_u16(smem_.exist(tile.slot) + warp() * 2, static_cast<uint16_t>(tile.exist));
  }

  // Stores half of the rows of a step, which have been loaded; with the first step come rotary columns. load_next():
  // what comes after this half. It must not be on its way when this half's registers are waited for: all loads have the
  // same scoreboard.
  template <class LoadNext>
  __device__ __forceinline__ void convert(const Tile& tile, uint32_t step, uint32_t half, const LoadNext& load_next) {
    const uint32_t slot = tile.slot, row = warp() * warp_rows + row_in_warp(step);
    if (step == 0 && has_rotary(slot, half)) copy_rotary(tile);
    const uint32_t box = first_box(slot, half);
    const uint32_t first = smem_.box(slot, box) + row * attn_row_bytes + (lane() % 4 * 2 ^ row_in_step()) * 16;
    const uint32_t second = first ^ 16;
    const LatentScales<Cfg::format> scales(row_of(tile, step), slot ^ half);
    const bool any_large = __any_sync(0xffffffff, scales.any_large());
#pragma unroll
    for (uint32_t i = 0; i < mla_half_boxes; ++i) {
      if (i == 1) __syncwarp(), load_next();
      if (is_rotary(slot, half, i)) continue;
      const LatentFactor<Cfg::format> by = scales.of_box(i);
      const uint4& codes = data_[half][i];
      ptx::store_shared_b32x4(first + i * mla_box_bytes, dequantise_8(codes.x, codes.y, by));
      ptx::store_shared_b32x4(second + i * mla_box_bytes, dequantise_8(codes.z, codes.w, by));
    }
    if (any_large) enlarge(LatentScales<Cfg::format>(row_of(tile, step), slot ^ half), first);
  }

  // Multiplies what is stored by what LatentFactor left out.
  __device__ __forceinline__ void enlarge(const LatentScales<Cfg::format>& scales, uint32_t first) const {
#pragma unroll 1
    for (uint32_t i = 0; i < mla_half_boxes; ++i) {
      if (!scales.is_large(i)) continue;
#pragma unroll 1
      for (uint32_t chunk = 0; chunk < 32; chunk += 16) {
        const uint32_t at = (first ^ chunk) + i * mla_box_bytes;
        const uint4 v = ptx::load_shared_b32x4(at);
        ptx::store_shared_b32x4(at, make_uint4(times_2_120(v.x), times_2_120(v.y), times_2_120(v.z), times_2_120(v.w)));
      }
    }
  }

  // Says that the half is there, and sends the other CTA the rows that this one made.
  template <uint32_t half>
  __device__ __forceinline__ void announce(uint32_t slot) const {
    if (has_rotary(slot, half)) ptx::copy_async_wait<half>();  // not for scales of the next tile
    ptx::fence_proxy_async();
    __syncwarp();
    const uint32_t full = smem_.half_full(slot, half);
    if constexpr (Cfg::cluster == 1) {
      if (lane() == 0) ptx::mbarrier_arrive(full);
    } else {
      constexpr uint32_t bytes = step_rows * attn_row_bytes;  // of a box
      if (ptx::elect_one()) {
        ptx::mbarrier_arrive_expect_tx(full, mla_half_boxes * bytes);
        const uint32_t own = smem_.box(slot, first_box(slot, half)) +
                             (warp() * warp_rows + first_step_ * step_rows) * attn_row_bytes;
        const uint32_t to = ptx::mapa(own, first_step_ ^ 1), to_full = ptx::mapa(full, first_step_ ^ 1);
#pragma unroll
        for (uint32_t at = 0; at < mla_half_boxes * mla_box_bytes; at += mla_box_bytes)
          ptx::bulk_copy_to_cluster(to + at, own + at, bytes, to_full);
      }
      __syncwarp();
    }
  }

  __device__ __forceinline__ void wait_empty(uint32_t slot, uint32_t half) const {
    while (!ptx::mbarrier_try_wait(smem_.empty(slot, half), (phases_ >> slot & 1) ^ 1)) {
    }
  }

  // Until the other CTA's last word on what it was sent has come here: it comes after everything that it does to this
  // CTA's shared memory.
  __device__ __forceinline__ void outlive_cluster() const {
#pragma unroll
    for (uint32_t i = 0; i < mla_slots * 2; ++i) wait_empty(i / 2, i % 2);
  }

  // Says what the math warpgroups have to do next, and loads the queries.
  __device__ __forceinline__ void publish_segment() {
    if (thread_ == 0) {
      KeySegment segment;
      segment.load(smem_.own_segment(0));
      wait_queries_empty();
      segment.store(smem_.segment(segments_));
      const uint32_t full = smem_.q_ring().full();
      ptx::mbarrier_arrive_expect_tx(full, boxes * p_.tile_heads * attn_row_bytes);
#pragma unroll 1
      for (uint32_t box = 0; box < boxes; ++box)
        ptx::tma_load_3d(smem_.q() + box * mla_box_bytes, &p_.q_map, full, box * attn_box_columns, segment.first_head,
                         segment.q_begin + segment.first_token);
    }
    ++segments_;
  }
  __device__ __forceinline__ void publish_end() {
    if (thread_ != 0) return;
    wait_queries_empty();
    KeySegment{}.store(smem_.segment(segments_));
    ptx::mbarrier_arrive(smem_.q_ring().full());
  }
  __device__ __forceinline__ void wait_queries_empty() const {
    while (!ptx::mbarrier_try_wait(smem_.q_ring().empty(), segments_ % 2 ^ 1)) {
    }
  }

  const MlaSparseParams& p_;
  MlaSparseSmem<Cfg> smem_;
  const uint32_t first_step_;  // of the own ones
  uint32_t thread_ = threadIdx.x % 128;
  int32_t tile_ = 0;
  uint32_t segments_ = 0, phases_ = 0;  // phases_: a bit for each slot
  uint4 data_[2][mla_half_boxes];  // of either half
};

}  // namespace dgrt
