// Legality and launch of dense GEMM tiles; the cost model is in gemm_model.cpp.
#include "runtime/ops/gemm_common.h"

#include <algorithm>
#include <numeric>

namespace dgrt::gemm {

namespace {

constexpr uint32_t max_stages = 32;
constexpr uint32_t min_stages = 3;          // fewer cannot hide a load behind two products
constexpr uint32_t max_accumulators = 128;  // fp32 registers per thread that a sum may take

GemmStore store_of(const Traits& traits, const GemmConfig& config) {
  return gemm_store(config, traits.direct());
}

uint32_t x_rows(const GemmConfig& c) { return c.swap_ab ? c.block_n : c.block_m; }
uint32_t y_rows(const GemmConfig& c) { return c.swap_ab ? c.block_m : c.block_n; }

// N of the wgmma wrappers that exist: kernels/device/ptx/gen_wgmma.py.
bool has_wgmma(uint32_t n) { return n == 8 || n == 24 || (n % 16 == 0 && n <= 256); }

// The most stages that fit beside the store, 0 if too few do.
uint32_t fitting_stages(const Traits& traits, GemmConfig config) {
  for (config.stages = max_stages; config.stages >= min_stages; --config.stages)
    if (smem_bytes(traits, config) * config.blocks_per_sm <= sm90_max_smem_bytes)
      return config.stages;
  return 0;
}

}  // namespace

bool is_ragged(const dgrt_gemm_desc& desc) {
  return desc.n % (desc.dtype_d == DGRT_FP32 ? 4 : 8) != 0;
}

void set_ragged(const dgrt_gemm_desc& desc, const GemmConfig& config, Instance* instance) {
  const bool ragged = is_ragged(desc) && !config.swap_ab;
  instance->cfg.set("ragged_n", ragged);
  if (ragged) instance->entry += "_ragged";
}

Traits make_traits(const dgrt_gemm_desc& desc, const Target& target, bool scaled) {
  const bool budgeted = desc.sm_budget != 0 && desc.sm_budget < target.sm_count;
  return {.dtype_ab = desc.dtype_ab,
          .element_bytes = scaled ? 1u : 2u,
          .scaled = scaled,
          .d_is_fp32 = desc.dtype_d == DGRT_FP32,
          .with_c = (desc.flags & DGRT_GEMM_WITH_C) != 0,
          .ragged_n = is_ragged(desc),
          .max_sms = budgeted ? desc.sm_budget : target.sm_count,
          .budgeted = budgeted};
}

GemmConfig decode(const Config& config) {
  const auto get = [&](const char* name) { return static_cast<uint32_t>(config[name]); };
  return {get("block_m"),         get("block_n"),      get("stages"),    get("swap_ab"),
          get("math_warpgroups"), get("cluster_m"),    get("cluster_n"), get("split_k"),
          get("blocks_per_sm"),   get("store_buffers")};
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
          {"store_buffers", c.store_buffers}};
}

uint32_t smem_bytes(const Traits& traits, const GemmConfig& config) {
  return gemm_smem_bytes(config, store_of(traits, config),
                         traits.scaled ? gemm_a_scale_bytes(config) : 0);
}

Status check_config(const Traits& traits, const GemmConfig& c) {
  if (c.block_m == 0 || c.block_n == 0 || c.block_m > 256 || c.block_n > 256)
    return invalid("block_m={} block_n={}: must be in 1..256", c.block_m, c.block_n);
  if (c.swap_ab > 1) return invalid("swap_ab={}: must be 0 or 1", c.swap_ab);
  if (c.math_warpgroups != 1 && c.math_warpgroups != 2)
    return invalid("math_warpgroups={}: must be 1 or 2", c.math_warpgroups);
  if (x_rows(c) % (gemm_slab_rows * c.math_warpgroups) != 0)
    return invalid("{}={}: must be a multiple of 64 for each math warpgroup",
                   c.swap_ab ? "block_n" : "block_m", x_rows(c));
  if (!has_wgmma(y_rows(c)))
    return invalid("{}={}: no wgmma shape", c.swap_ab ? "block_m" : "block_n", y_rows(c));
  if (!c.swap_ab && c.block_n % 16 != 0)
    return invalid("block_n={}: must be a multiple of 16 (swizzled store)", c.block_n);
  // A tile's scales of b must come from two rows: its first column is any multiple of gcd(block_n,
  // 128).
  if (traits.scaled && !c.swap_ab && c.block_n > 128 + std::gcd(c.block_n, 128u))
    return invalid("block_n={}: would touch three rows of b's scales", c.block_n);
  const uint32_t slabs = x_rows(c) / gemm_slab_rows / c.math_warpgroups;
  const uint32_t accumulators = (slabs + (traits.scaled ? 1 : 0)) * y_rows(c) / 2;
  if (accumulators > (traits.scaled ? 192 : max_accumulators) ||
      slabs * y_rows(c) / 2 > max_accumulators)
    return invalid("block_m={} block_n={}: {} accumulators per thread do not fit", c.block_m,
                   c.block_n, accumulators);
  // The store that adds c keeps many loads in flight beside the sums.
  if (store_of(traits, c) == GemmStore::fragments && traits.with_c && accumulators > 96)
    return invalid("block_m={} block_n={}: {} accumulators per thread leave no room for c",
                   c.block_m, c.block_n, accumulators);
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
  if (c.block_m / c.cluster_n % 8 != 0 || c.block_n / c.cluster_m % 8 != 0)
    return invalid(
        "block_m={} cluster_n={} block_n={} cluster_m={}: each CTA loads whole groups of 8 rows",
        c.block_m, c.cluster_n, c.block_n, c.cluster_m);
  if (c.blocks_per_sm != 1 && c.blocks_per_sm != 2)
    return invalid("blocks_per_sm={}: must be 1 or 2", c.blocks_per_sm);
  if (c.blocks_per_sm == 2 && (c.math_warpgroups == 2 || traits.budgeted))
    return invalid("blocks_per_sm=2: needs math_warpgroups=1 and no SM budget");
  if (c.blocks_per_sm == 2 && accumulators > 96)
    return invalid("blocks_per_sm=2: {} accumulators per thread leave no room for two blocks",
                   accumulators);
  const uint32_t chunks = store_of(traits, c) == GemmStore::tma ? gemm_store_chunks(c) : 0;
  if (c.store_buffers != chunks && (c.store_buffers < 2 || c.store_buffers > chunks))
    return invalid("store_buffers={}: must be {}, or at least 2 and less", c.store_buffers, chunks);
  if (c.stages < min_stages || c.stages > max_stages)
    return invalid("stages={}: must be in {}..{}", c.stages, min_stages, max_stages);
  if (smem_bytes(traits, c) * c.blocks_per_sm > sm90_max_smem_bytes)
    return invalid("stages={}: {} bytes of shared memory for {} blocks per SM, {} are there",
                   c.stages, smem_bytes(traits, c), c.blocks_per_sm, sm90_max_smem_bytes);
  return ok();
}

std::vector<Config> candidates(const Traits& traits, int64_t m) {
  std::vector<Config> found;
  const auto add = [&](GemmConfig config) {
    config.stages = fitting_stages(traits, config);
    if (config.stages != 0 && check_config(traits, config).is_ok()) found.push_back(encode(config));
  };
  // A store with room for the whole part of a warpgroup, or for two chunks where that buys a stage.
  const auto add_both_stores = [&](GemmConfig config) {
    if (store_of(traits, config) != GemmStore::tma) return add(config);
    config.store_buffers = gemm_store_chunks(config);
    const uint32_t stages = fitting_stages(traits, config);
    add(config);
    config.store_buffers = 2;
    if (gemm_store_columns(config.block_n) == 64 && stages < 4 &&
        fitting_stages(traits, config) > stages)
      add(config);
  };
  // Decode and everything that too few wide tiles would leave SMs idle for.
  uint32_t fits = 0;  // block_m that hold all of m: the tightest one is enough
  for (const uint32_t block_m : {8u, 16u, 24u, 32u, 48u, 64u, 96u, 128u}) {
    if (fits != 0) break;
    if (block_m >= m) fits = block_m;
    if (fits == 0 && block_m < 64) continue;
    for (const uint32_t block_n : {64u, 128u})
      for (const uint32_t split_k : {1u, 2u, 4u, 8u})
        for (const uint32_t cluster_n : {1u, 2u})
          for (const uint32_t blocks_per_sm : {1u, 2u})
            add({block_m, block_n, 0, 1, block_n / 64, 1, cluster_n, split_k, blocks_per_sm, 0});
  }
  // Prefill.
  for (const uint32_t block_m : {64u, 128u, 256u}) {
    if (m <= block_m / 2) break;
    for (const uint32_t block_n :
         {32u, 64u, 96u, 112u, 128u, 144u, 160u, 176u, 192u, 208u, 224u, 240u, 256u})
      for (const auto& [cluster_m, cluster_n] : {std::pair{1u, 1u}, {2u, 1u}, {1u, 2u}})
        add_both_stores(
            {block_m, block_n, 0, 0, block_m == 64 ? 1u : 2u, cluster_m, cluster_n, 1, 1, 0});
  }
  return found;
}

SelectorVar selector_m(int64_t max_m) {
  // Where tile counts change for small m; from 128 on every further eighth of a power of two, then
  // powers.
  std::vector<int64_t> breaks = {8, 16, 24, 32, 48, 64, 96, 128};
  for (int64_t power = 128; power < 8192; power *= 2)
    for (int64_t eighth = 5; eighth <= 8; ++eighth) breaks.push_back(power * eighth / 4);
  for (int64_t power = 16384; power <= 131072; power *= 2) breaks.push_back(power);
  breaks.push_back(max_size);
  return {"m", max_m, breaks};
}

std::string entry_name(const char* stem, const GemmConfig& c) {
  std::string name = fmt::format("sm90_{}_{}x{}_s{}", stem, c.block_m, c.block_n, c.stages);
  if (c.swap_ab) name += "_swap";
  if (c.cluster_m * c.cluster_n > 1) name += fmt::format("_c{}x{}", c.cluster_m, c.cluster_n);
  if (c.split_k > 1) name += fmt::format("_k{}", c.split_k);
  if (c.blocks_per_sm > 1) name += fmt::format("_b{}", c.blocks_per_sm);
  return name;
}

Plan make_plan(const Traits& traits, const Config& config) {
  const GemmConfig c = decode(config);
  Plan plan{c, smem_bytes(traits, c), gemm_num_threads(c), 0, 1, traits.direct()};
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

Status check_desc(const dgrt_gemm_desc& d) {
  if (d.n < 1 || d.n > max_size) return invalid("n={}: must be in 1..{}", d.n, max_size);
  if (d.k < 0 || d.k > max_size) return invalid("k={}: must be in 0..{}", d.k, max_size);
  if (d.max_m < 0 || d.max_m > max_size)
    return invalid("max_m={}: must be in 0..{}", d.max_m, max_size);
  if (const uint32_t unknown = d.flags & ~(DGRT_FLAG_PDL | DGRT_GEMM_WITH_C); unknown != 0)
    return invalid("flags={:#x}: bits {:#x} are not known", d.flags, unknown);
  if (d.b_scale_major > DGRT_MN_MAJOR)
    return invalid("b_scale_major={}: must be K_MAJOR (0) or MN_MAJOR (1)", d.b_scale_major);
  const bool with_c = (d.flags & DGRT_GEMM_WITH_C) != 0;
  const bool is_bf16 = d.dtype_ab == DGRT_BF16 && d.scale_mode == DGRT_SCALE_NONE &&
                       (d.dtype_d == DGRT_BF16 || d.dtype_d == DGRT_FP32);
  const bool is_fp8 = d.dtype_ab == DGRT_E4M3 && d.scale_mode == DGRT_SCALE_BLOCK &&
                      d.dtype_d == DGRT_BF16 && !with_c;
  if (is_bf16 || is_fp8) return ok();
  return error(
      DGRT_UNSUPPORTED,
      "dtype_ab={} dtype_d={} scale_mode={}{}: must be bf16 (1), SCALE_NONE (0) and d bf16 or "
      "fp32 (3), or e4m3 (4), SCALE_BLOCK (1), d bf16 and no c",
      d.dtype_ab, d.dtype_d, d.scale_mode, with_c ? " WITH_C" : "");
}

Status check_pointer(const char* name, const void* pointer, uint32_t alignment) {
  if (pointer == nullptr) return invalid("{}=NULL: must point to device memory", name);
  if (reinterpret_cast<uintptr_t>(pointer) % alignment != 0)
    return invalid("{}={}: must be {}-byte aligned", name, pointer, alignment);
  return ok();
}

Status check_stride(const char* name, int64_t stride, int64_t least, uint32_t element_bytes) {
  if (stride < least)
    return invalid("{}={}: must be at least {}, what a row holds", name, stride, least);
  if (stride % (16 / element_bytes) != 0)
    return invalid("{}={}: must be a multiple of {} (16-byte rows)", name, stride,
                   16 / element_bytes);
  // Byte strides of tensor maps have 40 bits.
  if (stride > (int64_t{1} << 40) / element_bytes - 16)
    return invalid("{}={}: rows must be less than 2^40 bytes apart", name, stride);
  return ok();
}

Status check_args(const dgrt_gemm_desc& d, const dgrt_gemm_args& x, uint32_t ab_bytes,
                  uint32_t d_bytes) {
  if (d.k > 0) {
    DGRT_TRY(check_pointer("a", x.a, 16));
    DGRT_TRY(check_pointer("b", x.b, 16));
    DGRT_TRY(check_stride("lda", x.lda, d.k, ab_bytes));
    DGRT_TRY(check_stride("ldb", x.ldb, d.k, ab_bytes));
  }
  // Tiles are counted in 32 bits; the smallest tile is 8 x 64.
  if ((x.m / 8 + 1) * (d.n / 64 + 1) > int64_t{UINT32_MAX})
    return invalid("m={} with n={}: d may have at most 2^41 elements", x.m, d.n);
  DGRT_TRY(check_pointer("d", x.d, 16));
  return check_stride("ldd", x.ldd, d.n, d_bytes);
}

GemmOutput make_output(const dgrt_gemm_desc& d, const dgrt_gemm_args& x) {
  return {x.d,
          x.c,
          static_cast<uint64_t>(x.ldd),
          static_cast<uint64_t>(x.ldc),
          static_cast<uint32_t>(x.m),
          static_cast<uint32_t>(d.n)};
}

Status encode_maps(const Driver& driver, const dgrt_gemm_desc& d, const dgrt_gemm_args& x,
                   const Plan& plan, TensorMap* a, TensorMap* b, TensorMap* d_map) {
  const GemmConfig& c = plan.config;
  if (d.k > 0) {
    const uint32_t box_k = gemm_block_k_bytes / (d.dtype_ab == DGRT_E4M3 ? 1 : 2);
    const uint64_t k = static_cast<uint64_t>(d.k);
    DGRT_TRY(encode_tensor_map(
        driver,
        {d.dtype_ab, x.a, static_cast<uint64_t>(x.m), k, static_cast<uint64_t>(x.lda),
         c.block_m / c.cluster_n, box_k, Swizzle::b128},
        a));
    DGRT_TRY(encode_tensor_map(
        driver,
        {d.dtype_ab, x.b, static_cast<uint64_t>(d.n), k, static_cast<uint64_t>(x.ldb),
         c.block_n / c.cluster_m, box_k, Swizzle::b128},
        b));
  }
  if (gemm_store(c, plan.direct) != GemmStore::tma) return ok();
  const uint32_t columns = gemm_store_columns(c.block_n);
  return encode_tensor_map(driver,
                           {d.dtype_d, x.d, static_cast<uint64_t>(x.m), static_cast<uint64_t>(d.n),
                            static_cast<uint64_t>(x.ldd), gemm_slab_rows, columns,
                            columns == 64   ? Swizzle::b128
                            : columns == 32 ? Swizzle::b64
                                            : Swizzle::b32},
                           d_map);
}

void set_grid(const dgrt_gemm_desc& d, const dgrt_gemm_args& x, const Plan& plan, Launch* launch) {
  const GemmConfig& c = plan.config;
  const auto tiles = [](int64_t size, uint32_t block) { return (size + block - 1) / block; };
  const int64_t clusters =
      tiles(x.m, c.block_m * c.cluster_m) * tiles(d.n, c.block_n * c.cluster_n);
  const uint32_t size = gemm_cluster_size(c);
  launch->grid[0] = static_cast<uint32_t>(std::min<int64_t>(clusters, plan.max_clusters)) * size;
  launch->cluster[0] = size;
  launch->num_threads = plan.num_threads;
  launch->smem_bytes = plan.smem_bytes;
  launch->block_m = c.block_m;
  launch->pdl = (d.flags & DGRT_FLAG_PDL) != 0;
}

}  // namespace dgrt::gemm
