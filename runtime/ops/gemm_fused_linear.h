// gemm_fused_linear: its desc and args in the family's form.
#pragma once
#include "runtime/ops/gemm_common.h"

namespace dgrt::gemm {

static_assert(max_gemm_segments == DGRT_MAX_SEGMENTS);

template <class T>
struct FusedLinear : OpBase<T, dgrt_gemm_fused_linear_desc, dgrt_gemm_fused_linear_args> {
  using Desc = dgrt_gemm_fused_linear_desc;
  using Args = dgrt_gemm_fused_linear_args;
  static constexpr uint32_t op_id = DGRT_OP_GEMM_FUSED_LINEAR;
  static constexpr const char* op = "gemm_fused_linear";
  static constexpr uint32_t known_flags = 0;

  static Spec spec(const Desc& d) {
    int64_t n = 0;
    for (uint32_t i = 0; i < d.num_segments; ++i) n += d.n[i];
    return {.n = n,
            .k = d.k,
            .max_m = d.max_m,
            .grouping = Grouping::segments,
            .dtype_ab = d.dtype_ab,
            .dtype_d = d.dtype_d,
            .scale_mode = DGRT_SCALE_NONE,
            .b_scale_major = DGRT_K_MAJOR,
            .b_major = DGRT_K_MAJOR,
            .sm_budget = d.sm_budget,
            .flags = d.flags,
            .max_block_m = d.max_block_m,
            .max_block_n = d.max_block_n,
            .segment_n = d.n,
            .num_segments = d.num_segments};
  }
  static Status check_desc(const Desc& d) {
    if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
    if (d.num_segments < 1 || d.num_segments > max_gemm_segments)
      return invalid("num_segments={}: must be in 1..{}", d.num_segments, max_gemm_segments);
    for (uint32_t i = 0; i < max_gemm_segments; ++i) {
      if (i >= d.num_segments && d.n[i] != 0)
        return invalid("n[{}]={}: must be 0, there are {} segments", i, d.n[i], d.num_segments);
      if (i < d.num_segments && (d.n[i] < 1 || d.n[i] > max_size))
        return invalid("n[{}]={}: must be in 1..{}", i, d.n[i], max_size);
    }
    return check_spec(spec(d), known_flags);
  }
  static Call call(const Desc&, const Args& x) {
    return {.a = x.a,
            .b = x.b,
            .a_scale = nullptr,
            .b_scale = nullptr,
            .d = nullptr,
            .m = x.m,
            .expected_m = x.m,
            .lda = x.lda,
            .ldb = x.ldb,
            .ldd = 0,
            .ld_a_scale = 0,
            .ld_b_scale = 0,
            .segment_d = x.d,
            .segment_ldd = x.ldd};
  }
};

}  // namespace dgrt::gemm
