// The loading half of MLA over lists of slots: one warpgroup gathers rows of a quantised cache, makes bf16 of them,
// and leaves them as tiles of keys.
//
// Roles     A warp makes 16 rows of each tile, in two steps of 8 rows; four lanes have a row, and each 16 bytes of each
//           of its boxes. As soon as a lane has converted half of a row, it loads the next step's in its place: loads are
//           always on their way. A tile's indices are read while the tile before is converted, and found in the cache
//           half a tile ahead; then scales are loaded. The first thread also fetches queries.
// Order     As in mla_load.cuh: the half of a tile that becomes free first comes first.
// Holes     Rows of indices that name no slot are zeros.
#pragma once
#include "device/ptx/copy_async.cuh"
#include "device/ptx/memory.cuh"
#include "device/ptx/tma.cuh"
#include "mla/latent_dequant.cuh"
#include "device/main_loop/mla_paged.cuh"
#include "mla/mla_sparse_tile.cuh"

namespace dgrt {

// Boxes of one half of a slot have one barrier.
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

  // One thread.
  __device__ void init_barriers() const {
    q_ring().init(mla_math_threads / 32, 1);
#pragma unroll 1
    for (uint32_t i = 0; i < mla_slots * 2; ++i) {
      ptx::mbarrier_init(half_full(i / 2, i % 2), loader_warps);
      ptx::mbarrier_init(empty(i / 2, i % 2), 4);
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

  __device__ ListSequence() {}
  __device__ ListSequence(const Params& p, uint32_t sequence) {
    this->q_begin = static_cast<int32_t>(sequence * p.list_tokens);
    this->q_len = static_cast<int32_t>(p.list_tokens);
    this->kv_len = list_length(p.main, sequence) + list_length(p.extra, sequence);
  }
};

// Which keys of a segment there are.
struct MlaListedMask {
  static constexpr bool may_cut_tiles = false;

  uint32_t exist;  // of slot 0

  __device__ MlaListedMask(const MlaSparseParams&, const KeySegment&, const MlaSparseSmem& smem)
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
  __device__ LatentGather(const MlaSparseParams& p, const MlaSparseSmem& smem, const EvenShare& range)
      : p_(p), smem_(smem) {
    static_assert(key_walk_bytes == MlaSparseSmemLayout::list - MlaSparseSmemLayout::walk, "room for a walk");
    Walk(p, range).store(smem.own_walk(warp()));
    ptx::store_shared_s32x4(smem.own_list(warp()), make_int4(0, 0, 0, 0));
  }

  __device__ __forceinline__ void run() {
    Tile now{}, next{};
    bool more = true;
#pragma unroll 1
    for (bool first = true; more; first = false) {
      forget_addresses();
      now = next;
      if (!first) {
        if (now.begins) publish_segment();
        ptx::copy_async_wait<0>();  // scales
        __syncwarp();
      }
      more = advance(next);
      if (first) {
        if (more) place(next), load_first(next);
        ptx::copy_async_commit();  // scales
        continue;
      }
#pragma unroll 1
      for (uint32_t step = 0; step < 2; ++step) {
        forget_addresses();
        Source from = nullptr;
        if (step == 0)
          from = source(now, 1);
        else if (more)
          from = (place(next), source(next, 0));
        ptx::copy_async_commit();  // scales
        convert(now, step, from, step == 0 ? now.slot : next.slot);
      }
      phases_ ^= 1u << now.slot;
    }
    publish_end();
  }

 private:
  using Row = LatentRow<Cfg::format>;
  using Walk = KeyWalk<Cfg, ListSequence<Cfg>>;
  static constexpr uint32_t boxes = attn_boxes(Row::columns), rotary_box = boxes - 1;
  static constexpr bool is_v4 = Row::is_planar;  // rotary columns are the last of v
  static constexpr uint32_t warp_rows = MlaSparseSmemLayout::warp_rows, step_rows = warp_rows / 2;
  static_assert(Row::columns == Cfg::head_dim_qk, "the format says how many columns a row has");

  // Of what a lane has of a tile: row lane % 16 of its warp's.
  struct Tile {
    int32_t index;        // in the pool
    bool extra, begins;   // begins: a segment
    uint32_t slot, number;
    uint32_t exist;       // a bit for each of the warp's rows
  };
  // Where a lane reads its vectors of a step. Null: nowhere, there are zeros.
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
    tile_ = segment.begin, slot_ = 0;
    return true;
  }

  // The next tile of all segments, whose index is on its way then.
  __device__ __forceinline__ bool advance(Tile& tile) {
    ++tile_, slot_ ^= 1;
    tile.begins = tile_ >= List(smem_.own_list(warp())).end;
    if (tile.begins && !enter_segment()) return false;
    const List list(smem_.own_list(warp()));
    tile.slot = slot_, tile.number = ++tiles_;
    const int32_t key =
        tile_ * static_cast<int32_t>(mla_keys) + static_cast<int32_t>(warp() * warp_rows + lane() % warp_rows);
    tile.extra = key >= list.main_length;
    tile.index = -1;
    if (key < list.length)
      tile.index = tile.extra ? p_.extra.indices[list.token * p_.extra.index_token + (key - list.main_length)]
                              : p_.main.indices[list.token * p_.main.index_token + key];
    return true;
  }

  __device__ __forceinline__ void place(Tile& tile) const {
    const bool extra = tile.extra;
    const auto index = static_cast<uint32_t>(tile.index);
    const bool exists = index < (extra ? p_.extra.num_slots : p_.main.num_slots);
    const uint32_t page_size = extra ? p_.extra.page_size : p_.main.page_size;
    const uint32_t page = index / page_size;
    const LatentPlace at =
        latent_place<Cfg::format>(extra ? p_.extra.cache : p_.main.cache,
                                  extra ? p_.extra.page_bytes : p_.main.page_bytes, page_size, page,
                                  index - page * page_size);
    if (lane() < warp_rows) {
      const uint32_t row = smem_.own_row(warp(), tile.number, lane());
      ptx::store_shared_u64(row + 16, exists ? reinterpret_cast<uint64_t>(at.row) : 0);
      if constexpr (is_v4)
        ptx::copy_async_b64(row, at.scales, exists ? 8 : 0);
      else
        ptx::copy_async_b128(row, at.scales, exists ? 16 : 0);
    }
    tile.exist = __ballot_sync(0xffffffff, exists) & ((1u << warp_rows) - 1);
    __syncwarp();
  }

  __device__ uint32_t row_of(const Tile& tile, uint32_t step) const {
    return smem_.own_row(warp(), tile.number, step * step_rows + row_in_step());
  }
  __device__ __forceinline__ Source source(const Tile& tile, uint32_t step) const {
    return reinterpret_cast<Source>(ptx::load_shared_u64(row_of(tile, step) + 16));
  }

  // Number `index` of 8 boxes in the order in which they come. Of V4 the last box is rotary.
  __device__ static uint32_t box_at(uint32_t slot, uint32_t index) {
    return (slot ^ index / mla_half_boxes) * mla_half_boxes + index % mla_half_boxes;
  }
  __device__ static bool is_rotary(uint32_t slot, uint32_t index) {
    return is_v4 && index % mla_half_boxes == mla_half_boxes - 1 && box_at(slot, index) == rotary_box;
  }

  __device__ __forceinline__ void load_vector(Source from, uint32_t slot, uint32_t index) {
    data_[index] = ptx::load_stream_b32x4_if(from != nullptr && !is_rotary(slot, index),
                                             from + box_at(slot, index) * attn_box_columns + lane() % 4 * 16);
  }
  // Rotary columns of all the warp's rows go to their box as they are: four lanes have half of a row's at a time.
  __device__ __forceinline__ void copy_rotary(const Tile& tile) const {
#pragma unroll
    for (uint32_t step = 0; step < 2; ++step) {
      const Source from = source(tile, step);
      const uint32_t row = warp() * warp_rows + step * step_rows + row_in_step();
#pragma unroll
      for (uint32_t chunk = lane() % 4; chunk < 8; chunk += 4)
        ptx::copy_async_b128(smem_.box(tile.slot, rotary_box) + attn_chunk_offset(mla_keys, row, chunk),
                             from + Row::rotary_at + chunk * 16, from != nullptr ? 16 : 0);
    }
    ptx::copy_async_commit();
  }

  __device__ __forceinline__ void load_first(const Tile& tile) {
    const Source from = source(tile, 0);
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) load_vector(from, tile.slot, i);
  }

  // What box number `index` of a row is multiplied by. scales: of the row.
  __device__ static LatentFactor<Cfg::format> factor(uint32_t scales, uint32_t slot, uint32_t index) {
    const uint32_t box = box_at(slot, index);
    return LatentFactor<Cfg::format>(is_v4 ? ptx::load_shared_u8(scales + box)
                                           : ptx::load_shared_u32(scales + box / 2 * 4));
  }

  // Stores the rows of a step, which have been loaded, and loads those of `from`, which go to `next_slot`.
  __device__ __forceinline__ void convert(const Tile& tile, uint32_t step, Source from, uint32_t next_slot) {
    const uint32_t slot = tile.slot, row = warp() * warp_rows + step * step_rows + row_in_step();
    const uint32_t to = smem_.box(slot, 0) + row * attn_row_bytes, swizzle = row_in_step();
    const uint32_t vector = to + (lane() % 4 * 2 ^ swizzle) * 16;
    const uint32_t scales = row_of(tile, step);
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
      if (step == 0) wait_empty(slot, half);
      if (step == 0 && half == 0 && lane() == 0)
        ptx::store_shared_u16(smem_.exist(slot) + warp() * 2, static_cast<uint16_t>(tile.exist));
#pragma unroll
      for (uint32_t i = half * mla_half_boxes; i < (half + 1) * mla_half_boxes; ++i) {
        if (!is_rotary(slot, i)) {
          const LatentFactor<Cfg::format> by = factor(scales, slot, i);
          const uint32_t at = vector + box_at(slot, i) * mla_box_bytes;
          ptx::store_shared_b32x4(at, dequantise_8(data_[i].x, data_[i].y, by));
          ptx::store_shared_b32x4(at ^ 16, dequantise_8(data_[i].z, data_[i].w, by));
        }
      }
      const bool has_rotary = is_v4 ? half != slot : half == 1;
      if (step == 0 && has_rotary) copy_rotary(tile);
      if (step == 1 && has_rotary) ptx::copy_async_wait<1>();  // not for the next tile's scales
      if (step == 1) {
        ptx::fence_proxy_async();
        __syncwarp();
        if (lane() == 0) ptx::mbarrier_arrive(smem_.half_full(slot, half));
      }
      // Behind the fence, which may wait for loads.
#pragma unroll
      for (uint32_t i = half * mla_half_boxes; i < (half + 1) * mla_half_boxes; ++i) load_vector(from, next_slot, i);
    }
  }

  __device__ __forceinline__ void wait_empty(uint32_t slot, uint32_t half) const {
    while (!ptx::mbarrier_try_wait(smem_.empty(slot, half), (phases_ >> slot & 1) ^ 1)) {
    }
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
  MlaSparseSmem smem_;
  uint32_t thread_ = threadIdx.x % 128;
  int32_t tile_ = 0;
  uint32_t slot_ = 0, tiles_ = 0;
  uint32_t segments_ = 0, phases_ = 0;  // phases_: a bit for each slot
  uint4 data_[8];
};

}  // namespace dgrt
