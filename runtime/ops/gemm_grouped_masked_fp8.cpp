// gemm_grouped_masked_fp8, host side. What it accepts and how a call is bound: gemm_grouped.h and gemm_common.h.
#include "runtime/ops/gemm_grouped.h"

namespace dgrt {

struct GemmGroupedMaskedFp8 : gemm::Masked<GemmGroupedMaskedFp8> {
  static constexpr const char* stem = "gemm_grouped_masked_fp8";
  static constexpr bool fp8 = true;
};
DGRT_OP(GemmGroupedMaskedFp8, gemm_grouped_masked_fp8);

}  // namespace dgrt
