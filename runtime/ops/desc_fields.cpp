#include "runtime/ops/desc_fields.h"

#include <cstddef>

#include "dgrt/gemm.h"

namespace dgrt {
namespace {

using Kind = DescField::Kind;

// ---- What values are called, in all ops ----

constexpr FieldValue dtypes[] = {
    {"bf16", DGRT_BF16}, {"fp16", DGRT_FP16}, {"fp32", DGRT_FP32}, {"e4m3", DGRT_E4M3}};
constexpr FieldValue scale_modes[] = {{"none", DGRT_SCALE_NONE}, {"block", DGRT_SCALE_BLOCK}};
constexpr FieldValue scale_majors[] = {{"k", DGRT_K_MAJOR}, {"mn", DGRT_MN_MAJOR}};
constexpr FieldValue quant_blocks[] = {{"1x128", DGRT_QUANT_1X128},
                                       {"128x128", DGRT_QUANT_128X128}};
constexpr FieldValue common_flags[] = {{"pdl", DGRT_FLAG_PDL}};
constexpr FieldValue gemm_flags[] = {{"pdl", DGRT_FLAG_PDL}, {"with_c", DGRT_GEMM_WITH_C}};

// ---- Rows: DGRT_FIELD(desc struct, member, kind, values of choice and flags) ----

template <size_t n>
constexpr std::span<const FieldValue> values_of(const FieldValue (&values)[n]) {
  return values;
}
constexpr std::span<const FieldValue> values_of() { return {}; }

#define DGRT_FIELD(type, member, kind, ...)                                                   \
  DescField {                                                                                 \
#member, offsetof(type, member), sizeof(type::member), Kind::kind, values_of(__VA_ARGS__) \
  }

constexpr DescField gemm[] = {
    DGRT_FIELD(dgrt_gemm_desc, n, int64),
    DGRT_FIELD(dgrt_gemm_desc, k, int64),
    DGRT_FIELD(dgrt_gemm_desc, max_m, int64),
    DGRT_FIELD(dgrt_gemm_desc, dtype_ab, choice, dtypes),
    DGRT_FIELD(dgrt_gemm_desc, dtype_d, choice, dtypes),
    DGRT_FIELD(dgrt_gemm_desc, scale_mode, choice, scale_modes),
    DGRT_FIELD(dgrt_gemm_desc, b_scale_major, choice, scale_majors),
    DGRT_FIELD(dgrt_gemm_desc, sm_budget, uint32),
    DGRT_FIELD(dgrt_gemm_desc, flags, flags, gemm_flags),
};

constexpr DescField quant_fp8[] = {
    DGRT_FIELD(dgrt_quant_fp8_desc, k, int64),
    DGRT_FIELD(dgrt_quant_fp8_desc, max_m, int64),
    DGRT_FIELD(dgrt_quant_fp8_desc, block, choice, quant_blocks),
    DGRT_FIELD(dgrt_quant_fp8_desc, scale_major, choice, scale_majors),
    DGRT_FIELD(dgrt_quant_fp8_desc, flags, flags, common_flags),
    DGRT_FIELD(dgrt_quant_fp8_desc, reserved, reserved),
};

constexpr DescField scale_layout[] = {
    DGRT_FIELD(dgrt_scale_layout_desc, k_blocks, int64),
    DGRT_FIELD(dgrt_scale_layout_desc, max_m, int64),
    DGRT_FIELD(dgrt_scale_layout_desc, flags, flags, common_flags),
    DGRT_FIELD(dgrt_scale_layout_desc, reserved, reserved),
};

constexpr DescFields all[] = {
    {DGRT_OP_GEMM, "gemm", sizeof(dgrt_gemm_desc), gemm},
    {DGRT_OP_QUANT_FP8, "quant_fp8", sizeof(dgrt_quant_fp8_desc), quant_fp8},
    {DGRT_OP_SCALE_LAYOUT, "scale_layout", sizeof(dgrt_scale_layout_desc), scale_layout},
};

}  // namespace

std::span<const DescFields> all_desc_fields() { return all; }

const DescFields* find_desc_fields(uint32_t op_id) {
  for (const DescFields& fields : all)
    if (fields.op_id == op_id) return &fields;
  return nullptr;
}

}  // namespace dgrt
