// Attention of up to 16 rows of queries over a paged cache, as attn_paged.cuh, by teams of warps that know nothing
// of each other until a unit ends: each has a part of every tile's keys, which it alone loads, and a maximum, sums
// and output of its own. No barrier but a warp's is in the loop, so that a few warps hide each other's latency.
//
// Roles     a team is one warp; with split_v it is two, which compute the same scores and hold half of o's
//           columns each.
// Pipeline  `stages` slots of keys and values, each team at its own pace; tiles of the next unit are on their way
//           while a unit ends. The slot of a unit's last tile is where its teams' outputs meet.
// Split     key_split.cuh says which keys; attn_parts.cuh adds up what was split.
// e4m3      becomes fp16 in registers, exactly (team_product.cuh), bf16 queries become fp16 too (fp16_queries.cuh).
// Clusters  key_cluster.cuh: CTAs that share a head of a small batch add up their parts in shared memory.
#pragma once
#include "device/main_loop/attn_parts.cuh"
#include "device/main_loop/fp16_queries.cuh"
#include "device/main_loop/paged_load.cuh"
#include "device/main_loop/paged_rows.cuh"
#include "device/mma/team_product.cuh"
#include "device/ptx/grid.cuh"
#include "device/sched/key_cluster.cuh"

namespace dgrt {

template <class Cfg>
struct AttnTeamsSmem {
  static constexpr AttnPagedConfig config{Cfg::block_m, Cfg::block_n,  Cfg::head_dim_qk, Cfg::head_dim_v, Cfg::stages,
                                          Cfg::split_v, Cfg::kv_bytes, Cfg::ctas_per_sm, Cfg::cluster};
  static constexpr uint32_t q_bytes = attn_paged_q_bytes(config);
  static constexpr uint32_t stage_bytes = attn_paged_stage_bytes(config);
  static constexpr uint32_t k_row_bytes = Cfg::head_dim_qk * Cfg::kv_bytes;
  static constexpr uint32_t v_row_bytes = Cfg::head_dim_v * Cfg::kv_bytes;
  static constexpr uint32_t rows_offset = q_bytes + Cfg::stages * stage_bytes;
  static constexpr uint32_t factors_offset = rows_offset + (attn_teams + 1) * Cfg::block_m * 8;
  static constexpr uint32_t scratch_offset = rows_offset + attn_paged_rows_bytes(config);
  static constexpr uint32_t num_threads = attn_teams * Cfg::split_v * 32;
  static constexpr uint32_t keys = Cfg::block_n / attn_teams;          // of a team
  static constexpr uint32_t columns = Cfg::head_dim_v / Cfg::split_v;  // of o, per warp

  uint32_t base;

  __device__ uint32_t q() const { return base; }
  __device__ uint32_t slot(uint32_t slot) const { return base + q_bytes + slot * stage_bytes; }
  __device__ uint32_t k(uint32_t slot) const { return this->slot(slot); }
  __device__ uint32_t v(uint32_t slot) const { return k(slot) + Cfg::block_n * k_row_bytes; }
  // Maximum and sum of a team's row; team attn_teams: of all.
  __device__ uint32_t statistics(uint32_t team, uint32_t row) const {
    return base + rows_offset + (team * Cfg::block_m + row) * 8;
  }
  // What scores of a row, and what sums of values are multiplied by.
  __device__ uint32_t score_factor(uint32_t row) const { return base + factors_offset + row * 8; }
  __device__ uint32_t value_factor(uint32_t row) const { return score_factor(row) + 4; }
  __device__ uint32_t scratch() const { return base + scratch_offset; }
};

// Rows of queries, by a warp each, to packed rows. Rows that do not exist are zeros.
template <class Cfg>
struct TeamQueries {
  using Smem = AttnTeamsSmem<Cfg>;
  static constexpr bool scaled = Cfg::kv_bytes == 1 && Cfg::dtype != dtype_fp16;
  static constexpr uint32_t chunks = Cfg::head_dim_qk / 8, per_lane = ceil_div(chunks, 32);
  static constexpr uint32_t warps = Smem::num_threads / 32, rows = Cfg::block_m / warps;

  uint4 values[rows][per_lane];

  __device__ __forceinline__ void load(const AttnPagedParams& p, const KeySegment& s) {
    const auto* q = static_cast<const uint16_t*>(p.q) +
                    static_cast<uint64_t>(s.q_begin + s.first_token) * p.q_token + s.first_head * p.q_head;
#pragma unroll
    for (uint32_t i = 0; i < rows; ++i) {
      const uint32_t row = i * warps + threadIdx.x / 32;
      const uint32_t token = token_of_row(row, p.row_scale), head = row - token * p.tile_heads;
      const bool exists = token < s.tokens(p) && head < s.heads;
#pragma unroll
      for (uint32_t j = 0; j < per_lane; ++j) {
        const uint32_t chunk = j * 32 + threadIdx.x % 32;
        values[i][j] = make_uint4(0, 0, 0, 0);
        if (exists && chunk * 8 < p.qk_columns)
          values[i][j] = ptx::load_stream_b32x4(q + token * p.q_token + head * p.q_head + chunk * 8);
      }
    }
  }

  __device__ __forceinline__ void store(const Smem& smem) {
#pragma unroll
    for (uint32_t i = 0; i < rows; ++i) {
      const uint32_t row = i * warps + threadIdx.x / 32;
      if constexpr (scaled) scale_row(values[i], smem.score_factor(row));
#pragma unroll
      for (uint32_t j = 0; j < per_lane; ++j) {
        const uint32_t chunk = j * 32 + threadIdx.x % 32;
        if (chunks % 32 == 0 || chunk < chunks) store_chunk(smem.q(), row, chunk, values[i][j]);
      }
    }
  }

 private:
  __device__ __forceinline__ void scale_row(uint4 (&row)[per_lane], uint32_t factor_to) const {
    uint32_t most = 0;
#pragma unroll
    for (const uint4& x : row) most = max(most, Fp16Row::max_magnitude(x));
    const Fp16Row to(ptx::redux_max_u32(most));
#pragma unroll
    for (uint4& x : row) x = to.convert(x);
    if (threadIdx.x % 32 == 0) ptx::store_shared_f32(factor_to, to.factor);
  }

  // Of 16 columns, a thread's fragment of e4m3 has four that lie side by side: pairs of even places first.
  static __device__ __forceinline__ void store_chunk(uint32_t q, uint32_t row, uint32_t chunk, uint4 x) {
    if constexpr (Cfg::kv_bytes == 2) {
      ptx::store_shared_b32x4(q + packed_chunk_offset(chunks, row, chunk), x);
    } else {
      const uint32_t half = chunk % 2, even = packed_chunk_offset(chunks, row, chunk - half);
      const uint32_t odd = packed_chunk_offset(chunks, row, chunk - half + 1);
      ptx::store_shared_b32x2(even + q + half * 8, make_uint2(x.x, x.z));
      ptx::store_shared_b32x2(odd + q + half * 8, make_uint2(x.y, x.w));
    }
  }
};

template <class Cfg>
struct AttnTeams {
  using Smem = AttnTeamsSmem<Cfg>;
  static constexpr bool fp16 = Cfg::dtype == dtype_fp16 || Cfg::kv_bytes == 1;
  static constexpr int lift = fp16 ? fp16_weight_lift : 0;  // weights are up to 2^lift
  using Product = TeamProduct<fp16, Cfg::kv_bytes, Smem::keys>;
  using Given = MaskReader<Cfg, Smem::keys>;
  static constexpr uint32_t query_steps = Cfg::head_dim_qk / 16;
  static constexpr bool holds_queries = attn_teams_hold_queries(Smem::config);

  const AttnPagedParams& p;
  const Smem smem;
  uint32_t load_slot = Cfg::stages - 1;  // the loader's first call loads nothing
  uint32_t queries[holds_queries ? query_steps : 1][4];
  float logit[2], cap[2];  // as PagedScales, of a thread's two rows
  float o[Smem::columns / 2];

  __device__ AttnTeams(const AttnPagedParams& p, const Smem& smem) : p(p), smem(smem) {}

  // Computed where they are needed: registers are dear. part: of o's columns.
  __device__ static uint32_t team() { return threadIdx.x / 32 / Cfg::split_v; }
  __device__ static uint32_t part() { return threadIdx.x / 32 % Cfg::split_v; }
  // This thread's first of the tile; the other is 8 below.
  __device__ static uint32_t own_row() { return threadIdx.x % 32 / 4; }

  __device__ static uint32_t after(uint32_t slot) { return slot + 1 == Cfg::stages ? 0 : slot + 1; }

  template <class Loader>
  __device__ __forceinline__ void issue_load(Loader& loader) {
    loader.issue(smem.k(load_slot), smem.v(load_slot));
    load_slot = after(load_slot);
  }

  // What a team's warps loaded is there for both, and both are done with the tile before.
  __device__ __forceinline__ void meet_team() const {
    if constexpr (Cfg::split_v == 1)
      __syncwarp();
    else
      ptx::named_barrier_sync(2 + team(), Cfg::split_v * 32);
  }

  __device__ __forceinline__ void begin_segment(const KeySegment& segment, const PagedScales& scales) {
    TeamQueries<Cfg> loaded;
    loaded.load(p, segment);
    loaded.store(smem);
    __syncthreads();
    if constexpr (holds_queries)
#pragma unroll
      for (uint32_t step = 0; step < query_steps; ++step)
        Product::template load_query<Cfg::head_dim_qk>(queries[step], smem.q(), step);
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      const float factor = TeamQueries<Cfg>::scaled ? ptx::load_shared_f32(smem.score_factor(own_row() + i * 8)) : 1.0f;
      constexpr float least = 1.17549435e-38f;  // as good as 0, which times minus infinity were NaN
      logit[i] = Cfg::softcap ? scales.logit : fmaxf(scales.logit * factor, least);
      cap[i] = scales.cap * factor;
    }
  }

  // The team's keys of the oldest tile that was loaded, of which `first` is the first.
  template <class Loader>
  __device__ __forceinline__ void attend(Loader& loader, int32_t first, const PagedMask& mask, Given& given,
                                         OnlineSoftmax& softmax) {
    given.load(first);  // while the tile's keys are still on their way
    ptx::copy_async_wait<Cfg::stages - 2>();
    meet_team();
    issue_load(loader);
    const uint32_t slot = load_slot;  // the oldest load's place is the next one's
    float s[Smem::keys / 2];
    Product::template scores<Cfg::head_dim_qk>(
        s, smem.k(slot) + team() * Smem::keys * Smem::k_row_bytes, [&](uint32_t step, uint32_t(&a)[4]) {
          if constexpr (holds_queries) {
#pragma unroll
            for (uint32_t i = 0; i < 4; ++i) a[i] = queries[step][i];
          } else {
            Product::template load_query<Cfg::head_dim_qk>(a, smem.q(), step);
          }
        });
    if constexpr (Cfg::softcap)
#pragma unroll
      for (uint32_t i = 0; i < Smem::keys / 2; ++i) s[i] = tanh_f32(s[i] * cap[i / 2 % 2]);
    mask.apply(p, s, own_row(), first);
    given.apply(s, first);
    float rescale[2];
    softmax.update<lift>(s, logit, rescale);
    if (__any_sync(0xffffffff, rescale[0] != 1.0f || rescale[1] != 1.0f))
#pragma unroll
      for (uint32_t i = 0; i < Smem::columns / 2; ++i) o[i] *= rescale[i / 2 % 2];
    uint32_t weights[Smem::keys / 4];
#pragma unroll
    for (uint32_t i = 0; i < Smem::keys / 4; ++i)
      weights[i] = ptx::pack_half2<fp16 ? dtype_fp16 : dtype_bf16>(s[2 * i], s[2 * i + 1]);
    Product::template add_output<Cfg::head_dim_v, Smem::columns>(
        o, weights, smem.v(slot) + team() * Smem::keys * Smem::v_row_bytes + part() * Smem::columns * Cfg::kv_bytes);
  }

  // ---- A unit's, or a part's end ----

  // Columns of each part that meet at a time: as many as one slot has room for.
  static constexpr uint32_t room = Smem::stage_bytes / (attn_teams * Cfg::block_m * 4) / Cfg::split_v;
  static __device__ constexpr uint32_t meeting_columns() {
    for (uint32_t passes = 1;; ++passes)
      if (Smem::columns % (passes * 16) == 0 && Smem::columns / passes <= room) return Smem::columns / passes;
  }
  static constexpr uint32_t meeting = meeting_columns();

  __device__ static uint32_t meeting_chunk(uint32_t at, uint32_t team, uint32_t part, uint32_t row, uint32_t chunk) {
    return at + ((part * attn_teams + team) * Cfg::block_m) * meeting * 4 +
           packed_chunk_offset(meeting / 4, row, chunk);
  }

  // Columns [first, first + meeting) of the thread's rows, to `at`.
  template <uint32_t first>
  __device__ __forceinline__ void store_meeting(uint32_t at, const bool (&exists)[2]) const {
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      if (!exists[i]) continue;
      const uint32_t lane = threadIdx.x % 4;
#pragma unroll
      for (uint32_t column = 0; column < meeting; column += 16) {
        const float* from = o + (first + column) / 2 + i * 2;
        if constexpr (Cfg::kv_bytes == 1) {  // even columns, then odd ones
          ptx::store_shared_f32x4(meeting_chunk(at, team(), part(), own_row() + i * 8, column / 4 + lane),
                                  make_float4(from[0], from[4], from[1], from[5]));
        } else {
#pragma unroll
          for (uint32_t j = 0; j < 2; ++j)
            ptx::store_shared_f32x2(
                meeting_chunk(at, team(), part(), own_row() + i * 8, column / 4 + j * 2 + lane / 2) + lane % 2 * 8,
                make_float2(from[j * 4], from[j * 4 + 1]));
        }
      }
    }
  }

  // Eight columns of a row of those that meet.
  struct Place {
    static constexpr uint32_t groups = meeting / 8, of_row = groups * Cfg::split_v;

    uint32_t row, part, group;

    __device__ explicit Place(uint32_t i) : row(i / of_row), part(i / groups % Cfg::split_v), group(i % groups) {}
    __device__ uint32_t column(uint32_t first) const { return part * Smem::columns + first + group * 8; }
    __device__ uint32_t chunk(uint32_t at, uint32_t team, uint32_t half) const {
      return meeting_chunk(at, team, part, row, group * 2 + half);
    }
  };

  __device__ __forceinline__ void store_columns(const AttnRow& to, uint32_t column, const float4 (&x)[2],
                                                float factor) const {
    if (column >= p.v_columns) return;
    ptx::store_b32x4(static_cast<uint16_t*>(p.o) + to.token * p.o_token + to.head * p.o_head + column,
                     make_uint4(ptx::pack_half2<Cfg::dtype>(x[0].x * factor, x[0].y * factor),
                                ptx::pack_half2<Cfg::dtype>(x[0].z * factor, x[0].w * factor),
                                ptx::pack_half2<Cfg::dtype>(x[1].x * factor, x[1].y * factor),
                                ptx::pack_half2<Cfg::dtype>(x[1].z * factor, x[1].w * factor)));
  }

  // What all teams have of the columns that meet: to o, to the part's slot, or where the first team's was.
  __device__ __forceinline__ void add_teams(const KeySegment& segment, uint32_t at, uint32_t first) const {
    const uint32_t rows = segment.tokens(p) * p.tile_heads;
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < rows * Place::of_row; i += Smem::num_threads) {
      const Place place(i);
      const AttnRow to(p, segment, place.row);
      if (!to.exists) continue;
      float4 sum[2] = {};
#pragma unroll
      for (uint32_t j = 0; j < attn_teams; ++j)
#pragma unroll
        for (uint32_t half = 0; half < 2; ++half)
          sum[half] = plus(sum[half], ptx::load_shared_f32x4(place.chunk(at, j, half)));
      if constexpr (Cfg::cluster > 1) {
#pragma unroll
        for (uint32_t half = 0; half < 2; ++half) ptx::store_shared_f32x4(place.chunk(at, 0, half), sum[half]);
        continue;
      }
      const float factor = ptx::load_shared_f32(smem.value_factor(place.row));
      if (segment.parts == 1) {
        store_columns(to, place.column(first), sum, factor);
        continue;
      }
      float* values = PartSlots<Cfg>::values(p, segment.slot_of(segment.part)) + place.row * Cfg::head_dim_v +
                      place.column(first);
#pragma unroll
      for (uint32_t half = 0; half < 2; ++half)
        ptx::store_f32x4(values + half * 4, make_float4(sum[half].x * factor, sum[half].y * factor,
                                                        sum[half].z * factor, sum[half].w * factor));
    }
  }

  // The same of all CTAs of the cluster, by each a part of it.
  __device__ __forceinline__ void add_ctas(const KeySegment& segment, const PagedScales& scales, uint32_t at,
                                           uint32_t first) const {
    const uint32_t rows = segment.tokens(p) * p.tile_heads;
#pragma unroll 1
    for (uint32_t i = ptx::cluster_cta_rank() * Smem::num_threads + threadIdx.x; i < rows * Place::of_row;
         i += Cfg::cluster * Smem::num_threads) {
      const Place place(i);
      const AttnRow to(p, segment, place.row);
      if (!to.exists) continue;
      float2 statistics[Cfg::cluster];
      float4 values[Cfg::cluster][2];
#pragma unroll
      for (uint32_t j = 0; j < Cfg::cluster; ++j) {
        statistics[j] = ptx::load_cluster_f32x2(ptx::mapa(smem.statistics(attn_teams, place.row), j));
#pragma unroll
        for (uint32_t half = 0; half < 2; ++half)
          values[j][half] = ptx::load_cluster_f32x4(ptx::mapa(place.chunk(at, 0, half), j));
      }
      MergedColumns<8> merged;
      merged.add(statistics, values);
      const uint32_t column = place.column(first);
      const float factor =
          scales.value * close_row(p, to.token, to.head, merged.sum, merged.most, column == 0);
      const auto& o = merged.o;
      store_columns(to, column, {make_float4(o[0], o[1], o[2], o[3]), make_float4(o[4], o[5], o[6], o[7])}, factor);
    }
  }

  // Scales o by what this team counts beside the others. One thread of a row closes it, or leaves the part's
  // maximum and sum.
  __device__ __forceinline__ void weigh_team(const KeySegment& segment, const PagedScales& scales,
                                             const OnlineSoftmax& softmax, const bool (&exists)[2]) {
    float most[2], weight[2];
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      const float sum = row_sum(softmax.sum[i]);
      most[i] = softmax.max[i] * logit[i] - lift;
      if (part() == 0 && threadIdx.x % 4 == 0)
        ptx::store_shared_f32x2(smem.statistics(team(), own_row() + i * 8), make_float2(most[i], sum));
    }
    __syncthreads();  // and all teams are done with the slot
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      float2 of_team[attn_teams];
      float top = -ptx::infinity(), total = 0.0f;
#pragma unroll
      for (uint32_t j = 0; j < attn_teams; ++j) {
        of_team[j] = ptx::load_shared_f32x2(smem.statistics(j, own_row() + i * 8));
        top = fmaxf(top, of_team[j].x);
      }
      const float shift = top == -ptx::infinity() ? 0.0f : top;
#pragma unroll
      for (uint32_t j = 0; j < attn_teams; ++j) total += ptx::ex2_approx_f32(of_team[j].x - shift) * of_team[j].y;
      weight[i] = ptx::ex2_approx_f32(most[i] - shift);
      if (threadIdx.x >= 32 || threadIdx.x % 4 != 0 || !exists[i]) continue;
      if constexpr (Cfg::cluster > 1) {
        ptx::store_shared_f32x2(smem.statistics(attn_teams, own_row() + i * 8), make_float2(top, total));
        continue;
      }
      float factor = scales.value;
      if (segment.parts > 1) {
        ptx::store_f32x2(PartSlots<Cfg>::statistics(p, segment.slot_of(segment.part), own_row() + i * 8, false),
                         make_float2(top, total));
      } else {
        const AttnRow to(p, segment, own_row() + i * 8);
        factor *= close_row(p, to.token, to.head, total, top, true);
      }
      ptx::store_shared_f32(smem.value_factor(own_row() + i * 8), factor);
    }
#pragma unroll
    for (uint32_t i = 0; i < Smem::columns / 2; ++i) o[i] *= weight[i / 2 % 2];
  }

  __device__ static void meet_cluster() {
    __syncwarp();  // lanes had unequal loops
    ptx::cluster_arrive();
    ptx::cluster_wait();
  }

  template <uint32_t first = 0>
  __device__ __forceinline__ void join_teams(const KeySegment& segment, const PagedScales& scales, uint32_t at,
                                             const bool (&exists)[2]) const {
    if (first > 0 && Cfg::cluster <= 1) __syncthreads();  // the columns before are read
    store_meeting<first>(at, exists);
    __syncthreads();
    add_teams(segment, at, first);
    if constexpr (Cfg::cluster > 1) {
      meet_cluster();
      add_ctas(segment, scales, at, first);
      meet_cluster();  // all have read
    }
    if constexpr (first + meeting < Smem::columns) join_teams<first + meeting>(segment, scales, at, exists);
  }

  __device__ __forceinline__ void finish(const KeySegment& segment, const PagedScales& scales,
                                         const OnlineSoftmax& softmax) {
    const bool exists[2] = {AttnRow(p, segment, own_row()).exists, AttnRow(p, segment, own_row() + 8).exists};
    weigh_team(segment, scales, softmax, exists);
    join_teams(segment, scales, smem.slot(load_slot), exists);  // where the next load goes: nobody reads it any more
    if constexpr (Cfg::cluster == 0)
      if (segment.parts > 1) gather_parts<Cfg, Smem::num_threads>(p, segment, smem.scratch());
  }

  __device__ __forceinline__ void run() {
    if constexpr (Cfg::cluster == 0)
      run(KeyWalk<Cfg>(p, find_range<Cfg, Smem::num_threads>(p, smem.scratch())));
    else
      run(ClusterWalk<Cfg>(p));
  }

  template <class Walk>
  __device__ __forceinline__ void run(const Walk& walk) {
    PagedLoader<Cfg, Smem::num_threads, Walk> loader(p, walk, smem.scratch() + attn_paged_scratch_bytes);
#pragma unroll 1
    for (uint32_t i = 0; i < Cfg::stages; ++i) issue_load(loader);
#pragma unroll 1
    for (uint32_t index = 0; index < loader.num_segments(); ++index) {
      __syncthreads();  // the segment is there; nobody reads the queries, or the slot, of the one before
      KeySegment segment;
      segment.load(loader.segment_at(index));
      const PagedMask mask(p, segment);
      Given given = given_mask<Cfg, Smem::keys>(p, segment, own_row());
      PagedScales scales(p);
      if constexpr (Cfg::kv_bytes == 1) scales.template add_head<Cfg::softcap>(p, segment.kv_head);
      begin_segment(segment, scales);
      OnlineSoftmax softmax;
#pragma unroll
      for (float& x : o) x = 0.0f;
#pragma unroll 1
      for (int32_t tile = segment.begin; tile < segment.end; ++tile)
        attend(loader, tile * static_cast<int32_t>(Cfg::block_n) + static_cast<int32_t>(team() * Smem::keys), mask,
               given, softmax);
      segment.load(loader.segment_at(index));  // again: no registers for it meanwhile
      finish(segment, scales, softmax);
    }
  }
};

// The whole kernel, as run_attn_paged.
template <class Cfg>
__device__ void run_attn_paged_teams(const AttnPagedParams& p) {
  using Smem = AttnTeamsSmem<Cfg>;
  static_assert(Cfg::block_m == attn_team_rows, "rows of one product");
  static_assert(Cfg::stages >= 2, "a tile is loaded while one is used");
  static_assert(Cfg::head_dim_qk % 16 == 0 && Smem::columns % 16 == 0, "whole steps");
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  check_table<Cfg>(p);
  AttnTeams<Cfg>(p, Smem{ptx::dynamic_shared_address()}).run();
}

}  // namespace dgrt
