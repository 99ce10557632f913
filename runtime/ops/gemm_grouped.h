// The grouped and batched ops: their descs and args in the family's form, for both stems of each.
#pragma once
#include "runtime/ops/gemm_common.h"

namespace dgrt::gemm {

template <class T>
struct Contiguous
    : OpBase<T, dgrt_gemm_grouped_contiguous_desc, dgrt_gemm_grouped_contiguous_args> {
  using Desc = dgrt_gemm_grouped_contiguous_desc;
  using Args = dgrt_gemm_grouped_contiguous_args;
  static constexpr uint32_t op_id = DGRT_OP_GEMM_GROUPED_CONTIGUOUS;
  static constexpr const char* op = "gemm_grouped_contiguous";
  static constexpr uint32_t known_flags = DGRT_GEMM_UNALIGNED_D;

  static Spec spec(const Desc& d) {
    return {.n = d.n,
            .k = d.k,
            .max_m = d.max_m,
            .grouping = Grouping::contiguous,
            .num_groups = d.num_groups,
            .dtype_ab = d.dtype_ab,
            .dtype_d = d.dtype_d,
            .scale_mode = d.scale_mode,
            .b_scale_major = d.b_scale_major,
            .b_major = d.b_major,
            .sm_budget = d.sm_budget,
            .flags = d.flags,
            .max_block_m = d.max_block_m,
            .max_block_n = d.max_block_n,
            .alignment = d.alignment,
            .end_rows = d.group_layout == DGRT_GROUP_END_ROW};
  }
  static Status check_desc(const Desc& d) {
    if (d.group_layout > DGRT_GROUP_END_ROW)
      return invalid("group_layout={}: must be GROUP_OF_ROW (0) or GROUP_END_ROW (1)",
                     d.group_layout);
    if (d.alignment != 64 && d.alignment != 128)
      return invalid("alignment={}: must be 64 or 128", d.alignment);
    return check_spec(spec(d), known_flags);
  }
  static Call call(const Desc&, const Args& x) {
    return {.a = x.a,
            .b = x.b,
            .a_scale = x.a_scale,
            .b_scale = x.b_scale,
            .d = x.d,
            .groups = x.groups,
            .m = x.m,
            .expected_m = x.m,
            .lda = x.lda,
            .ldb = x.ldb,
            .ldd = x.ldd,
            .ld_a_scale = x.ld_a_scale,
            .ld_b_scale = x.ld_b_scale,
            .b_stride = x.b_group_stride,
            .b_scale_stride = x.b_scale_group_stride};
  }
};

template <class T>
struct Masked : OpBase<T, dgrt_gemm_grouped_masked_desc, dgrt_gemm_grouped_masked_args> {
  using Desc = dgrt_gemm_grouped_masked_desc;
  using Args = dgrt_gemm_grouped_masked_args;
  static constexpr uint32_t op_id = DGRT_OP_GEMM_GROUPED_MASKED;
  static constexpr const char* op = "gemm_grouped_masked";
  static constexpr const char* selector_name = "expected_m";
  static constexpr uint32_t known_flags = DGRT_GEMM_UNALIGNED_D | DGRT_GEMM_SIGNAL;

  static Spec spec(const Desc& d) {
    return {.n = d.n,
            .k = d.k,
            .max_m = d.max_m,
            .grouping = Grouping::masked,
            .num_groups = d.num_groups,
            .dtype_ab = d.dtype_ab,
            .dtype_d = d.dtype_d,
            .scale_mode = d.scale_mode,
            .b_scale_major = d.b_scale_major,
            .b_major = d.b_major,
            .sm_budget = d.sm_budget,
            .flags = d.flags,
            .max_block_m = d.max_block_m,
            .max_block_n = d.max_block_n};
  }
  static Status check_desc(const Desc& d) {
    if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
    return check_spec(spec(d), known_flags);
  }
  static Point point(const Args& x) { return {x.m == 0 ? 0 : x.expected_m}; }
  static Call call(const Desc&, const Args& x) {
    return {.a = x.a,
            .b = x.b,
            .a_scale = x.a_scale,
            .b_scale = x.b_scale,
            .d = x.d,
            .groups = x.masked_m,
            .signal = x.signal,
            .m = x.m,
            .expected_m = x.expected_m,
            .lda = x.lda,
            .ldb = x.ldb,
            .ldd = x.ldd,
            .ld_a_scale = x.ld_a_scale,
            .ld_b_scale = x.ld_b_scale,
            .a_stride = x.a_group_stride,
            .b_stride = x.b_group_stride,
            .d_stride = x.d_group_stride,
            .a_scale_stride = x.a_scale_group_stride,
            .b_scale_stride = x.b_scale_group_stride};
  }
};

template <class T>
struct Batched : OpBase<T, dgrt_gemm_batched_desc, dgrt_gemm_batched_args> {
  using Desc = dgrt_gemm_batched_desc;
  using Args = dgrt_gemm_batched_args;
  static constexpr uint32_t op_id = DGRT_OP_GEMM_BATCHED;
  static constexpr const char* op = "gemm_batched";
  static constexpr uint32_t known_flags =
      DGRT_GEMM_WITH_C | DGRT_GEMM_UNALIGNED_D | DGRT_GEMM_SUM_BATCHES;

  static bool is_sum(const Desc& d) { return (d.flags & DGRT_GEMM_SUM_BATCHES) != 0; }
  static Spec spec(const Desc& d) {
    return {.n = d.n,
            .k = d.k,
            .max_m = d.max_m,
            .grouping = is_sum(d) ? Grouping::batch_sum : Grouping::batched,
            .num_groups = d.num_batches,
            .dtype_ab = d.dtype_ab,
            .dtype_d = d.dtype_d,
            .scale_mode = d.scale_mode,
            .b_scale_major = d.b_scale_major,
            .a_major = d.a_major,
            .b_major = d.b_major,
            .sm_budget = d.sm_budget,
            .flags = d.flags,
            .max_block_m = d.max_block_m,
            .max_block_n = d.max_block_n};
  }
  static Status check_desc(const Desc& d) {
    if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
    return check_spec(spec(d), known_flags);
  }
  static Call call(const Desc&, const Args& x) {
    return {.a = x.a,
            .b = x.b,
            .c = x.c,
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
            .ld_b_scale = x.ld_b_scale,
            .a_stride = x.a_batch_stride,
            .b_stride = x.b_batch_stride,
            .c_stride = x.c_batch_stride,
            .d_stride = x.d_batch_stride,
            .a_scale_stride = x.a_scale_batch_stride,
            .b_scale_stride = x.b_scale_batch_stride,
            .stride_suffix = "_batch_stride"};
  }
  static uint64_t state_bytes(const Desc& d, const Target& t) {
    return is_sum(d) ? parts_state_bytes(make_traits(spec(d), t)) : 0;
  }
  static uint64_t workspace_bytes(const Desc& d, const Prepared& prepared, const Point& point) {
    return point[0] == 0 ? 0 : parts_bytes(spec(d), prepared.as<Plan>());
  }
  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                     void* workspace, Launch* launch) {
    Call bound = call(d, x);
    bound.parts = static_cast<std::byte*>(workspace);
    return gemm::bind(spec(d), bound, prepared.as<Plan>(), driver, launch);
  }
};

}  // namespace dgrt::gemm
