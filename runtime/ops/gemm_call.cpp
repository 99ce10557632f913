// What the ops of the GEMM family accept, and how one call becomes a launch. Pure and cheap: no
// device allocation, no compilation, no file access.
#include <algorithm>

#include "runtime/ops/gemm_common.h"

namespace dgrt::gemm {

namespace {

constexpr int64_t max_stride_bytes = (int64_t{1} << 40) - 16;  // tensor maps have 40 bits

Status check_types(const Spec& s) {
  const bool is_half = s.dtype_ab == DGRT_BF16 || s.dtype_ab == DGRT_FP16;
  const bool grouped = s.grouping != Grouping::none;
  if (s.grouping == Grouping::segments) {
    if (is_half && (s.dtype_d == s.dtype_ab || s.dtype_d == DGRT_FP32)) return ok();
    return error(DGRT_UNSUPPORTED,
                 "dtype_ab={} dtype_d={}: must be bf16 (1) or fp16 (2), d of that type or fp32 (3)",
                 s.dtype_ab, s.dtype_d);
  }
  if (s.grouping == Grouping::k) {
    if (s.dtype_d == DGRT_FP32 && ((is_half && s.scale_mode == DGRT_SCALE_NONE) ||
                                   (s.is_fp8() && s.scale_mode == DGRT_SCALE_ROW)))
      return ok();
    return error(DGRT_UNSUPPORTED,
                 "dtype_ab={} dtype_d={} scale_mode={}: must be bf16 (1) or fp16 (2) with "
                 "SCALE_NONE (0), or e4m3 (4) with SCALE_ROW (2), and d fp32 (3)",
                 s.dtype_ab, s.dtype_d, s.scale_mode);
  }
  if (s.grouping == Grouping::batch_sum && !is_half)
    return error(DGRT_UNSUPPORTED, "dtype_ab={}: SUM_BATCHES is for bf16 (1) and fp16 (2)",
                 s.dtype_ab);
  if (is_half && s.scale_mode == DGRT_SCALE_NONE &&
      (s.dtype_d == s.dtype_ab || s.dtype_d == DGRT_FP32))
    return ok();
  if (s.is_fp8() && s.scale_mode >= DGRT_SCALE_BLOCK && s.scale_mode <= DGRT_SCALE_CHANNEL &&
      !(grouped && s.scale_mode != DGRT_SCALE_BLOCK) &&
      (s.dtype_d == DGRT_BF16 || s.dtype_d == DGRT_FP16 || s.dtype_d == DGRT_FP32))
    return ok();
  return error(DGRT_UNSUPPORTED,
               "dtype_ab={} dtype_d={} scale_mode={}: must be bf16 (1) or fp16 (2) with SCALE_NONE "
               "(0) and d of that type or fp32 (3), or e4m3 (4) with {} and d bf16, fp16 or fp32",
               s.dtype_ab, s.dtype_d, s.scale_mode,
               grouped ? "SCALE_BLOCK (1)" : "SCALE_BLOCK (1), ROW (2) or CHANNEL (3)");
}

Status check_heads(const Spec& s) {
  if (s.head_mid == 0) {
    if (s.head_left != 0 || s.head_right != 0)
      return invalid("head_left={} head_right={}: must be 0 where head_mid is", s.head_left,
                     s.head_right);
    return ok();
  }
  const int64_t width = int64_t{s.head_left} + s.head_right;
  if (s.head_left % 8 != 0 || s.head_mid % 8 != 0 || s.head_right % 8 != 0 || width == 0)
    return invalid("head_left={} head_mid={} head_right={}: must be multiples of 8, not all 0",
                   s.head_left, s.head_mid, s.head_right);
  if (s.n % width != 0)
    return invalid("n={}: must be a multiple of head_left + head_right, {}", s.n, width);
  if (s.d_columns() > max_size)
    return invalid("head_mid={}: d would have {} columns, at most {}", s.head_mid, s.d_columns(),
                   max_size);
  if (s.has(DGRT_GEMM_WITH_C)) return invalid("flags={:#x}: heads take no WITH_C", s.flags);
  return ok();
}

// Of `elements` > 0. No division by a variable: these run on the launch path.
bool is_too_far(int64_t elements, uint32_t element_bytes) {
  return elements > max_stride_bytes || elements * element_bytes > max_stride_bytes;
}
bool is_16_bytes(int64_t elements, uint32_t element_bytes) {
  return elements * element_bytes % 16 == 0;
}

// `least`: elements a row holds.
Status check_stride(const char* name, int64_t stride, int64_t least, uint32_t element_bytes) {
  if (stride < least)
    return invalid("{}={}: must be at least {}, what a row holds", name, stride, least);
  if (is_too_far(stride, element_bytes))
    return invalid("{}={}: rows must be less than 2^40 bytes apart", name, stride);
  if (!is_16_bytes(stride, element_bytes))
    return invalid("{}={}: must be a multiple of {} (16-byte rows)", name, stride,
                   16 / element_bytes);
  return ok();
}

// Between groups, of a tensor that TMA reads or writes.
Status check_group_stride(const Call& x, const char* name, int64_t stride, uint32_t groups,
                          uint32_t element_bytes) {
  if (groups == 1) return ok();
  if (stride <= 0 || is_too_far(stride, element_bytes) || !is_16_bytes(stride, element_bytes))
    return invalid("{}{}={}: must be a positive multiple of {} (16 bytes), below 2^40 bytes", name,
                   x.stride_suffix, stride, 16 / element_bytes);
  return ok();
}

Status check_operands(const Spec& s, const Call& x) {
  const bool a_mn = s.a_major == DGRT_MN_MAJOR, b_mn = s.b_major == DGRT_MN_MAJOR;
  DGRT_TRY(check_pointer("a", x.a, 16));
  DGRT_TRY(check_pointer("b", x.b, 16));
  if (s.builds_maps() && s.is_fp8()) {
    if (x.lda == 0 && x.ldb == 0) return ok();
    return invalid("lda={} ldb={}: must be 0, a and b are flat", x.lda, x.ldb);
  }
  DGRT_TRY(check_stride("lda", x.lda, a_mn ? x.m : s.k, s.ab_bytes()));
  DGRT_TRY(check_stride("ldb", x.ldb, b_mn ? s.n : s.k, s.ab_bytes()));
  if (!s.has_ab_groups() && s.grouping != Grouping::contiguous) return ok();
  if (s.has_ab_groups())
    DGRT_TRY(check_group_stride(x, "a", x.a_stride, s.num_groups, s.ab_bytes()));
  return check_group_stride(x, "b", x.b_stride, s.num_groups, s.ab_bytes());
}

Status check_channel_scales(const Call& x) {
  DGRT_TRY(check_pointer("a_scale", x.a_scale, 4));
  DGRT_TRY(check_pointer("b_scale", x.b_scale, 4));
  if (x.ld_a_scale != 0 && x.ld_a_scale != 1)
    return invalid("ld_a_scale={}: must be 1 (a scale per row) or 0 (one for all)", x.ld_a_scale);
  if (x.ld_b_scale != 0 && x.ld_b_scale != 1)
    return invalid("ld_b_scale={}: must be 1 (a scale per row) or 0 (one for all)", x.ld_b_scale);
  return ok();
}

Status check_scales(const Spec& s, const Call& x) {
  if (s.scale_mode == DGRT_SCALE_NONE) {
    if (x.a_scale != nullptr || x.b_scale != nullptr)
      return invalid("a_scale={} b_scale={}: must be NULL, scale_mode is NONE",
                     static_cast<const void*>(x.a_scale), static_cast<const void*>(x.b_scale));
    return ok();
  }
  // Read for k == 0 too: they multiply the sums.
  if (s.scale_mode == DGRT_SCALE_CHANNEL) return check_channel_scales(x);
  if (s.k == 0) return ok();
  DGRT_TRY(check_pointer("a_scale", x.a_scale, 16));
  DGRT_TRY(check_stride("ld_a_scale", x.ld_a_scale, x.m, 4));
  if (s.grouping == Grouping::masked || s.grouping == Grouping::batched)
    DGRT_TRY(check_group_stride(x, "a_scale", x.a_scale_stride, s.num_groups, 4));
  if (s.scale_mode == DGRT_SCALE_ROW) {
    DGRT_TRY(check_pointer("b_scale", x.b_scale, 16));
    return check_stride("ld_b_scale", x.ld_b_scale, s.n, 4);
  }
  DGRT_TRY(check_pointer("b_scale", x.b_scale, 4));
  const int64_t n_blocks = (s.n + 127) / 128, k_blocks = (s.k + 127) / 128;
  const int64_t least = s.b_scale_major == DGRT_K_MAJOR ? k_blocks : n_blocks;
  if (x.ld_b_scale < least)
    return invalid("ld_b_scale={}: must be at least {}, what a row holds", x.ld_b_scale, least);
  if (s.num_groups > 1 && x.b_scale_stride < 0)
    return invalid("b_scale{}={}: must not be negative", x.stride_suffix, x.b_scale_stride);
  return ok();
}

Status check_row_stride(const Spec& s, const char* name, int64_t stride, int64_t least) {
  if (!s.has(DGRT_GEMM_UNALIGNED_D)) return check_stride(name, stride, least, s.d_bytes());
  if (stride < least)
    return invalid("{}={}: must be at least {}, what a row holds", name, stride, least);
  return ok();
}

Status check_segments(const Spec& s, const Call& x) {
  for (uint32_t i = 0; i < max_gemm_segments; ++i) {
    if (i >= s.num_segments) {
      if (x.segment_d[i] != nullptr || x.segment_ldd[i] != 0)
        return invalid("d[{}]={} ldd[{}]={}: must be 0, the desc has {} segments", i,
                       x.segment_d[i], i, x.segment_ldd[i], s.num_segments);
      continue;
    }
    char name[8] = {'l', 'd', 'd', '[', static_cast<char>('0' + i), ']'};
    DGRT_TRY(check_pointer(name + 2, x.segment_d[i], s.d_bytes()));
    if (x.segment_ldd[i] < s.segment_n[i])
      return invalid("{}={}: must be at least {}, what a row holds", name, x.segment_ldd[i],
                     s.segment_n[i]);
    if (x.segment_ldd[i] > max_stride_bytes / s.d_bytes())
      return invalid("{}={}: rows must be less than 2^40 bytes apart", name, x.segment_ldd[i]);
  }
  return ok();
}

Status check_outputs(const Spec& s, const Call& x) {
  if (s.grouping == Grouping::segments) return check_segments(s, x);
  if (s.grouping == Grouping::batch_sum && (x.c_stride != 0 || x.d_stride != 0))
    return invalid(
        "c_batch_stride={} d_batch_stride={}: must be 0, SUM_BATCHES has one c and one d",
        x.c_stride, x.d_stride);
  const uint32_t alignment = s.has(DGRT_GEMM_UNALIGNED_D) ? s.d_bytes() : 16;
  const bool grouped = s.has_d_groups();
  DGRT_TRY(check_pointer("d", x.d, alignment));
  DGRT_TRY(check_row_stride(s, "ldd", x.ldd, s.d_columns()));
  if (grouped && !s.has(DGRT_GEMM_UNALIGNED_D))
    DGRT_TRY(check_group_stride(x, "d", x.d_stride, s.num_groups, s.d_bytes()));
  if (s.has(DGRT_GEMM_WITH_BIAS)) {
    DGRT_TRY(check_pointer("bias", x.bias, alignment));
  } else if (x.bias != nullptr) {
    return invalid("bias={}: must be NULL, the desc has no WITH_BIAS", x.bias);
  }
  if (!s.has(DGRT_GEMM_WITH_C)) {
    if (x.c != nullptr) return invalid("c={}: must be NULL, the desc has no WITH_C", x.c);
    return ok();
  }
  DGRT_TRY(check_pointer("c", x.c, alignment));
  DGRT_TRY(check_row_stride(s, "ldc", x.ldc, s.n));
  if (grouped && !s.has(DGRT_GEMM_UNALIGNED_D))
    DGRT_TRY(check_group_stride(x, "c", x.c_stride, s.num_groups, s.d_bytes()));
  if (x.c == x.d && (x.ldc != x.ldd || x.c_stride != x.d_stride))
    return invalid("ldc={} ldd={}: all strides must be equal when c is d", x.ldc, x.ldd);
  return ok();
}

Status check_groups(const Spec& s, const Call& x) {
  if (s.grouping == Grouping::masked) {
    DGRT_TRY(check_pointer("masked_m", x.groups, 4));
    if (x.expected_m < 1 || x.expected_m > x.m)
      return invalid("expected_m={}: must be in 1..{}, the rows of a group", x.expected_m, x.m);
    if (s.has(DGRT_GEMM_SIGNAL)) return check_pointer("signal", x.signal, 4);
    if (x.signal != nullptr)
      return invalid("signal={}: must be NULL, the desc has no SIGNAL",
                     static_cast<const void*>(x.signal));
  }
  if (s.grouping == Grouping::contiguous) return check_pointer("groups", x.groups, 4);
  if (s.grouping == Grouping::k) return check_pointer("ks", x.groups, 4);
  return ok();
}

// What a TMA store of d sees.
TmaMatrix store_matrix(const Spec& s, const GemmConfig& c, const void* d, uint64_t m,
                       int64_t columns, int64_t ldd, uint32_t groups, uint64_t group_stride) {
  const uint32_t box = gemm_store_columns(c.block_n, s.d_bytes()), bytes = box * s.d_bytes();
  return {s.dtype_d,
          d,
          m,
          static_cast<uint64_t>(columns),
          static_cast<uint64_t>(ldd),
          gemm_slab_rows,
          box,
          bytes == 128  ? Swizzle::b128
          : bytes == 64 ? Swizzle::b64
                        : Swizzle::b32,
          groups,
          group_stride};
}

// The maps of a, b, their scales and, where the store wants one, d.
Status encode_maps(const Spec& s, const Call& x, const Plan& plan, const Driver& driver,
                   GemmParams* p) {
  const GemmConfig& c = plan.config;
  const uint64_t m = static_cast<uint64_t>(x.m), n = static_cast<uint64_t>(s.n);
  const uint64_t k = static_cast<uint64_t>(s.k);
  const uint32_t a_groups = s.has_ab_groups() ? s.num_groups : 0;
  const uint32_t b_groups = s.grouping == Grouping::contiguous ? s.num_groups : a_groups;
  const auto operand = [&](const void* base, uint64_t rows, int64_t ld, uint32_t box_rows,
                           dgrt_major major, uint32_t groups, int64_t stride, TensorMap* map) {
    TmaMatrix matrix{s.dtype_ab,
                     base,
                     rows,
                     k,
                     static_cast<uint64_t>(ld),
                     box_rows,
                     gemm_block_k_bytes / s.ab_bytes(),
                     Swizzle::b128,
                     groups,
                     static_cast<uint64_t>(stride)};
    if (major == DGRT_MN_MAJOR) {
      std::swap(matrix.rows, matrix.cols);
      matrix.box_rows = matrix.box_cols = 64;
    }
    return encode_tensor_map(driver, matrix, map);
  };
  const auto scale = [&](const float* base, uint64_t rows, int64_t ld, uint32_t box,
                         uint32_t groups, int64_t stride, TensorMap* map) {
    return encode_tensor_map(driver,
                             {DGRT_FP32, base, p->num_k_blocks, rows, static_cast<uint64_t>(ld), 1,
                              box, Swizzle::none, groups, static_cast<uint64_t>(stride)},
                             map);
  };
  if (s.num_k_blocks() > 0) {
    DGRT_TRY(
        operand(x.a, m, x.lda, c.block_m / c.cluster_n, s.a_major, a_groups, x.a_stride, &p->a));
    DGRT_TRY(
        operand(x.b, n, x.ldb, c.block_n / c.cluster_m, s.b_major, b_groups, x.b_stride, &p->b));
    if (s.scale_per_block())
      DGRT_TRY(
          scale(x.a_scale, m, x.ld_a_scale, c.block_m, a_groups, x.a_scale_stride, &p->a_scale));
    if (s.scale_mode == DGRT_SCALE_ROW)
      DGRT_TRY(scale(x.b_scale, n, x.ld_b_scale, c.block_n, 0, 0, &p->b_scale));
  }
  if (s.grouping == Grouping::segments || gemm_store(c, s.is_direct()) != GemmStore::tma)
    return ok();
  return encode_tensor_map(
      driver,
      store_matrix(s, c, x.d, m, s.d_columns(), x.ldd, s.has_d_groups() ? s.num_groups : 0,
                   static_cast<uint64_t>(x.d_stride)),
      &p->d);
}

// The segments, and the maps of those that TMA can store.
Status set_segments(const Spec& s, const Call& x, const Plan& plan, const Driver& driver,
                    GemmSegmentParams* p) {
  const bool is_tma = gemm_store(plan.config, s.is_direct()) == GemmStore::tma;
  int64_t begin = 0;
  p->num_segments = s.num_segments;
  for (uint32_t i = 0; i < s.num_segments; ++i) {
    void* const d = x.segment_d[i];
    const int64_t n = s.segment_n[i], ldd = x.segment_ldd[i];
    const bool unaligned =
        (begin | n | ldd) % (16 / s.d_bytes()) != 0 || reinterpret_cast<uintptr_t>(d) % 16 != 0;
    p->segments[i] = {d, static_cast<uint64_t>(ldd), static_cast<uint32_t>(begin),
                      static_cast<uint32_t>(begin + n), unaligned};
    p->any_copied |= unaligned || begin % gemm_store_columns(plan.config.block_n, s.d_bytes()) != 0;
    if (is_tma && !unaligned)
      DGRT_TRY(encode_tensor_map(
          driver, store_matrix(s, plan.config, d, static_cast<uint64_t>(x.m), n, ldd, 0, 0),
          &p->d_maps[i]));
    begin += n;
  }
  return ok();
}

void set_outputs(const Spec& s, const Call& x, GemmOutput* out) {
  *out = {.m = static_cast<uint32_t>(x.m),
          .n = static_cast<uint32_t>(s.n),
          .d = x.d,
          .c = x.c,
          .bias = x.bias,
          .ldd = static_cast<uint64_t>(x.ldd),
          .ldc = static_cast<uint64_t>(x.ldc),
          .d_group_stride = static_cast<uint64_t>(x.d_stride),
          .c_group_stride = static_cast<uint64_t>(x.c_stride),
          .head_left = s.head_left,
          .head_width = s.head_left + s.head_right,
          .head_mid = s.head_mid};
}

void set_scales(const Spec& s, const Call& x, GemmScales* scales) {
  const uint64_t ld = static_cast<uint64_t>(x.ld_b_scale);
  const bool channel = s.scale_mode == DGRT_SCALE_CHANNEL;
  const bool k_major = s.b_scale_major == DGRT_K_MAJOR;
  *scales = {.b = x.b_scale,
             .b_n_stride = channel || k_major ? ld : 1,
             .b_k_stride = k_major ? 1 : ld,
             .b_group_stride = static_cast<uint64_t>(x.b_scale_stride),
             .a = x.a_scale,
             .a_stride = static_cast<uint64_t>(x.ld_a_scale)};
}

void set_grid(const Spec& s, const Call& x, const Plan& plan, uint32_t parts, Launch* launch) {
  const GemmConfig& c = plan.config;
  const auto tiles = [](int64_t size, uint32_t block) { return (size + block - 1) / block; };
  const int64_t clusters = tiles(x.m, c.block_m * c.cluster_m) *
                           tiles(s.n, c.block_n * c.cluster_n) * s.tile_groups() * parts;
  const uint32_t size = gemm_cluster_size(c);
  launch->grid[0] = static_cast<uint32_t>(std::min<int64_t>(clusters, plan.max_clusters)) * size;
  launch->cluster[0] = size;
  launch->num_threads = plan.num_threads;
  launch->smem_bytes = plan.smem_bytes;
  launch->block_m = c.block_m;
  launch->pdl = s.has(DGRT_FLAG_PDL);
  if (s.has(DGRT_GEMM_SIGNAL))
    launch->completion_threshold = static_cast<uint32_t>(tiles(s.n, c.block_n)) * c.split_k;
}

}  // namespace

Status check_spec(const Spec& s, uint32_t known_flags) {
  if (s.n < 1 || s.n > max_size) return invalid("n={}: must be in 1..{}", s.n, max_size);
  if (s.k < 0 || s.k > max_size) return invalid("k={}: must be in 0..{}", s.k, max_size);
  if (s.max_m < 0 || s.max_m > max_size)
    return invalid("max_m={}: must be in 0..{}", s.max_m, max_size);
  const bool is_sum = s.grouping == Grouping::batch_sum;
  const uint32_t least_groups = is_sum ? 0 : 1;
  if (s.num_groups < least_groups || s.num_groups > max_groups)
    return invalid("{}={}: must be in {}..{}",
                   is_sum || s.grouping == Grouping::batched ? "num_batches" : "num_groups",
                   s.num_groups, least_groups, max_groups);
  if (is_sum && s.num_k_blocks() > max_size)
    return invalid("num_batches={} k={}: {} k blocks, at most {}", s.num_groups, s.k,
                   s.num_k_blocks(), max_size);
  known_flags |= DGRT_FLAG_PDL | DGRT_FLAG_BATCH_INVARIANT;
  if (const uint32_t unknown = s.flags & ~known_flags; unknown != 0)
    return invalid("flags={:#x}: bits {:#x} are not known to this op", s.flags, unknown);
  for (const auto& [name, major] : {std::pair{"b_scale_major", s.b_scale_major},
                                    {"a_major", s.a_major},
                                    {"b_major", s.b_major}})
    if (major > DGRT_MN_MAJOR)
      return invalid("{}={}: must be K_MAJOR (0) or MN_MAJOR (1)", name, major);
  DGRT_TRY(check_types(s));
  if (s.is_fp8() && (s.a_major != DGRT_K_MAJOR || s.b_major != DGRT_K_MAJOR))
    return error(
        DGRT_UNSUPPORTED,
        "a_major={} b_major={}: e4m3 operands must be K_MAJOR (0), SM90 multiplies no other",
        s.a_major, s.b_major);
  // The smallest tiles are 8 x 64, 64 rows where a is MN-major.
  const uint32_t least_m = s.a_major == DGRT_MN_MAJOR ? 64 : 8;
  if (s.max_block_m != 0 && s.max_block_m < least_m)
    return invalid("max_block_m={}: must be 0 or at least {}", s.max_block_m, least_m);
  if (s.max_block_n != 0 && s.max_block_n < 64)
    return invalid("max_block_n={}: must be 0 or at least 64", s.max_block_n);
  return check_heads(s);
}

Status check_call(const Spec& s, const Call& x) {
  // Of the ops that choose by another number than m, this one is not in a plan's cells.
  if (x.m < 0 || x.m > s.max_m) return invalid("m={}: must be 0 to {}", x.m, s.max_m);
  if (x.m == 0) return ok();
  if (s.num_k_blocks() > 0) DGRT_TRY(check_operands(s, x));
  DGRT_TRY(check_scales(s, x));
  // Tiles are counted in 32 bits; the smallest tile is 8 x 32.
  if ((x.m / 8 + 1) * (s.n / 32 + 1) > int64_t{UINT32_MAX} / s.tile_groups())
    return invalid("m={} with n={}: d may have at most 2^40 elements", x.m, s.n);
  DGRT_TRY(check_outputs(s, x));
  return check_groups(s, x);
}

Status bind(const Spec& s, const Call& x, const Plan& plan, const Driver& driver, Launch* launch) {
  if (x.m == 0) return ok();
  GemmSegmentParams* segments = nullptr;
  if (s.grouping == Grouping::segments) segments = &launch->make_params<GemmSegmentParams>();
  GemmParams& p = segments ? *segments : launch->make_params<GemmParams>();
  if (segments) DGRT_TRY(set_segments(s, x, plan, driver, segments));
  p.num_k_blocks = ceil_div(static_cast<uint32_t>(s.k), gemm_block_k_bytes / s.ab_bytes());
  DGRT_TRY(encode_maps(s, x, plan, driver, &p));
  set_outputs(s, x, &p.out);
  set_scales(s, x, &p.scales);
  p.groups = {.ids = x.groups,
              .signal = x.signal,
              .count = s.num_groups,
              .alignment = s.alignment,
              .k = static_cast<uint32_t>(s.k),
              .a = x.a,
              .b = x.b,
              .a_row_bytes = static_cast<uint64_t>(x.lda) * s.ab_bytes(),
              .b_row_bytes = static_cast<uint64_t>(x.ldb) * s.ab_bytes(),
              .maps = x.maps};
  p.band = plan.band;
  set_parts(s, x, plan, &p.parts);
  set_grid(s, x, plan, p.parts.count, launch);
  return ok();
}

}  // namespace dgrt::gemm
