// Where key tiles come from: sequences that lie one behind the other, or a paged cache. A source says
// which keys a sequence has, and copies tiles of them and of values into boxes of 64 columns
// (attn_tile.cuh). Rows that do not exist are zeros.
#pragma once
#include "device/common/attn_tile.cuh"
#include "device/pipeline/ring.cuh"
#include "device/ptx/copy_async.cuh"
#include "device/ptx/memory.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/tma.cuh"
#include "device/ptx/warpgroup.cuh"
#include "device/sched/page_check.cuh"
#include "device/sched/ragged_walk.cuh"

namespace dgrt {

// One lane. A box is box_bytes long. Many are copied in a loop: each costs a dozen instructions, which hide
// behind the copy before, and compile time.
template <uint32_t boxes>
__device__ __forceinline__ void load_boxes(uint32_t to, uint32_t box_bytes, const TensorMap* map,
                                           uint32_t barrier, int32_t token, int32_t head) {
  ptx::mbarrier_arrive_expect_tx(barrier, boxes * box_bytes);
#pragma unroll boxes > 2 ? 1 : 2
  for (uint32_t box = 0; box < boxes; ++box)
    ptx::tma_load_3d(to + box * box_bytes, map, barrier, box * attn_box_columns, token, head);
}

template <class Cfg>
class ContiguousKeys {
 public:
  using Params = AttnContiguousParams;
  using Range = KeyRange<attn_tile_tokens<Cfg>, Cfg::block_n, false>;
  using KeyRing = Ring<Cfg::stages>;
  static constexpr bool all_lanes = false;
  static constexpr bool ordinary_writes = false;  // fill slots, which products see behind a fence alone
  static constexpr uint32_t more_registers = 0;   // that each math thread leaves to loading ones

  // Whether this thread does what one must do.
  __device__ static bool leads() { return true; }
  // Warps that load besides the first.
  __device__ static uint32_t followers(const Params&) { return 0; }
  // Arrivals that fill a slot.
  __device__ static uint32_t fills(const Params&) { return 1; }

  __device__ static void locate(const Params& p, uint32_t sequence, RaggedTile& tile) {
    tile.kv_begin = bounded_indptr(p.kv_indptr, sequence, p.total_kv);
    tile.kv_len = max(bounded_indptr(p.kv_indptr, sequence + 1, p.total_kv) - tile.kv_begin, 0);
    tile.mask_column = 0;
  }

  // All threads of the grid, before any key is loaded.
  __device__ static void check(const Params&) {}

  __device__ ContiguousKeys(const Params& p, const RaggedTile& tile, const Range&, uint32_t, uint32_t)
      : p_(p), first_(tile.kv_begin), head_(tile.head / static_cast<int32_t>(p.group)) {}

  // Key tile `at`, once the ring's slot is empty.
  __device__ __forceinline__ void load_k(const KeyRing& ring, uint32_t to, int32_t at) const {
    load<attn_boxes(Cfg::head_dim_qk)>(ring, to, &p_.k, at);
  }
  __device__ __forceinline__ void load_v(const KeyRing& ring, uint32_t to, int32_t at) const {
    load<attn_boxes(Cfg::head_dim_v)>(ring, to, &p_.v, at);
  }
  // Between keys and values. The next keys are of tile `at`, the next values of the keys before the last ones.
  __device__ void look_ahead(int32_t) {}
  // After the last of a tile's loads.
  __device__ void finish() const {}

 private:
  template <uint32_t boxes>
  __device__ __forceinline__ void load(const KeyRing& ring, uint32_t to, const TensorMap* map,
                                       int32_t at) const {
    ring.wait_empty();
    load_boxes<boxes>(to, Cfg::block_n * attn_row_bytes, map, ring.full(),
                      first_ + at * static_cast<int32_t>(Cfg::block_n), head_);
  }

  const Params& p_;
  int32_t first_, head_;
};

// What both ways to load from pages need. All lanes of up to four warps load.
template <class Cfg>
class PagedSource {
 public:
  using Params = AttnExtendParams;
  using Range = KeyRange<attn_tile_tokens<Cfg>, Cfg::block_n, Cfg::new_keys>;
  using KeyRing = Ring<Cfg::stages>;
  static constexpr bool all_lanes = true, ordinary_writes = false;

  __device__ static bool leads() { return threadIdx.x % 128 == 0; }

  // kv_begin: the sequence.
  __device__ static void locate(const Params& p, uint32_t sequence, RaggedTile& tile) {
    tile.kv_begin = static_cast<int32_t>(sequence);
    tile.kv_len = num_keys<Cfg::new_keys>(p, sequence, tile.q_len);
    tile.mask_column =
        Cfg::mask == attn_mask_none ? 0 : first_mask_column<Cfg::new_keys>(p, sequence, tile.q_len);
  }

  __device__ static void check(const Params& p) {
    if constexpr (Cfg::check_pages)
      check_pages<Cfg::new_keys>(p, [&](uint32_t sequence) {
        RaggedTile tile;
        tile.q_len = bounded_indptr(p.q_indptr, sequence + 1, p.total_q) -
                     bounded_indptr(p.q_indptr, sequence, p.total_q);
        locate(p, sequence, tile);
        return tile;
      });
  }

 protected:
  static constexpr uint32_t warps = 4;
  struct Place {
    uint32_t token, page;
  };

  __device__ PagedSource(const Params& p, const RaggedTile& tile, const Range& range)
      : p_(p),
        tiles_(range.tiles),
        key_first_(range.key_first),
        key_end_(range.key_end),
        q_begin_(tile.q_begin),
        sequence_(static_cast<uint32_t>(tile.kv_begin)),
        head_(static_cast<uint32_t>(tile.head) / p.group) {
    if constexpr (Cfg::new_keys) key_end_ = min(key_end_, tiles_.cached_end());
  }

  // Whether tile `at` comes from k_new and v_new, and not from pages.
  __device__ __forceinline__ bool is_new(int32_t at) const {
    if constexpr (Cfg::new_keys) return tiles_.is_new(at);
    return false;
  }
  // Once the slot is empty. All warps fill it, if with nothing: one that had no part in a tile could fall
  // behind by a round of the ring, and would then wait for a phase that is long over.
  template <uint32_t boxes>
  __device__ __forceinline__ void load_new(const KeyRing& ring, uint32_t to, const TensorMap* map,
                                           int32_t at) const {
    if constexpr (Cfg::new_keys) {
      ring.wait_empty();
      if (leads())
        load_boxes<boxes>(to, Cfg::block_n * attn_row_bytes, map, ring.full(),
                          q_begin_ + (at - tiles_.cached) * static_cast<int32_t>(Cfg::block_n),
                          static_cast<int32_t>(head_));
      else if (threadIdx.x % 32 == 0)
        ptx::mbarrier_arrive(ring.full());
      __syncwarp();
    }
  }

  __device__ static uint32_t warp() { return threadIdx.x % 128 / 32; }

  // Of `rows` rows from row `row` of tile `at`, all in one page. Pages from num_pages on do not exist. Nothing
  // is done with the table's entry, so that nobody waits for it here: neither do lanes without one, whose page a
  // branch would write to the register that the others' entries are on their way to.
  __device__ __forceinline__ Place find(int32_t at, uint32_t row, uint32_t rows) const {
    uint32_t token = 0, in_table = 0;
    const int32_t key = at * static_cast<int32_t>(Cfg::block_n) + static_cast<int32_t>(row);
    const bool exists = row < Cfg::block_n && key < key_end_ && key + static_cast<int32_t>(rows) > key_first_;
    if (exists) {
      in_table = static_cast<uint32_t>(key) / p_.page_size;
      token = static_cast<uint32_t>(key) - in_table * p_.page_size;
    }
    return {token, ptx::load_b32_if(exists, p_.page_table + sequence_ * p_.table_row + in_table, p_.num_pages)};
  }

  const Params& p_;
  KeyTiles<Cfg::block_n, Cfg::new_keys> tiles_;
  int32_t key_first_, key_end_;  // of keys in pages
  int32_t q_begin_;
  uint32_t sequence_, head_;
};

// By TMA, in boxes of so many rows that divide both page and tile. Warps divide columns where keys and
// values have enough of them, then boxes. Boxes of pages that do not exist are zeros, so that every tile
// announces the same bytes.
template <class Cfg>
class BoxedKeys : public PagedSource<Cfg> {
  using Base = PagedSource<Cfg>;
  using Base::head_, Base::p_, Base::warp, Base::warps;
  static constexpr uint32_t qk_boxes = attn_boxes(Cfg::head_dim_qk);
  static constexpr uint32_t v_boxes = attn_boxes(Cfg::head_dim_v);
  static constexpr uint32_t parts = qk_boxes % 4 == 0 && v_boxes % 4 == 0   ? 4
                                    : qk_boxes % 2 == 0 && v_boxes % 2 == 0 ? 2
                                                                            : 1;

 public:
  using typename Base::KeyRing, typename Base::Params, typename Base::Range;

  static constexpr uint32_t more_registers = 8;
  // All warps copy boxes of every tile, so that none falls behind by a round of the ring.
  __device__ static uint32_t followers(const Params& p) {
    return min(Cfg::block_n / p.box_rows * parts, warps) - 1;
  }
  __device__ static uint32_t fills(const Params& p) { return Cfg::new_keys ? followers(p) + 1 : 1; }

  __device__ BoxedKeys(const Params& p, const RaggedTile& tile, const Range& range, uint32_t, uint32_t)
      : Base(p, tile, range) {
    look_ahead(range.end - 1);
  }

  __device__ __forceinline__ void load_k(const KeyRing& ring, uint32_t to, int32_t at) const {
    if (this->is_new(at))
      this->template load_new<qk_boxes>(ring, to, &p_.k_new, at);
    else
      load<qk_boxes>(ring, to, &p_.k, at, keys_);
  }
  __device__ __forceinline__ void load_v(const KeyRing& ring, uint32_t to, int32_t at) const {
    if (this->is_new(at))
      this->template load_new<v_boxes>(ring, to, &p_.v_new, at);
    else
      load<v_boxes>(ring, to, &p_.v, at, values_);
  }
  // So that the table's entries are there when they are needed: they arrive while values wait for their slot.
  __device__ __forceinline__ void look_ahead(int32_t at) {
    values_ = loaded_keys_;
    loaded_keys_ = keys_;
    keys_ = this->find(at, first_row(), p_.box_rows);
  }
  __device__ void finish() const {}

 private:
  __device__ uint32_t first_row() const {
    return (threadIdx.x % 32 * (warps / parts) + warp() / parts) * p_.box_rows;
  }

  // `place`: of this lane's first box. It stands outside the loop, behind whose head everybody waits for the
  // entries that a round before has asked for, and so for those of look_ahead().
  template <uint32_t boxes>
  __device__ __forceinline__ void load(const KeyRing& ring, uint32_t to, const TensorMap* map,
                                       int32_t at, typename Base::Place place) const {
    ring.wait_empty();
    if (Base::leads())
      ptx::mbarrier_arrive_expect_tx(ring.full(), boxes * Cfg::block_n * attn_row_bytes);
    else if (Cfg::new_keys && threadIdx.x % 32 == 0)
      ptx::mbarrier_arrive(ring.full());
    uint32_t row = first_row();
    if (row < Cfg::block_n) copy_rows<boxes>(ring, to, map, row, place);
#pragma unroll 1
    while ((row += warps / parts * 32 * p_.box_rows) < Cfg::block_n)
      copy_rows<boxes>(ring, to, map, row, this->find(at, row, p_.box_rows));
    __syncwarp();
  }
  template <uint32_t boxes>
  __device__ __forceinline__ void copy_rows(const KeyRing& ring, uint32_t to, const TensorMap* map, uint32_t row,
                                            typename Base::Place place) const {
#pragma unroll
    for (uint32_t i = 0; i < boxes / parts; ++i) {
      const uint32_t box = i * parts + warp() % parts;
      ptx::tma_load_4d(to + (box * Cfg::block_n + row) * attn_row_bytes, map, ring.full(), box * attn_box_columns,
                       place.token, head_, place.page);
    }
  }

  // Of this lane's first box: of the next keys, the keys before them, the next values.
  typename Base::Place keys_ = {}, loaded_keys_ = {}, values_ = {};
};

// By copies of 16 bytes, for pages that would make more boxes than TMA is fast with. Four warps gather every
// fourth four rows; eight lanes copy 64 columns of one. Nobody here waits for copies: every lane arrives at the
// slot's barrier by itself once its own are there.
template <class Cfg>
class GatheredKeys : public PagedSource<Cfg> {
  using Base = PagedSource<Cfg>;
  using Base::head_, Base::p_, Base::warp, Base::warps;
  static_assert(Cfg::block_n <= warps * 32, "a lane finds one row of a tile");

 public:
  using typename Base::KeyRing, typename Base::Params, typename Base::Range;

  static constexpr uint32_t more_registers = 8;
  static constexpr bool ordinary_writes = true;
  __device__ static uint32_t followers(const Params&) { return warps - 1; }
  __device__ static uint32_t fills(const Params&) { return warps * 32; }

  __device__ GatheredKeys(const Params& p, const RaggedTile& tile, const Range& range, uint32_t, uint32_t)
      : Base(p, tile, range) {
    look_ahead(range.end - 1);
  }

  __device__ __forceinline__ void load_k(const KeyRing& ring, uint32_t to, int32_t at) const {
    if (this->is_new(at))
      load_box<Cfg::head_dim_qk>(ring, to, &p_.k_new, at);
    else
      load<Cfg::head_dim_qk>(ring, to, p_.k_rows, p_.qk_columns, keys_);
  }
  __device__ __forceinline__ void load_v(const KeyRing& ring, uint32_t to, int32_t at) const {
    if (this->is_new(at))
      load_box<Cfg::head_dim_v>(ring, to, &p_.v_new, at);
    else
      load<Cfg::head_dim_v>(ring, to, p_.v_rows, p_.v_columns, values_);
  }
  // As for boxes.
  __device__ __forceinline__ void look_ahead(int32_t at) {
    values_ = loaded_keys_;
    loaded_keys_ = keys_;
    const uint32_t index = threadIdx.x % 32;  // of the warp's rows
    keys_ = this->find(at, index / 4 * 16 + warp() * 4 + index % 4, 1);
  }
  __device__ void finish() const {}

 private:
  // New keys need no gathering.
  template <uint32_t columns>
  __device__ __forceinline__ void load_box(const KeyRing& ring, uint32_t to, const TensorMap* map, int32_t at) const {
    if (!Base::leads()) {
      ring.wait_empty();
      ptx::mbarrier_arrive(ring.full());
    }
    if (warp() == 0) this->template load_new<attn_boxes(columns)>(ring, to, map, at);
  }

  // place: of the lane's row of the warp's.
  template <uint32_t columns>
  __device__ __forceinline__ void load(const KeyRing& ring, uint32_t to, const AttnPageRows& rows, uint32_t real_columns,
                                       typename Base::Place place) const {
    const bool exists = place.page < p_.num_pages;
    const uint64_t own = exists ? place.page * rows.page + place.token * rows.token : 0;
    const uint32_t in_round = threadIdx.x % 32 / 8, chunk = threadIdx.x % 8;
    const uint32_t exist = __ballot_sync(0xffffffff, exists) >> in_round;
    const auto* base = static_cast<const uint16_t*>(rows.base) + head_ * rows.head + chunk * 8;
    to += attn_chunk_offset(Cfg::block_n, warp() * 4 + in_round, chunk);
    uint32_t from_lane = in_round;
    ptx::renew(from_lane);  // else a register would be kept for each round's
    ring.wait_empty();
#pragma unroll
    for (uint32_t round = 0; round < Cfg::block_n / 16; ++round) {
      const uint16_t* from = base + __shfl_sync(0xffffffff, own, round * 4 + from_lane);
#pragma unroll
      for (uint32_t box = 0; box < attn_boxes(columns); ++box) {
        const bool is_real = (exist >> round * 4 & 1) != 0 && box * attn_box_columns + chunk * 8 < real_columns;
        ptx::copy_async_b128(to + (box * Cfg::block_n + round * 16) * attn_row_bytes, from + box * attn_box_columns,
                             is_real ? 16 : 0);
      }
    }
    ptx::copy_async_arrive(ring.full());
  }

  // Of the lane's row: of the next keys, the keys before them, the next values.
  typename Base::Place keys_ = {}, loaded_keys_ = {}, values_ = {};
};

}  // namespace dgrt
