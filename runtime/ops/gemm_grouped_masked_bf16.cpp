// gemm_grouped_masked_bf16, host side. What it accepts and how a call is bound: gemm_grouped.h and gemm_common.h.
#include "runtime/ops/gemm_grouped.h"

namespace dgrt {

struct GemmGroupedMaskedBf16 : gemm::Masked<GemmGroupedMaskedBf16> {
  static constexpr const char* stem = "gemm_grouped_masked_bf16";
  static constexpr bool fp8 = false;
};
DGRT_OP(GemmGroupedMaskedBf16, gemm_grouped_masked_bf16);

}  // namespace dgrt
