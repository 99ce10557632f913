// gemm_grouped_contiguous_fp8, host side. What it accepts and how a call is bound: gemm_grouped.h and gemm_common.h.
#include "runtime/ops/gemm_grouped.h"

namespace dgrt {

struct GemmGroupedContiguousFp8 : gemm::Contiguous<GemmGroupedContiguousFp8> {
  static constexpr const char* stem = "gemm_grouped_contiguous_fp8";
  static constexpr bool fp8 = true;
};
DGRT_OP(GemmGroupedContiguousFp8, gemm_grouped_contiguous_fp8);

}  // namespace dgrt
