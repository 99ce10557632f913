// gemm_grouped_k_bf16, host side. What it accepts and how a call is bound: gemm_grouped_k.h and
// gemm_common.h.
#include "runtime/ops/gemm_grouped_k.h"

namespace dgrt {

struct GemmGroupedKBf16 : gemm::GroupedK<GemmGroupedKBf16> {
  static constexpr const char* stem = "gemm_grouped_k_bf16";
  static constexpr bool fp8 = false;
};
DGRT_OP(GemmGroupedKBf16, gemm_grouped_k_bf16);

}  // namespace dgrt
