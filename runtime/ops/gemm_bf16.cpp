// gemm_bf16, host side: what is accepted, which tiles are legal, how one call is launched.
// Pure and cheap: no device allocation, no compilation, no file access.
#include "gemm/sm90_gemm_bf16.cuh"  // interface half: Params, smem_bytes()
#include "runtime/ops/gemm_common.h"

namespace dgrt {
namespace k90 = sm90::gemm_bf16;

struct GemmBf16 : gemm::OpBase<GemmBf16> {
  static constexpr const char* stem = "gemm_bf16";
  static constexpr const char* header = "gemm/sm90_gemm_bf16.cuh";
  static constexpr const char* name_space = "dgrt::sm90::gemm_bf16";
  static constexpr uint32_t params_bytes = sizeof(k90::Params);
  static constexpr bool scaled = false;  // see Traits

  static bool matches(const Desc& d) {
    return d.dtype_ab == DGRT_BF16 && d.scale_mode == DGRT_SCALE_NONE &&
           (d.dtype_d == DGRT_BF16 || d.dtype_d == DGRT_FP32);
  }
  static bool is_fp32(const Desc& d) { return d.dtype_d == DGRT_FP32; }
  static bool with_c(const Desc& d) { return (d.flags & DGRT_GEMM_WITH_C) != 0; }
  static Config shape(const Desc& d) {
    return {{"n", d.n}, {"k", d.k}, {"d_fp32", is_fp32(d)}, {"with_c", with_c(d)}};
  }

  static Instance instance(const Desc& d, const Target& t, const Config& c) {
    Instance instance = OpBase::instance(d, t, c);
    if (is_fp32(d)) instance.entry += "_fp32";
    if (with_c(d)) instance.entry += "_c";
    instance.cfg.set("d_fp32", is_fp32(d));
    instance.cfg.set("with_c", with_c(d));
    return instance;
  }
  static uint32_t smem_bytes(const Desc& d, const Config& c) {
    return k90::smem_bytes(gemm::decode(c), is_fp32(d) || with_c(d) || gemm::is_ragged(d));
  }
  static Status check_args(const Desc& d, const Args& x) {
    if (x.m == 0) return ok();
    const uint32_t d_bytes = is_fp32(d) ? 4 : 2;
    DGRT_TRY(gemm::check_args(d, x, 2, d_bytes));
    if (x.a_scale != nullptr || x.b_scale != nullptr)
      return invalid("a_scale={} b_scale={}: must be NULL, scale_mode is NONE",
                     static_cast<const void*>(x.a_scale), static_cast<const void*>(x.b_scale));
    if (!with_c(d)) {
      if (x.c != nullptr) return invalid("c={}: must be NULL, the desc has no WITH_C", x.c);
      return ok();
    }
    DGRT_TRY(gemm::check_pointer("c", x.c, 16));
    DGRT_TRY(gemm::check_stride("ldc", x.ldc, d.n, d_bytes));
    if (x.c == x.d && x.ldc != x.ldd)
      return invalid("ldc={} ldd={}: must be equal when c is d", x.ldc, x.ldd);
    return ok();
  }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                     void*, Launch* launch) {
    if (x.m == 0) return ok();
    const auto& plan = prepared.as<gemm::Plan>();
    auto& p = launch->make_params<k90::Params>();
    DGRT_TRY(gemm::encode_maps(driver, d, x, plan, &p.a, &p.b, &p.d));
    p.num_k_blocks = ceil_div(static_cast<uint32_t>(d.k), k90::block_k);
    p.out = gemm::make_output(d, x);
    p.band = plan.band;
    gemm::set_grid(d, x, plan, launch);
    return ok();
  }
};
DGRT_OP(GemmBf16, gemm_bf16);

}  // namespace dgrt
