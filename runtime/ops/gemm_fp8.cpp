// gemm_fp8, host side. What it accepts and how a call is bound: gemm_dense.h and gemm_common.h.
#include "runtime/ops/gemm_dense.h"

namespace dgrt {

struct GemmFp8 : gemm::Dense<GemmFp8> {
  static constexpr const char* stem = "gemm_fp8";
  static constexpr bool fp8 = true;
};
DGRT_OP(GemmFp8, gemm_fp8);

}  // namespace dgrt
