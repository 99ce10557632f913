// gemm: its desc and args in the family's form, for both of its stems.
#pragma once
#include "runtime/ops/gemm_common.h"

namespace dgrt::gemm {

template <class T>
struct Dense : OpBase<T, dgrt_gemm_desc, dgrt_gemm_args> {
  static constexpr uint32_t op_id = DGRT_OP_GEMM;
  static constexpr const char* op = "gemm";
  static constexpr uint32_t known_flags =
      DGRT_GEMM_WITH_C | DGRT_GEMM_WITH_BIAS | DGRT_GEMM_UNALIGNED_D;

  static Spec spec(const dgrt_gemm_desc& d) {
    return {.n = d.n,
            .k = d.k,
            .max_m = d.max_m,
            .dtype_ab = d.dtype_ab,
            .dtype_d = d.dtype_d,
            .scale_mode = d.scale_mode,
            .b_scale_major = d.b_scale_major,
            .a_major = d.a_major,
            .b_major = d.b_major,
            .sm_budget = d.sm_budget,
            .flags = d.flags,
            .max_block_m = d.max_block_m,
            .max_block_n = d.max_block_n,
            .head_left = d.head_left,
            .head_mid = d.head_mid,
            .head_right = d.head_right};
  }
  static Status check_desc(const dgrt_gemm_desc& d) {
    if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
    return check_spec(spec(d), known_flags);
  }
  static Call call(const dgrt_gemm_desc&, const dgrt_gemm_args& x) {
    return {.a = x.a,
            .b = x.b,
            .c = x.c,
            .bias = x.bias,
            .a_scale = x.a_scale,
            .b_scale = x.b_scale,
            .d = x.d,
            .m = x.m,
            .expected_m = x.m,
            .lda = x.lda,
            .ldb = x.ldb,
            .ldc = x.ldc,
            .ldd = x.ldd,
            .ld_a_scale = x.ld_a_scale,
            .ld_b_scale = x.ld_b_scale};
  }
};

}  // namespace dgrt::gemm
