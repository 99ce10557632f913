// topk_transform, host side: what is accepted, how many CTAs share a row and how much of it each holds, how a
// call is launched.
#include <algorithm>
#include <cmath>

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
  // On one SM, by registers: below 64, with 8 keys below 32 (tests/compile checks), or by shared memory: of 256 threads
  // that stream, and of 64.
  uint32_t resident_blocks() const {
    if (streamed && threads == 256) return 3;
    if (threads == 64) return 13;
    return (items_per_thread == 8 ? 2048 : 1024) / threads;
  }
  // With one CTA on an SM. A cluster is within a GPC: by times of H100, 15 of 8 CTAs run at once on 132 SMs, so 30 of 4
  // do; of 33, the last ones began when others had done all of their rows.
  uint32_t clusters_side_by_side() const {
    const uint32_t eights = sm_count / 8;
    return cluster >= 4 && eights > 1 ? (eights - 1) * 8 / cluster : std::max(sm_count / cluster, 1u);
  }
  uint32_t clusters_at_once() const { return clusters_side_by_side() * resident_blocks(); }
  int64_t chunk() const { return k90::chunk_items(threads, items_per_thread); }
  uint32_t warps() const { return threads / 32; }
  // Unless streamed, if a CTA's part of it is more than the CTA holds.
  bool is_read_again(int64_t part) const { return streamed == 0 && part > chunk(); }
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
    configs.push_back(config(64, 32, 1, 0));
    configs.push_back(config(128, 32, 1, 0));
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
    return invalid("threads={} items_per_thread={} cluster={} streamed={}: must be 64 x 32, 128 x 32, 256 x 8 or "
                   "256 x 32, 256 x 16 streamed, or, with clusters of 1, 2, 4 or 8, 512 x 32 or 1024 x 32, or 512 x 16 or "
                   "1024 x 16 streamed",
                   c["threads"], c["items_per_thread"], c["cluster"], c["streamed"]);
  }

  // The longer of device memory and of what SMs do, with a part of the other one, which is not hidden behind it. SMs
  // work in rounds of rows that are worked on at once: a round is the chain of one row's barriers and of one thread's
  // scores, then the instructions of all rows on an SM.
  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
    const Shape s = Shape::of(target, c);
    const int64_t rows = std::max<int64_t>(point[0], 1), columns = std::max<int64_t>(point[1], 1);
    const int64_t part = div_up(columns, s.cluster);
    const auto rounds = static_cast<double>(div_up(rows, s.clusters_at_once()));
    const auto on_an_sm = static_cast<double>(
        std::min<int64_t>(s.resident_blocks(), div_up(rows, s.clusters_side_by_side())));
    Row row = s.streamed ? streamed_row(d, s, part) : held_row(d, s, part);
    if (s.cluster > 1) row.chain_ns += cluster_ns + cluster_warp_ns * s.warps() + doubling_ns * std::log2(s.cluster);
    const double busy = rounds * (row.chain_ns + on_an_sm * row.issue_ns);
    const double row_bytes = static_cast<double>(columns) * 4;
    const auto at_once = static_cast<double>(std::min<int64_t>(rows, s.clusters_at_once()));
    const double passes = s.is_read_again(part) && at_once * row_bytes > l2_bytes ? 4 : 1;
    const double memory = static_cast<double>(rows) * row_bytes * passes / bytes_per_ns;
    const double ns = launch_ns + std::max(busy, memory) + unhidden * std::min(busy, memory);
    return static_cast<int64_t>(std::min(ns * 1000, 9e18));
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

  // Fitted to all configs of 31 calls: NVIDIA H100, CUDA 13.0, 2026-11-27. There picks are 0.1 % behind the fastest in
  // the mean, 1.9 % at worst (docs/notes).
  static constexpr double launch_ns = 6740, bytes_per_ns = 2860;  // launch: with what is loaded first
  static constexpr double l2_bytes = 40e6;  // of rows that are read again
  static constexpr double unhidden = 0.394;
  static constexpr double choice_ns = 1040, key_ns = 47;          // the chain of a choice; of each score of a thread
  static constexpr double slot_ns = 4;                            // of each that a thread could hold
  static constexpr double warp_ns = 65.8, issue_key_ns = 0.0184;  // issued for each warp and score of a choice
  static constexpr double stream_warp_ns = 16.2, stream_key_ns = 0.168;  // the same of streams
  static constexpr double taken_ns = 0.314;                              // issued for each position
  static constexpr double again_chunk_ns = 1790, again_key_ns = 0.218;  // of what is read again
  static constexpr double append_chunk_ns = 901, cut_ns = 2710;
  static constexpr double cluster_ns = 1420, cluster_warp_ns = 160, doubling_ns = 1470;

  struct Row {
    double chain_ns, issue_ns;
  };

  static Row held_row(const Desc& d, const Shape& s, int64_t part) {
    const auto held = static_cast<double>(std::min(part, s.chunk()));
    Row row = {choice_ns + slot_ns * s.items_per_thread + key_ns * held / s.threads,
               warp_ns * s.warps() + issue_key_ns * held + taken_issue_ns(d, s, part)};
    if (!s.is_read_again(part)) return row;
    row.chain_ns += again_chunk_ns * static_cast<double>(div_up(part, s.chunk()));
    row.issue_ns += again_key_ns * static_cast<double>(part);
    return row;
  }

  // Chosen among: the first chunk, the list at the end, and a full list, which each time is of about list / k - 1 times
  // as many scores as before, or of every chunk.
  static Row streamed_row(const Desc& d, const Shape& s, int64_t part) {
    const double room = k90::list_items(s.threads), top_k = static_cast<double>(d.top_k);
    const auto scores = static_cast<double>(part), chunk = static_cast<double>(s.chunk());
    const auto later_chunks = static_cast<double>(div_up(part, s.chunk()) - 1);
    const double growth = room / top_k - 1;
    const double cuts = growth < 1.01 ? later_chunks
                                      : std::min(later_chunks, std::log(std::max(scores / chunk, 1.0)) / std::log(growth));
    const double chosen = std::min(scores, chunk) + std::min(scores, room) + cuts * room;
    return {(2 + cuts) * choice_ns + key_ns * chosen / s.threads + cut_ns * cuts + append_chunk_ns * later_chunks,
            (2 + cuts) * stream_warp_ns * s.warps() + stream_key_ns * chosen + taken_issue_ns(d, s, part)};
  }

  static double taken_issue_ns(const Desc& d, const Shape& s, int64_t part) {
    return taken_ns * static_cast<double>(std::min(d.top_k, part)) / s.cluster;
  }
};

}  // namespace

DGRT_OP(TopkTransform, topk_transform);

}  // namespace dgrt
