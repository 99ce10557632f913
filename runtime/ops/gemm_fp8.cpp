// gemm_fp8, host side: what is accepted, which tiles are legal, how one call is launched.
// Pure and cheap: no device allocation, no compilation, no file access.
#include "gemm/sm90_gemm_fp8.cuh"  // interface half: Params, smem_bytes()
#include "runtime/ops/gemm_common.h"

namespace dgrt {
namespace k90 = sm90::gemm_fp8;

struct GemmFp8 : gemm::OpBase<GemmFp8> {
  static constexpr const char* stem = "gemm_fp8";
  static constexpr const char* header = "gemm/sm90_gemm_fp8.cuh";
  static constexpr const char* name_space = "dgrt::sm90::gemm_fp8";
  static constexpr uint32_t params_bytes = sizeof(k90::Params);
  static constexpr bool scaled = true;  // see Traits

  static bool matches(const Desc& d) {
    return d.dtype_ab == DGRT_E4M3 && d.scale_mode == DGRT_SCALE_BLOCK && d.dtype_d == DGRT_BF16 &&
           (d.flags & DGRT_GEMM_WITH_C) == 0;
  }
  static Config shape(const Desc& d) { return {{"n", d.n}, {"k", d.k}}; }

  static uint32_t smem_bytes(const Desc& d, const Config& c) {
    return k90::smem_bytes(gemm::decode(c), gemm::is_ragged(d));
  }
  static Status check_args(const Desc& d, const Args& x) {
    if (x.m == 0) return ok();
    DGRT_TRY(gemm::check_args(d, x, 1, 2));
    if (x.c != nullptr) return invalid("c={}: must be NULL, the desc has no WITH_C", x.c);
    if (d.k == 0) return ok();
    DGRT_TRY(gemm::check_pointer("a_scale", x.a_scale, 16));
    DGRT_TRY(gemm::check_pointer("b_scale", x.b_scale, 4));
    DGRT_TRY(gemm::check_stride("ld_a_scale", x.ld_a_scale, x.m, 4));
    const int64_t n_blocks = (d.n + 127) / 128, k_blocks = (d.k + 127) / 128;
    const int64_t least = d.b_scale_major == DGRT_K_MAJOR ? k_blocks : n_blocks;
    if (x.ld_b_scale < least)
      return invalid("ld_b_scale={}: must be at least {}, what a row holds", x.ld_b_scale, least);
    return ok();
  }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                     void*, Launch* launch) {
    if (x.m == 0) return ok();
    const auto& plan = prepared.as<gemm::Plan>();
    auto& p = launch->make_params<k90::Params>();
    DGRT_TRY(gemm::encode_maps(driver, d, x, plan, &p.a, &p.b, &p.d));
    p.num_k_blocks = ceil_div(static_cast<uint32_t>(d.k), k90::block_k);
    if (d.k > 0)
      DGRT_TRY(encode_tensor_map(
          driver,
          {DGRT_FP32, x.a_scale, p.num_k_blocks, static_cast<uint64_t>(x.m),
           static_cast<uint64_t>(x.ld_a_scale), 1, plan.config.block_m, Swizzle::none},
          &p.a_scale));
    p.out = gemm::make_output(d, x);
    p.b_scale = x.b_scale;
    const bool k_major = d.b_scale_major == DGRT_K_MAJOR;
    p.b_scale_n_stride = k_major ? static_cast<uint64_t>(x.ld_b_scale) : 1;
    p.b_scale_k_stride = k_major ? 1 : static_cast<uint64_t>(x.ld_b_scale);
    p.band = plan.band;
    gemm::set_grid(d, x, plan, launch);
    return ok();
  }
};
DGRT_OP(GemmFp8, gemm_fp8);

}  // namespace dgrt
