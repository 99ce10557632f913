// Keys and values of e4m3, made 16 bits on their way: every lane of four warps copies 16 columns of a row at a
// time to a slot beside the tiles, and converts what it copied itself, as soon as it is there, to where products
// read. Several slots are on their way meanwhile. Pages of any size cost the same. What is read of shared memory is
// read well before anything waits for it: products keep it busy, and an answer takes 100 cycles.
#pragma once
#include "device/main_loop/attn_keys.cuh"
#include "device/main_loop/kv_scales.cuh"
#include "device/main_loop/paged_upcast.cuh"

namespace dgrt {

// Where a row of keys and values lies.
struct UpcastRow {
  uint32_t token, page;
  bool exists;
};

// Rows of sequences that lie one behind the other: one page.
template <class Cfg>
class ContiguousRows {
 public:
  using Params = AttnContiguousParams;
  using Range = KeyRange<attn_tile_tokens<Cfg>, Cfg::block_n, false>;
  using KeyRing = Ring<Cfg::stages>;
  static constexpr bool all_lanes = true, ordinary_writes = false;

  __device__ static bool leads() { return threadIdx.x % 128 == 0; }
  __device__ static void check(const Params&) {}
  __device__ static void locate(const Params& p, uint32_t sequence, RaggedTile& tile) {
    ContiguousKeys<Cfg>::locate(p, sequence, tile);
  }

 protected:
  static constexpr uint32_t warps = 4;

  __device__ ContiguousRows(const Params& p, const RaggedTile& tile, const Range& range, uint32_t row)
      : p_(p),
        key_first_(range.key_first),
        key_end_(range.key_end),
        first_token_(static_cast<uint32_t>(tile.kv_begin)),
        row_(static_cast<int32_t>(row)),
        head_(static_cast<uint32_t>(tile.head) / p.group) {}

  __device__ static bool is_new(int32_t) { return false; }
  __device__ void request_row(int32_t, uint32_t) const {}
  __device__ __forceinline__ UpcastRow next_row(int32_t at, uint32_t) const {
    const int32_t key = at * static_cast<int32_t>(Cfg::block_n) + row_;
    return {first_token_ + static_cast<uint32_t>(key), 0, key >= key_first_ && key < key_end_};
  }

  const Params& p_;
  int32_t key_first_, key_end_;
  uint32_t first_token_;
  int32_t row_;
  uint32_t head_;
};

// Rows of pages. Tiles are requested in their order, from the last of the range on: to where the row before lay,
// only differences are added, as a division would have every tile wait for it.
template <class Cfg>
class PagedRows : public PagedSource<Cfg> {
  using Base = PagedSource<Cfg>;

 public:
  using typename Base::Params, typename Base::Range;

 protected:
  using Base::key_end_, Base::key_first_, Base::p_;

  __device__ PagedRows(const Params& p, const RaggedTile& tile, const Range& range, uint32_t row)
      : Base(p, tile, range), row_(static_cast<int32_t>(row)), table_(p.page_table + this->sequence_ * p.table_row) {
    const auto key = static_cast<uint32_t>(key_of(range.end - 1));
    in_table_ = static_cast<int32_t>(key / p.page_size);
    token_ = requested_token_ = static_cast<int32_t>(key % p.page_size);
  }

  // Lanes that have rows: the table's entry, to the warp's entries of tile `at`. Of rows in one page the first copies
  // it: copies to many places of what lies in one are done one by one.
  __device__ __forceinline__ void request_row(int32_t at, uint32_t entries) {
    const auto lane = static_cast<int32_t>(threadIdx.x % 32);
    const int32_t key = key_of(at), page_end = static_cast<int32_t>(p_.page_size) - requested_token_;  // from key on
    const bool copies = (lane == 0 || requested_token_ == 0) && key < key_end_ && page_end > key_first_ - key;
    ptx::copy_async_b32_if(copies, entries + threadIdx.x % 32 * 4, table_ + static_cast<uint32_t>(in_table_));
    in_table_ -= static_cast<int32_t>(p_.tile_pages);
    if (step_back(requested_token_)) --in_table_;
  }
  // Then, tile by tile, where the row lies.
  __device__ __forceinline__ UpcastRow next_row(int32_t at, uint32_t entries) {
    const uint32_t lane = threadIdx.x % 32, entry = ptx::load_shared_u32(entries + lane * 4);
    const auto token = static_cast<uint32_t>(token_);
    const uint32_t page = __shfl_sync(lanes_with_rows, entry, lane - min(lane, token));
    const int32_t key = key_of(at);
    step_back(token_);
    return {token, page, key >= key_first_ && key < key_end_ && page < p_.num_pages};
  }

 private:
  static constexpr uint32_t lanes_with_rows = 0xffffffffu >> (32 - Cfg::block_n / 4);

  // From a tile's token to that of the one before; true: one page more than tile_pages.
  __device__ __forceinline__ bool step_back(int32_t& token) const {
    token -= static_cast<int32_t>(p_.tile_tokens);
    const bool passes = token < 0;
    if (passes) token += static_cast<int32_t>(p_.page_size);
    return passes;
  }
  __device__ int32_t key_of(int32_t at) const { return at * static_cast<int32_t>(Cfg::block_n) + row_; }

  int32_t row_;           // of a tile
  const int32_t* table_;  // of the sequence
  int32_t token_;         // in its page, of the row of the next tile
  int32_t in_table_, requested_token_;  // of the tile whose entry is requested next
};

// Source: PagedRows, ContiguousRows. Of a tile every warp has a quarter of the rows, side by side. Four lanes
// have 64 columns of one, 16 each, and eight lanes two rows, so that their stores meet in no bank.
template <class Cfg, class Source>
class UpcastKeys : public Source {
  using Source::head_, Source::p_, Source::warps;
  static constexpr AttnConfig config = attn_config<Cfg>;
  static constexpr uint32_t rows = Cfg::block_n / warps, table_bytes = rows * 8, entries_bytes = rows * 4;  // of a warp
  static constexpr uint32_t slots = attn_raw_slots(config), slot_bytes = attn_raw_slot_bytes(config);
  static_assert(rows <= 32, "a lane finds one row of a tile");

  // A lane's share of a tile, in chunks of 16 columns; what is beyond the columns is nobody's.
  template <uint32_t columns>
  struct Tile {
    static constexpr uint32_t boxes = attn_boxes(columns), wide = attn_raw_boxes(columns);
    static constexpr uint32_t chunks = attn_raw_chunks(Cfg::block_n, columns);
    static constexpr uint32_t in_pass = attn_pass_size(chunks), passes = ceil_div(chunks, in_pass);
    static_assert(passes <= 2, "visit_part_of() knows two");

    // A chunk's row of the warp's, and box: of the chunk, then of the lane.
    __device__ static constexpr uint32_t row(uint32_t chunk) { return chunk * 4 / wide * 2; }
    __device__ static constexpr uint32_t box(uint32_t chunk) { return chunk * 4 % wide; }
    __device__ static uint32_t lane_row() { return threadIdx.x % 32 / 8 / wide * 2 + threadIdx.x / 4 % 2; }
    __device__ static uint32_t lane_box() { return threadIdx.x % 32 / 8 % wide; }
    // Where the lane's 16 bytes lie among the warp's: a row's side by side, so that what comes of a line of memory
    // meets in no bank, every other row's boxes in the other order, so that what eight lanes read does not either.
    __device__ static uint32_t lane_place() {
      constexpr uint32_t boxes_of_row = wide < 4 ? wide : 4;
      const uint32_t box = boxes_of_row == 1 ? 0 : lane_box() ^ lane_row() % 2;
      return ((lane_row() * boxes_of_row + box) * 4 + threadIdx.x % 4) * 16;
    }
    __device__ static bool has_row(uint32_t chunk) { return rows * wide % 8 == 0 || lane_row() + row(chunk) < rows; }
  };
  using K = Tile<Cfg::head_dim_qk>;
  using V = Tile<Cfg::head_dim_v>;

 public:
  using typename Source::KeyRing, typename Source::Params, typename Source::Range;

  static constexpr uint32_t more_registers = attn_math_warpgroups(config) < 3 ? 24 : 16;
  __device__ static uint32_t followers(const Params&) { return warps - 1; }
  __device__ static uint32_t fills(const Params&) { return warps; }

  __device__ UpcastKeys(const Params& p, const RaggedTile& tile, const Range& range, uint32_t tables, uint32_t raw)
      : Source(p, tile, range, threadIdx.x % 128 / 32 * rows + threadIdx.x % 32),
        first_(range.first),
        last_(range.end - 1),
        tables_(tables + threadIdx.x % 128 / 32 * (3 * table_bytes + 4 * entries_bytes)),
        raw_(raw + threadIdx.x % 128 / 32 * (32 * 16)) {
#pragma unroll 1
    for (int32_t at = last_; at > last_ - 3; --at) request_row(at);
    ptx::copy_async_commit();
    ptx::copy_async_wait<0>();
    aim_k(last_);
#pragma unroll 1
    for (uint32_t i = 0; i < slots; ++i) {
      Begins begin;
      find(begin);
      request(begin);
    }
  }

  // In the order of AttnLoad::tile: keys of the last tile, then of each tile before the values behind them.
  __device__ __forceinline__ void load_k(const KeyRing& ring, uint32_t to, int32_t at) {
    if constexpr (Cfg::new_keys)
      if (this->is_new(at)) this->template load_new<K::boxes>(ring, to, &p_.k_new, at);
    load<K>(ring, to, this->is_new(at));
  }
  __device__ __forceinline__ void load_v(const KeyRing& ring, uint32_t to, int32_t at) {
    if constexpr (Cfg::new_keys)
      if (this->is_new(at)) this->template load_new<V::boxes>(ring, to, &p_.v_new, at);
    load<V>(ring, to, this->is_new(at));
  }
  __device__ void look_ahead(int32_t) const {}
  __device__ void finish() const {}

 private:
  __device__ static bool has_row() { return threadIdx.x % 32 < rows; }
  // Where the warp's entries of the page table lie for tile `at`, of which four are kept.
  __device__ uint32_t entries(int32_t at) const { return tables_ + 3 * table_bytes + (at & 3) * entries_bytes; }
  __device__ __forceinline__ void request_row(int32_t at) {
    if (has_row()) Source::request_row(at, entries(at));
  }

  // What is requested from now on. Every lane says where its row's key and value begin; null: it does not exist.
  // A tile's values are requested after the next one's keys. The page table's entries come three tiles ahead, by
  // copies too: whoever arrives at a barrier waits for loads that are on their way, but not for copies. They are
  // complete when four passes were requested after them, of which each has a slot.
  __device__ __forceinline__ void aim_k(int32_t at) {
    __syncwarp();  // all lanes have requested the keys before, and waited for their entries
    if (has_row()) {
      const UpcastRow row = Source::next_row(at, entries(at));
      Source::request_row(at - 3, entries(at - 3));
      const auto begin = [&](const AttnPageRows& tensor) {
        const uint64_t place = reinterpret_cast<uint64_t>(tensor.base) + head_ * tensor.head +
                               row.page * tensor.page + row.token * tensor.token;
        return row.exists ? place : 0;
      };
      ptx::store_shared_u64(tables_ + threadIdx.x % 32 * 8, begin(p_.k_rows));
      ptx::store_shared_u64(value_table(at) + threadIdx.x % 32 * 8, begin(p_.v_rows));
    }
    __syncwarp();
    at_ = at, is_v_ = false, begins_ = tables_, end_column_ = p_.qk_columns;
  }
  __device__ __forceinline__ void aim_v(int32_t at) {
    at_ = at, is_v_ = true, begins_ = value_table(at), end_column_ = p_.v_columns;
  }
  __device__ uint32_t value_table(int32_t at) const { return tables_ + (at % 2 + 1) * table_bytes; }

  using Begins = uint64_t[K::in_pass > V::in_pass ? K::in_pass : V::in_pass];
  // Of the part that is requested next: where its rows begin, which only request() changes.
  __device__ __forceinline__ void find(Begins& begin) const { visit_part<false>(begin); }
  // The part, to the slot that was converted last; nothing, behind the first tile's values.
  __device__ __forceinline__ void request(Begins& begin) {
    if (at_ >= first_) {
      visit_part<true>(begin);
      if (++pass_ == (is_v_ ? V::passes : K::passes)) {
        pass_ = 0;
        if (is_v_ ? at_ - 2 >= first_ : at_ == last_ && at_ > first_)
          aim_k(at_ - (is_v_ ? 2 : 1));
        else
          aim_v(is_v_ ? at_ - 1 : min(at_ + 1, last_));
      }
    }
    ptx::copy_async_commit();
    slot_ = slot_ + 1 == slots ? 0 : slot_ + 1;
  }
  // copies: else finds.
  template <bool copies>
  __device__ __forceinline__ void visit_part(Begins& begin) const {
    if (K::wide == V::wide || !is_v_)
      visit_part_of<K, copies>(begin);
    else
      visit_part_of<V, copies>(begin);
  }
  template <class T, bool copies>
  __device__ __forceinline__ void visit_part_of(Begins& begin) const {
    if (T::passes == 1 || pass_ == 0)
      visit_chunks<T, 0, copies>(begin);
    else
      visit_chunks<T, 1 % T::passes, copies>(begin);
  }
  template <class T, uint32_t pass, bool copies>
  __device__ __forceinline__ void visit_chunks(Begins& begin) const {
#pragma unroll
    for (uint32_t i = 0; i < T::in_pass; ++i) {
      const uint32_t chunk = pass * T::in_pass + i;
      if (chunk >= T::chunks || !T::has_row(chunk)) continue;
      if constexpr (copies) {
        const uint32_t column = (T::lane_box() + T::box(chunk)) * attn_box_columns + threadIdx.x % 4 * 16;
        ptx::copy_async_b128(raw_chunk<T>(i), reinterpret_cast<const uint8_t*>(begin[i]) + column,
                             begin[i] != 0 && column < end_column_ ? 16 : 0);
      } else {
        begin[i] = ptx::load_shared_u64(begins_ + (T::lane_row() + T::row(chunk)) * 8);
      }
    }
  }
  // Of the slot that is converted next, and then requested.
  template <class T>
  __device__ __forceinline__ uint32_t raw_chunk(uint32_t i) const {
    return raw_ + slot_ * slot_bytes + T::lane_place() + i * (128 * 16);
  }

  template <class T>
  __device__ __forceinline__ void convert(uint32_t to, uint32_t chunk, uint4 codes) const {
    if (!T::has_row(chunk) || T::lane_box() + T::box(chunk) >= T::boxes) return;
    // Of rows that a chunk adds, those below eight are no bits of the lane's: the swizzle's can be added later.
    const uint32_t first = attn_chunk_offset(Cfg::block_n, threadIdx.x % 128 / 32 * rows + T::lane_row(),
                                             T::lane_box() * 8 + threadIdx.x % 4 * 2);
    upcast_chunk<attn_operand_dtype<Cfg>>(
        codes, (to + first ^ T::row(chunk) % 8 * 16) + (T::box(chunk) * Cfg::block_n + T::row(chunk)) * attn_row_bytes,
        false);
  }

  // A tile that was requested, unless it is new: then zeros were. The last part's slot is requested once the tile is
  // announced. Nobody requests before all lanes have read the slot: keys and values may divide it differently.
  template <class T>
  __device__ __forceinline__ void load(const KeyRing& ring, uint32_t to, bool is_new) {
    Begins begin;
#pragma unroll
    for (uint32_t pass = 0; pass < T::passes; ++pass) {
      if (pass > 0) {
        __syncwarp();
        find(begin);
        request(begin);
      }
      ptx::copy_async_wait<slots - 1>();
      if (!is_new) convert_pass<T>(ring, to, pass);
    }
    find(begin);  // in front of the fence, which waits for as long
    if (!is_new) ptx::fence_proxy_async();
    __syncwarp();
    if (!is_new && threadIdx.x % 32 == 0) ptx::mbarrier_arrive(ring.full());
    request(begin);
  }
  // All chunks are read before the first is converted, and before the wait for where they go.
  template <class T>
  __device__ __forceinline__ void convert_pass(const KeyRing& ring, uint32_t to, uint32_t pass) const {
    constexpr uint32_t ahead = T::in_pass < 7 ? T::in_pass : 7;
    uint4 codes[T::in_pass];
#pragma unroll
    for (uint32_t i = 0; i < ahead; ++i) codes[i] = ptx::load_shared_b32x4(raw_chunk<T>(i));
    if (pass == 0) ring.wait_empty();
#pragma unroll
    for (uint32_t i = 0; i < T::in_pass; ++i) {
      if (pass * T::in_pass + i < T::chunks) convert<T>(to, pass * T::in_pass + i, codes[i]);
      if (i + ahead < T::in_pass) codes[i + ahead] = ptx::load_shared_b32x4(raw_chunk<T>(i + ahead));
    }
  }

  int32_t first_, last_;  // tiles
  uint32_t tables_;       // of the warp, in shared memory: where a tile's keys begin, two tiles' values
  uint32_t raw_;          // the first slot, of the warp
  int32_t at_;            // what is requested next
  bool is_v_;
  uint32_t begins_, end_column_;  // of that: where its rows begin, in shared memory
  uint32_t pass_ = 0, slot_ = 0;
};

}  // namespace dgrt
