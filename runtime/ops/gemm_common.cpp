// Which tile configs are legal for a product and what their kernels are called. The cost model is in
// gemm_model.cpp, checks and launches of calls in gemm_call.cpp.
#include "runtime/ops/gemm_common.h"

#include <algorithm>
#include <numeric>

namespace dgrt::gemm {

namespace {

constexpr uint32_t max_stages = 32;
constexpr uint32_t min_stages = 3;            // fewer cannot hide a load behind two products
constexpr uint32_t fp32_store_bytes = 16384;  // buffers of each math warpgroup
constexpr uint32_t half_slab = 32;            // columns of the narrowest swapped tile
constexpr uint32_t max_accumulators = 128;    // fp32 registers per thread that a sum may take

GemmStore store_of(const Spec& spec, const GemmConfig& config) {
  return gemm_store(config, spec.is_direct());
}

uint32_t x_rows(const GemmConfig& c) { return c.swap_ab ? c.block_n : c.block_m; }
uint32_t y_rows(const GemmConfig& c) { return c.swap_ab ? c.block_m : c.block_n; }

uint32_t columns(const GemmConfig& c) { return y_rows(c) / c.warpgroups_n; }
uint32_t slabs(const GemmConfig& c) {
  return gemm_slabs(x_rows(c)) / (c.math_warpgroups / c.warpgroups_n);
}

// N of the wgmma wrappers that exist: kernels/device/ptx/gen_wgmma.py.
bool has_wgmma(uint32_t n) { return n == 8 || n == 24 || (n % 16 == 0 && n <= 256); }

// The most stages that fit beside the store, 0 if too few do.
uint32_t fitting_stages(const Spec& spec, GemmConfig config) {
  uint32_t fit = min_stages - 1, do_not = max_stages + 1;
  while (do_not - fit > 1) {
    config.stages = (fit + do_not) / 2;
    const bool is_small = spec.smem_bytes(config) * config.blocks_per_sm <= sm90_max_smem_bytes;
    (is_small ? fit : do_not) = config.stages;
  }
  return fit < min_stages ? 0 : fit;
}

// What the tile's shape alone decides.
Status check_shape(const Spec& spec, const GemmConfig& c) {
  if (c.block_m == 0 || c.block_n == 0 || c.block_m > 256 || c.block_n > 256)
    return invalid("block_m={} block_n={}: must be in 1..256", c.block_m, c.block_n);
  if (c.swap_ab > 1) return invalid("swap_ab={}: must be 0 or 1", c.swap_ab);
  if (c.math_warpgroups != 1 && c.math_warpgroups != 2)
    return invalid("math_warpgroups={}: must be 1 or 2", c.math_warpgroups);
  if (c.warpgroups_n != 1 &&
      (c.warpgroups_n != 2 || c.math_warpgroups != 2 || c.swap_ab || !spec.is_fp8()))
    return invalid("warpgroups_n={}: must be 1, or 2 for both warpgroups of an unswapped e4m3 tile",
                   c.warpgroups_n);
  const bool is_half_slab = c.swap_ab && c.block_n == half_slab && c.math_warpgroups == 1;
  if (is_half_slab && (spec.is_fp8() || spec.b_major == DGRT_MN_MAJOR))
    return invalid("block_n={}: needs a b of 16-bit type that is K_MAJOR (0)", c.block_n);
  if (!is_half_slab && x_rows(c) % (gemm_slab_rows * c.math_warpgroups / c.warpgroups_n) != 0)
    return invalid("{}={}: must be a multiple of 64 for each math warpgroup",
                   c.swap_ab ? "block_n" : "block_m", x_rows(c));
  if (!has_wgmma(columns(c)))
    return invalid("{}={}: no wgmma shape", c.swap_ab ? "block_m" : "block_n", y_rows(c));
  if (!c.swap_ab && columns(c) % gemm_store_columns(c.block_n, 2) != 0)
    return invalid("block_n={}: each warpgroup stores chunks of {} columns", c.block_n,
                   gemm_store_columns(c.block_n, 2));
  if (!c.swap_ab && c.block_n % 16 != 0)
    return invalid("block_n={}: must be a multiple of 16 (swizzled store)", c.block_n);
  // A tile's scales of b must come from two rows: its first column is any multiple of gcd(block_n,
  // 128).
  if (spec.scale_mode == DGRT_SCALE_BLOCK && !c.swap_ab &&
      columns(c) > 128 + std::gcd(columns(c), 128u))
    return invalid("block_n={}: would touch three rows of b's scales", c.block_n);
  if (spec.max_block_m != 0 && c.block_m > spec.max_block_m)
    return invalid("block_m={}: the desc's max_block_m is {}", c.block_m, spec.max_block_m);
  if (spec.max_block_n != 0 && c.block_n > spec.max_block_n)
    return invalid("block_n={}: the desc's max_block_n is {}", c.block_n, spec.max_block_n);
  if (spec.builds_maps() && c.math_warpgroups != 2)
    return invalid("math_warpgroups={}: must be 2, the warp that builds tensor maps comes with it",
                   c.math_warpgroups);
  if (spec.grouping == Grouping::contiguous && spec.alignment % c.block_m != 0)
    return invalid("block_m={}: must divide the alignment of groups, {}", c.block_m,
                   spec.alignment);
  return ok();
}

// Registers of a math warpgroup.
Status check_accumulators(const Spec& spec, const GemmConfig& c) {
  const uint32_t sums = slabs(c) * columns(c) / 2;
  const uint32_t all = sums + (spec.is_fp8() ? columns(c) / 2 : 0);
  // What is read beside the sums: scales by column, bias, or c, of which the store keeps many loads
  // in flight.
  uint32_t most = spec.is_fp8() ? 192 : max_accumulators;
  if (spec.scale_mode == DGRT_SCALE_CHANNEL) most = 128;
  if (spec.scale_mode == DGRT_SCALE_ROW) most = 160;
  if (spec.has(DGRT_GEMM_WITH_BIAS)) most = std::min(most, spec.is_fp8() ? 144u : 96u);
  if (store_of(spec, c) == GemmStore::fragments && spec.has(DGRT_GEMM_WITH_C) &&
      spec.grouping != Grouping::k)
    most = std::min(most, 96u);
  if (all > most || sums > max_accumulators)
    return invalid("block_m={} block_n={}: {} accumulators per thread do not fit", c.block_m,
                   c.block_n, all);
  if (c.blocks_per_sm == 2 && all > 96)
    return invalid("blocks_per_sm=2: {} accumulators per thread leave no room for two blocks", all);
  return ok();
}

Status check_cluster(const Traits& traits, const GemmConfig& c) {
  const Spec& spec = traits.spec;
  for (const uint32_t size : {c.cluster_m, c.cluster_n, c.split_k})
    if (size != 1 && size != 2 && size != 4 && size != 8)
      return invalid("cluster_m={} cluster_n={} split_k={}: must be 1, 2, 4 or 8", c.cluster_m,
                     c.cluster_n, c.split_k);
  if (gemm_cluster_size(c) > 8)
    return invalid("cluster_m={} cluster_n={} split_k={}: a cluster holds at most 8 CTAs",
                   c.cluster_m, c.cluster_n, c.split_k);
  if (gemm_cluster_size(c) > traits.max_sms)
    return invalid("cluster of {} CTAs: more than the {} SMs", gemm_cluster_size(c),
                   traits.max_sms);
  if (c.split_k > 1 && !c.swap_ab) return invalid("split_k={}: needs swap_ab", c.split_k);
  if (c.split_k > 1 && spec.has(DGRT_FLAG_BATCH_INVARIANT))
    return invalid("split_k={}: the order of sums must not depend on m (BATCH_INVARIANT)",
                   c.split_k);
  if (c.split_k > 1 && spec.grouping == Grouping::k)
    return invalid("split_k={}: the k of a group is not split", c.split_k);
  if (c.cluster_m > 1 && spec.grouping == Grouping::contiguous)
    return invalid("cluster_m={}: tiles of different groups cannot share b", c.cluster_m);
  // Rows that one CTA loads: whole swizzle atoms, or whole blocks of an MN-major operand.
  const uint32_t a_atom = spec.a_major == DGRT_MN_MAJOR ? 64 : 8;
  const uint32_t b_atom = spec.b_major == DGRT_MN_MAJOR ? 64 : 8;
  if (c.block_m / c.cluster_n % a_atom != 0 || c.block_n / c.cluster_m % b_atom != 0 ||
      c.block_m % a_atom != 0 || c.block_n % b_atom != 0)
    return invalid(
        "block_m={} cluster_n={} block_n={} cluster_m={}: each CTA loads groups of {} rows of a "
        "and {} of b",
        c.block_m, c.cluster_n, c.block_n, c.cluster_m, a_atom, b_atom);
  if (c.blocks_per_sm != 1 && c.blocks_per_sm != 2)
    return invalid("blocks_per_sm={}: must be 1 or 2", c.blocks_per_sm);
  if (c.blocks_per_sm == 2 && (c.math_warpgroups == 2 || traits.budgeted))
    return invalid("blocks_per_sm=2: needs math_warpgroups=1 and no SM budget");
  return ok();
}

Status check_store(const Spec& spec, const GemmConfig& c) {
  const bool is_tma = store_of(spec, c) == GemmStore::tma;
  const uint32_t chunks = is_tma ? gemm_store_chunks(c, spec.d_bytes()) : 0;
  if (c.store_buffers != chunks && (c.store_buffers < 2 || c.store_buffers > chunks))
    return invalid("store_buffers={}: must be {}, or at least 2 and less", c.store_buffers, chunks);
  const uint32_t columns = gemm_store_columns(c.block_n, spec.d_bytes());
  if (spec.head_mid != 0 && is_tma &&
      (spec.head_left % columns != 0 || spec.head_right % columns != 0))
    return invalid("block_n={}: stores {} columns at once, heads are {} + {}", c.block_n, columns,
                   spec.head_left, spec.head_right);
  return ok();
}

}  // namespace

Traits make_traits(const Spec& spec, const Target& target) {
  const bool budgeted = spec.sm_budget != 0 && spec.sm_budget < target.sm_count;
  return {spec, budgeted ? spec.sm_budget : target.sm_count, budgeted};
}

// Fields are looked for where encode() puts them first: selection decodes thousands of configs.
GemmConfig decode(const Config& config) {
  size_t next = 0;
  const auto get = [&](std::string_view name) {
    const std::vector<Config::Field>& fields = config.fields();
    const bool is_here = next < fields.size() && fields[next].first == name;
    return static_cast<uint32_t>(is_here ? fields[next++].second : config[name]);
  };
  return {get("block_m"),
          get("block_n"),
          get("stages"),
          get("swap_ab"),
          get("math_warpgroups"),
          get("cluster_m"),
          get("cluster_n"),
          get("split_k"),
          get("blocks_per_sm"),
          get("store_buffers"),
          config.find("warpgroups_n") ? get("warpgroups_n") : 1};
}

Config encode(const GemmConfig& c) {
  return {{"block_m", c.block_m},
          {"block_n", c.block_n},
          {"stages", c.stages},
          {"swap_ab", c.swap_ab},
          {"math_warpgroups", c.math_warpgroups},
          {"cluster_m", c.cluster_m},
          {"cluster_n", c.cluster_n},
          {"split_k", c.split_k},
          {"blocks_per_sm", c.blocks_per_sm},
          {"store_buffers", c.store_buffers},
          {"warpgroups_n", c.warpgroups_n}};
}

Config shape(const Spec& s) {
  Spec k_major = s;
  k_major.b_major = DGRT_K_MAJOR;
  // 2: but for b. 3: a sum of batches.
  const int64_t plain = !k_major.is_plain()                 ? 0
                        : s.grouping == Grouping::batch_sum ? 3
                        : s.is_plain()                      ? 1
                                                            : 2;
  return {{"n", s.n}, {"k", s.k}, {"num_groups", s.num_groups}, {"plain", plain}};
}

Status check_config(const Traits& traits, const GemmConfig& c) {
  DGRT_TRY(check_shape(traits.spec, c));
  DGRT_TRY(check_accumulators(traits.spec, c));
  DGRT_TRY(check_cluster(traits, c));
  DGRT_TRY(check_store(traits.spec, c));
  if (c.stages < min_stages || c.stages > max_stages)
    return invalid("stages={}: must be in {}..{}", c.stages, min_stages, max_stages);
  const uint32_t smem_bytes = traits.spec.smem_bytes(c);
  if (smem_bytes * c.blocks_per_sm > sm90_max_smem_bytes)
    return invalid("stages={}: {} bytes of shared memory for {} blocks per SM, {} are there",
                   c.stages, smem_bytes, c.blocks_per_sm, sm90_max_smem_bytes);
  return ok();
}

std::vector<Config> candidates(const Traits& traits, int64_t m) {
  const Spec& spec = traits.spec;
  std::vector<Config> found;
  const auto add = [&](GemmConfig config) {
    config.stages = fitting_stages(spec, config);
    if (config.stages != 0 && check_config(traits, config).is_ok()) found.push_back(encode(config));
  };
  // Where a sum of batches may be shared, also a ring short enough to keep those who share it together.
  const auto add_both_rings = [&](GemmConfig config) {
    add(config);
    config.stages = calm_ring_bytes / config.blocks_per_sm / gemm_stage_bytes(config);
    if (spec.grouping == Grouping::batch_sum && config.stages < fitting_stages(spec, config) &&
        check_config(traits, config).is_ok())
      found.push_back(encode(config));
  };
  // A store with room for the whole part of a warpgroup, or for two chunks where that buys a stage.
  const auto add_both_stores = [&](GemmConfig config) {
    if (store_of(spec, config) != GemmStore::tma) return add(config);
    config.store_buffers = gemm_store_chunks(config, spec.d_bytes());
    if (spec.dtype_d == DGRT_FP32)
      config.store_buffers =
          std::min(config.store_buffers, fp32_store_bytes / gemm_chunk_bytes(config, 4));
    const uint32_t stages = fitting_stages(spec, config);
    add(config);
    if (spec.dtype_d == DGRT_FP32) return;
    config.store_buffers = 2;
    if (gemm_store_columns(config.block_n, 2) == 64 && stages < 4 &&
        fitting_stages(spec, config) > stages)
      add(config);
  };
  // Rows that a tile may be asked to hold. Contiguous groups are as long as the alignment at least;
  // masked ones vary about the expected rows.
  const int64_t rows = spec.grouping == Grouping::contiguous ? std::max<int64_t>(m, spec.alignment)
                       : spec.grouping == Grouping::masked   ? m + m * 3 / 10
                                                             : m;
  // Decode and everything that too few wide tiles would leave SMs idle for.
  uint32_t fits = 0;  // block_m that hold all rows: the tightest one is enough
  for (const uint32_t block_m : {8u, 16u, 24u, 32u, 48u, 64u, 96u, 128u}) {
    if (fits != 0) break;
    if (block_m >= rows && (spec.a_major == DGRT_K_MAJOR || block_m % 64 == 0)) fits = block_m;
    if (fits == 0 && block_m < 64) continue;
    // Half slabs where whole ones would leave half of the SMs idle. Tiles of 8, 16 and 64 rows gained at most
    // 1 % and lost up to 3 (H100, 2026-11-26); other ops than this were not measured.
    if (fits == 32 && spec.grouping == Grouping::segments &&
        div_up(spec.n, gemm_slab_rows) * 2 <= traits.max_sms)
      for (const uint32_t blocks_per_sm : {1u, 2u})
        add({block_m, half_slab, 0, 1, 1, 1, 1, 1, blocks_per_sm, 0, 1});
    for (const uint32_t block_n : {64u, 128u})
      for (const uint32_t split_k : {1u, 2u, 4u, 8u})
        for (const uint32_t cluster_n : {1u, 2u})
          for (const uint32_t blocks_per_sm : {1u, 2u})
            add_both_rings(
                {block_m, block_n, 0, 1, block_n / 64, 1, cluster_n, split_k, blocks_per_sm, 0, 1});
  }
  // Prefill.
  for (const uint32_t block_m : {64u, 128u, 256u}) {
    if (rows <= block_m / 2) break;
    for (const uint32_t block_n :
         {32u, 64u, 96u, 112u, 128u, 144u, 160u, 176u, 192u, 208u, 224u, 240u, 256u})
      for (const auto& [cluster_m, cluster_n] : {std::pair{1u, 1u}, {2u, 1u}, {1u, 2u}})
        for (const uint32_t warpgroups_n : {1u, 2u})
          if (warpgroups_n == 1 || (block_m == 128 && block_n == 256))
            add_both_stores({block_m, block_n, 0, 0, block_m == 64 ? 1u : 2u, cluster_m, cluster_n,
                             1, 1, 0, warpgroups_n});
  }
  return found;
}

// No tile holds more than 256 rows, and none is barred for more.
int64_t same_candidates(int64_t m) { return std::min<int64_t>(m, 257); }

SelectorVar selector_m(const char* name, int64_t max_m) {
  // Where tile counts change for small m; from 128 on every further eighth of a power of two, then
  // powers.
  std::vector<int64_t> breaks = {8, 16, 24, 32, 48, 64, 96, 128};
  for (int64_t power = 128; power < 8192; power *= 2)
    for (int64_t eighth = 5; eighth <= 8; ++eighth) breaks.push_back(power * eighth / 4);
  for (int64_t power = 16384; power <= 131072; power *= 2) breaks.push_back(power);
  breaks.push_back(max_size);
  return {name, max_m, breaks};
}

namespace {

// "sm90_gemm_fp8_128x192_s4_c2x1": whatever parts one kernel of the stem from another.
std::string entry_name(const char* stem, const Spec& spec, const GemmConfig& c) {
  std::string name = fmt::format("sm90_{}_{}x{}_s{}", stem, c.block_m, c.block_n, c.stages);
  const auto add = [&](bool has, const char* text) {
    if (has) name += text;
  };
  add(c.swap_ab, "_swap");
  if (c.cluster_m * c.cluster_n > 1) name += fmt::format("_c{}x{}", c.cluster_m, c.cluster_n);
  add(c.warpgroups_n > 1, "_n2");
  if (c.split_k > 1) name += fmt::format("_k{}", c.split_k);
  if (c.blocks_per_sm > 1) name += fmt::format("_b{}", c.blocks_per_sm);
  add(spec.dtype_ab == DGRT_FP16, "_fp16");
  add(spec.scale_mode == DGRT_SCALE_ROW, "_row");
  add(spec.scale_mode == DGRT_SCALE_CHANNEL, "_channel");
  add(spec.a_major == DGRT_MN_MAJOR, "_amn");
  add(spec.b_major == DGRT_MN_MAJOR, "_bmn");
  add(spec.dtype_d == DGRT_FP32, "_dfp32");
  add(spec.dtype_d == DGRT_FP16, "_dfp16");
  add(spec.has(DGRT_GEMM_WITH_C), "_c");
  add(spec.has(DGRT_GEMM_WITH_BIAS), "_bias");
  add(spec.head_mid != 0, "_heads");
  add(spec.end_rows, "_ends");
  add(spec.has(DGRT_GEMM_SIGNAL), "_signal");
  add(spec.has(DGRT_GEMM_SUM_BATCHES), "_sum");
  add(spec.has(DGRT_GEMM_UNALIGNED_D), "_unaligned");
  add(spec.is_ragged() && !c.swap_ab, "_ragged");
  return name;
}

}  // namespace

Instance make_instance(const char* stem, const Spec& spec, const Target& target,
                       const GemmConfig& c) {
  Instance instance{.stem = stem,
                    .header = fmt::format("gemm/sm90_{}.cuh", stem),
                    .name_space = fmt::format("dgrt::sm90::{}", stem),
                    .entry = entry_name(stem, spec, c),
                    .arch = target.arch,
                    .cfg = encode(c),
                    .num_threads = gemm_num_threads(c),
                    .min_blocks = c.blocks_per_sm,
                    .params_bytes = sizeof(GemmParams)};
  if (spec.grouping == Grouping::segments) instance.params_bytes = sizeof(GemmSegmentParams);
  Config& cfg = instance.cfg;
  if (spec.is_fp8())
    cfg.set("scale_mode", spec.scale_mode);
  else
    cfg.set("dtype_ab", spec.dtype_ab);
  cfg.set("dtype_d", spec.dtype_d);
  cfg.set("a_mn_major", spec.a_major == DGRT_MN_MAJOR);
  cfg.set("b_mn_major", spec.b_major == DGRT_MN_MAJOR);
  cfg.set("with_c", spec.has(DGRT_GEMM_WITH_C));
  cfg.set("with_bias", spec.has(DGRT_GEMM_WITH_BIAS));
  cfg.set("head_mid", spec.head_mid != 0);
  cfg.set("unaligned_d", spec.has(DGRT_GEMM_UNALIGNED_D));
  cfg.set("direct_d", spec.is_direct() && !c.swap_ab);
  if (spec.grouping == Grouping::masked) cfg.set("signal", spec.has(DGRT_GEMM_SIGNAL));
  if (spec.grouping == Grouping::contiguous) cfg.set("end_rows", spec.end_rows);
  if (!spec.is_fp8() &&
      (spec.grouping == Grouping::batched || spec.grouping == Grouping::batch_sum))
    cfg.set("sum_batches", spec.has(DGRT_GEMM_SUM_BATCHES));
  return instance;
}

Plan make_plan(const Traits& traits, const Config& config) {
  const GemmConfig c = decode(config);
  Plan plan{c,
            traits.spec.smem_bytes(c),
            gemm_num_threads(c),
            0,
            1,
            static_cast<uint32_t>(cluster_slots(traits, c)),
            static_cast<uint32_t>(parts_state_bytes(traits))};
  plan.max_clusters = std::max(1u, traits.max_sms * c.blocks_per_sm / gemm_cluster_size(c));
  // The band whose tiles in flight span the fewest rows of a and b: what they share stays in L2.
  uint64_t best = UINT64_MAX;
  for (uint32_t band = 1; band <= 64; band *= 2) {
    const uint64_t rows = uint64_t{band} * c.block_m * c.cluster_m +
                          uint64_t{ceil_div(plan.max_clusters, band)} * c.block_n * c.cluster_n;
    if (rows < best) {
      best = rows;
      plan.band = band;
    }
  }
  return plan;
}

}  // namespace dgrt::gemm
