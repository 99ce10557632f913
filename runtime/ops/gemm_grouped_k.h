// gemm_grouped_k: its desc and args in the family's form, for both of its stems. The family's m and n
// are fixed in the desc here; what varies by call is k, over all groups.
#pragma once
#include <algorithm>

#include "runtime/ops/gemm_common.h"

namespace dgrt::gemm {

template <class T>
struct GroupedK : OpBase<T, dgrt_gemm_grouped_k_desc, dgrt_gemm_grouped_k_args> {
  using Base = OpBase<T, dgrt_gemm_grouped_k_desc, dgrt_gemm_grouped_k_args>;
  using Desc = dgrt_gemm_grouped_k_desc;
  using Args = dgrt_gemm_grouped_k_args;
  static constexpr uint32_t op_id = DGRT_OP_GEMM_GROUPED_K;
  static constexpr const char* op = "gemm_grouped_k";
  static constexpr uint32_t known_flags = DGRT_GEMM_WITH_C;

  // `k`: of one group for the model, of all of them for a call.
  static Spec spec_of(const Desc& d, int64_t k) {
    const dgrt_major major = d.dtype_ab == DGRT_E4M3 ? DGRT_K_MAJOR : DGRT_MN_MAJOR;
    return {.n = d.n,
            .k = k,
            .max_m = d.m,
            .grouping = Grouping::k,
            .num_groups = d.num_groups,
            .dtype_ab = d.dtype_ab,
            .dtype_d = d.dtype_d,
            .scale_mode = d.scale_mode,
            .b_scale_major = DGRT_K_MAJOR,
            .a_major = major,
            .b_major = major,
            .sm_budget = d.sm_budget,
            .flags = d.flags,
            .max_block_m = d.max_block_m,
            .max_block_n = d.max_block_n};
  }
  static Spec spec(const Desc& d) { return spec_of(d, d.max_k); }
  static Spec spec_of_group(const Desc& d, const Point& p) {
    return spec_of(d, std::max<int64_t>(1, p[0] / d.num_groups));
  }

  static Status check_desc(const Desc& d) {
    if (d.m < 1 || d.m > max_size) return invalid("m={}: must be in 1..{}", d.m, max_size);
    if (d.max_k < 0 || d.max_k > max_size)
      return invalid("max_k={}: must be in 0..{}", d.max_k, max_size);
    return check_spec(spec(d), known_flags);
  }
  // Tiles and their number do not depend on k: few cells. Short groups want smaller tiles.
  static std::vector<SelectorVar> selector(const Desc& d) {
    return {{"k", d.max_k, {1024, 2048, 4096, 8192, 16384, 32768, 65536, max_size}}};
  }
  static Config shape(const Desc& d) {
    Config shape = gemm::shape(spec(d));
    shape.set("m", d.m);
    return shape;
  }
  static std::vector<Config> candidates(const Desc& d, const Target& t, const Point& p) {
    if (t.arch != "sm_90a") return {};
    return gemm::candidates(make_traits(spec_of_group(d, p), t), d.m);
  }
  static Point same_candidates(const Desc&, const Point&) { return {}; }  // whatever k is
  static int64_t cost_ps(const Desc& d, const Target& t, const Point& p, const Config& c) {
    return gemm::cost_ps(make_traits(spec_of_group(d, p), t), d.m, decode(c));
  }

  static Point point(const Args& x) { return {x.k}; }
  static Call call(const Desc& d, const Args& x) {
    return {.a = x.a,
            .b = x.b,
            .c = x.c,
            .a_scale = x.a_scale,
            .b_scale = x.b_scale,
            .d = x.d,
            .groups = x.ks,
            .m = d.m,
            .expected_m = d.m,
            .lda = x.lda,
            .ldb = x.ldb,
            .ldc = x.ldc,
            .ldd = x.ldd,
            .ld_a_scale = x.ld_a_scale,
            .ld_b_scale = x.ld_b_scale,
            .c_stride = x.c_group_stride,
            .d_stride = x.d_group_stride};
  }
  static Status check_args(const Desc& d, const Args& x) {
    if (d.dtype_ab == DGRT_E4M3 && x.k % 128 != 0)
      return invalid("k={}: must be a multiple of 128", x.k);
    return check_call(spec_of(d, x.k), call(d, x));
  }
  static uint64_t workspace_bytes(const Desc& d, const Prepared& prepared, const Point&) {
    const Plan& plan = prepared.as<Plan>();
    return uint64_t{plan.max_clusters} * gemm_cluster_size(plan.config) * d.num_groups * 2 *
           sizeof(TensorMap);
  }
  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                     void* workspace, Launch* launch) {
    Call bound = call(d, x);
    // The maps in the parameters are patterns for those of the groups: of e4m3 only their boxes count.
    if (d.dtype_ab == DGRT_E4M3) bound.lda = bound.ldb = (x.k + 15) / 16 * 16;
    bound.maps = static_cast<TensorMap*>(workspace);
    return gemm::bind(spec_of(d, x.k), bound, prepared.as<Plan>(), driver, launch);
  }
};

}  // namespace dgrt::gemm
