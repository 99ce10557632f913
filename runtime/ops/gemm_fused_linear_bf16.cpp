// gemm_fused_linear_bf16, host side. What it accepts and how a call is bound: gemm_fused_linear.h and
// gemm_common.h.
#include "runtime/ops/gemm_fused_linear.h"

namespace dgrt {

struct GemmFusedLinearBf16 : gemm::FusedLinear<GemmFusedLinearBf16> {
  static constexpr const char* stem = "gemm_fused_linear_bf16";
  static constexpr bool fp8 = false;
};
DGRT_OP(GemmFusedLinearBf16, gemm_fused_linear_bf16);

}  // namespace dgrt
