// gemm_grouped_k_fp8, host side. What it accepts and how a call is bound: gemm_grouped_k.h and
// gemm_common.h.
#include "runtime/ops/gemm_grouped_k.h"

namespace dgrt {

struct GemmGroupedKFp8 : gemm::GroupedK<GemmGroupedKFp8> {
  static constexpr const char* stem = "gemm_grouped_k_fp8";
  static constexpr bool fp8 = true;
};
DGRT_OP(GemmGroupedKFp8, gemm_grouped_k_fp8);

}  // namespace dgrt
