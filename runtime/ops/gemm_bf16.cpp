// gemm_bf16, host side. What it accepts and how a call is bound: gemm_dense.h and gemm_common.h.
#include "runtime/ops/gemm_dense.h"

namespace dgrt {

struct GemmBf16 : gemm::Dense<GemmBf16> {
  static constexpr const char* stem = "gemm_bf16";
  static constexpr bool fp8 = false;
};
DGRT_OP(GemmBf16, gemm_bf16);

}  // namespace dgrt
