// gemm_batched_fp8, host side. What it accepts and how a call is bound: gemm_grouped.h and gemm_common.h.
#include "runtime/ops/gemm_grouped.h"

namespace dgrt {

struct GemmBatchedFp8 : gemm::Batched<GemmBatchedFp8> {
  static constexpr const char* stem = "gemm_batched_fp8";
  static constexpr bool fp8 = true;
};
DGRT_OP(GemmBatchedFp8, gemm_batched_fp8);

}  // namespace dgrt
