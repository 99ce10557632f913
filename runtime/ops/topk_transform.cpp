// topk_transform, host side: what is accepted, how many CTAs share a row and how much of it each holds, how a
// call is launched.
#include <algorithm>

#include "dgrt/mla.h"
#include "mla/sm90_topk_transform.cuh"  // interface half: Params, smem_bytes()
#include "runtime/ops/sparse_common.h"
#include "runtime/ops/op.h"

namespace dgrt {
namespace {

namespace k90 = sm90::topk_transform;

// A decoded config, with what the target adds.
struct Shape {
  uint32_t threads, items_per_thread, cluster, streamed;
  uint32_t sm_count;

  static Shape of(const Target& target, const Config& c) {
    const auto get = [&](const char* name) { return static_cast<uint32_t>(c[name]); };
    return {get("threads"), get("items_per_thread"), get("cluster"), get("streamed"), target.sm_count};
  }
  // On one SM, by registers: below 64, with 8 keys below 32 (tests/compile checks), or by shared memory.
  uint32_t resident_blocks() const {
    if (streamed && threads == 256) return 3;
    return (items_per_thread == 8 ? 2048 : 1024) / threads;
  }
  uint32_t clusters_at_once() const { return std::max(sm_count * resident_blocks() / cluster, 1u); }
  int64_t chunk() const { return k90::chunk_items(threads, items_per_thread); }
};

struct TopkTransform {
  using Desc = dgrt_topk_transform_desc;
  using Args = dgrt_topk_transform_args;
  static constexpr uint32_t op_id = DGRT_OP_TOPK_TRANSFORM;
  static constexpr const char* op = "topk_transform";
  static constexpr const char* stem = "topk_transform";

  static bool matches(const Desc&) { return true; }

  static Status check_desc(const Desc& d) {
    if (d.top_k < 1 || d.top_k > k90::max_top_k)
      return invalid("top_k={}: must be 1 to {}", d.top_k, k90::max_top_k);
    DGRT_TRY(sparse::check_count("max_rows", d.max_rows, sparse::max_tokens));
    DGRT_TRY(sparse::check_count("max_columns", d.max_columns, sparse::max_size));
    return sparse::check_flags(op, d);
  }

  static std::vector<SelectorVar> selector(const Desc& d) {
    return {sparse::powers("rows", d.max_rows, 1, sparse::max_tokens),
            sparse::powers("columns", d.max_columns, 1024, sparse::max_size)};
  }

  static Config shape(const Desc& d) { return {{"top_k", d.top_k}}; }

  static std::vector<Config> candidates(const Desc&, const Target& target, const Point&) {
    std::vector<Config> configs;
    if (target.arch != "sm_90a") return configs;
    configs.push_back(config(256, 8, 1, 0));
    configs.push_back(config(256, 32, 1, 0));
    configs.push_back(config(256, 16, 1, 1));
    for (const int64_t cluster : {1, 2, 4, 8})
      for (const int64_t threads : {512, 1024}) {
        configs.push_back(config(threads, 32, cluster, 0));
        configs.push_back(config(threads, 16, cluster, 1));
      }
    return configs;
  }

  static Status check_config(const Desc& d, const Target& target, const Config& c) {
    DGRT_TRY(sparse::check_arch(op, target));
    const char* const names[] = {"threads", "items_per_thread", "cluster", "streamed"};
    for (const char* name : names)
      if (!c.find(name)) return invalid("{}: missing", name);
    for (const Config& known : candidates(d, target, {}))
      if (std::all_of(std::begin(names), std::end(names), [&](const char* name) { return known[name] == c[name]; }))
        return ok();
    return invalid("threads={} items_per_thread={} cluster={} streamed={}: must be 256 x 8 or 256 x 32, 256 x 16 "
                   "streamed, or, with clusters of 1, 2, 4 or 8, 512 x 32 or 1024 x 32, or 512 x 16 or 1024 x 16 "
                   "streamed",
                   c["threads"], c["items_per_thread"], c["cluster"], c["streamed"]);
  }

  // The largest of device memory and, in rounds of rows that are worked on at once, the chain of barriers of one row
  // and the instructions of all rows on an SM. Constants: NVIDIA H100, CUDA 13.0, 2026-11-27, fitted to all
  // configs of 18 calls; picks were 0.6 % behind the fastest in the mean, 4 % at worst. Those of streams are estimates.
  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
    const Shape s = Shape::of(target, c);
    const int64_t rows = std::max<int64_t>(point[0], 1), columns = std::max<int64_t>(point[1], 1);
    const int64_t part = div_up(columns, s.cluster);
    const bool is_read_again = !s.streamed && part > s.chunk();
    const int64_t passes = is_read_again ? 4 : 1;  // over memory
    const int64_t memory_ps =  // 4 bytes, 2.86 TB/s
        sparse::capped_product(sparse::capped_product(rows, columns) / 100, 140 * passes);
    const int64_t rounds = div_up(rows, s.clusters_at_once());
    int64_t row_ps = s.streamed ? stream_ps(d, s, part) : 3'050'000 + 1000 * s.threads + part * 225'900 / s.threads;
    if (is_read_again) row_ps += part * 212;
    if (s.cluster > 1) {
      const int64_t doublings = s.cluster == 2 ? 1 : s.cluster == 4 ? 2 : 3;
      row_ps += (1'860'000 + 4'090'000 * doublings) * (504 + s.threads / 2) / 1024;
      if (rounds > 1) row_ps += row_ps * 22 / 100;  // they wait for each other's loads
    }
    const int64_t issue_ps = part * (s.streamed ? 61 : 122) * s.resident_blocks();
    return 4'590'000 + std::max(memory_ps, sparse::capped_product(rounds, std::max(row_ps, issue_ps)));
  }

  static Instance instance(const Desc&, const Target& target, const Config& c) {
    const Shape s = Shape::of(target, c);
    Instance i;
    i.stem = stem;
    i.header = "mla/sm90_topk_transform.cuh";
    i.name_space = "dgrt::sm90::topk_transform";
    i.entry = fmt::format("sm90_topk_transform_{}x{}_c{}{}", s.threads, s.items_per_thread, s.cluster,
                          s.streamed ? "_stream" : "");
    i.arch = target.arch;
    i.cfg = c;
    i.num_threads = s.threads;
    i.min_blocks = s.resident_blocks();
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc&, const Config& c) {
    return k90::smem_bytes(static_cast<uint32_t>(c["threads"]), static_cast<uint32_t>(c["items_per_thread"]),
                           c["streamed"] != 0);
  }
  static Prepared prepare(const Desc&, const Target& target, const Config& c) {
    return Prepared::of(Shape::of(target, c));
  }

  static Point point(const Args& x) { return {x.rows, x.columns}; }

  static Status check_args(const Desc& d, const Args& x) {
    DGRT_TRY(sparse::check_within("rows", x.rows, "max_rows", d.max_rows));
    DGRT_TRY(sparse::check_within("columns", x.columns, "max_columns", d.max_columns));
    if (x.rows == 0) return ok();
    if (x.columns > 0) DGRT_TRY(check_pointer("scores", x.scores, 16));
    DGRT_TRY(sparse::check_stride("scores_row_stride", x.scores_row_stride, x.columns, 4));
    DGRT_TRY(check_pointer("lengths", x.lengths, 4));
    if (x.slots == nullptr && x.positions == nullptr)
      return invalid("slots, positions: one of them must point to device memory");
    if (x.positions != nullptr) {
      DGRT_TRY(check_pointer("positions", x.positions, 4));
      DGRT_TRY(sparse::check_stride("positions_row_stride", x.positions_row_stride, d.top_k));
    }
    if (x.slots == nullptr) return ok();
    DGRT_TRY(check_pointer("slots", x.slots, 4));
    DGRT_TRY(sparse::check_stride("slots_row_stride", x.slots_row_stride, d.top_k));
    DGRT_TRY(check_pointer("page_table", x.page_table, 4));
    DGRT_TRY(sparse::check_range("page_size", x.page_size, 1, sparse::max_tokens));
    DGRT_TRY(sparse::check_range("num_pages", x.num_pages, 0, sparse::max_tokens));
    return x.page_table_row_stride == 0
               ? ok()  // all rows have one table
               : sparse::check_stride("page_table_row_stride", x.page_table_row_stride, x.num_pages);
  }

  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver&, void*,
                     Launch* launch) {
    if (x.rows == 0) return ok();
    const Shape& s = prepared.as<Shape>();
    auto& p = launch->make_params<k90::Params>();
    p.scores = x.scores, p.lengths = x.lengths, p.page_table = x.page_table;
    p.slots = x.slots, p.positions = x.positions;
    p.score_row = static_cast<uint64_t>(x.scores_row_stride);
    p.page_table_row = static_cast<uint64_t>(x.page_table_row_stride);
    p.slot_row = static_cast<uint64_t>(x.slots_row_stride);
    p.position_row = static_cast<uint64_t>(x.positions_row_stride);
    p.num_rows = static_cast<uint32_t>(x.rows), p.num_columns = static_cast<uint32_t>(x.columns);
    p.num_pages = static_cast<uint32_t>(x.num_pages), p.top_k = static_cast<uint32_t>(d.top_k);
    if (x.slots != nullptr) p.page_size = k90::Divisor::of(static_cast<uint32_t>(x.page_size));
    launch->grid[0] = std::min(p.num_rows, s.clusters_at_once()) * s.cluster;
    launch->cluster[0] = s.cluster;
    launch->num_threads = s.threads;
    launch->smem_bytes = k90::smem_bytes(s.threads, s.items_per_thread, s.streamed != 0);
    launch->block_m = 1;
    launch->pdl = (d.flags & DGRT_FLAG_PDL) != 0;
    return ok();
  }

 private:
  static Config config(int64_t threads, int64_t items_per_thread, int64_t cluster, int64_t streamed) {
    return {{"threads", threads}, {"items_per_thread", items_per_thread}, {"cluster", cluster}, {"streamed", streamed}};
  }

  // Of one segment: a chunk that only appends costs half of what a choice among as many keys does. Choices: of the
  // first chunk and of the list at the end, and, where the list has little room, of the list with every chunk.
  static int64_t stream_ps(const Desc& d, const Shape& s, int64_t part) {
    const int64_t key_ps = 225'900, choice_ps = 1'500'000, room = k90::list_items(s.threads);
    const int64_t chunk_ps = s.items_per_thread * key_ps / 2, list_ps = std::min(part, room) * key_ps / s.threads;
    const int64_t cut_ps = 4 * d.top_k > room ? choice_ps + list_ps / 2 : 0;
    const int64_t chunks = div_up(part, s.chunk());
    return 3'050'000 + 1000 * s.threads + list_ps + choice_ps + chunk_ps + chunks * (chunk_ps + 200'000) +
           std::max<int64_t>(chunks - 2, 0) * cut_ps;
  }
};

}  // namespace

DGRT_OP(TopkTransform, topk_transform);

}  // namespace dgrt
