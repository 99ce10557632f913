// References for quant_fp8, scale_layout and scale_pack_ue8m0, which have one right answer: copies of
// the operands, on the host, are compared byte for byte with what the formulas in dgrt/gemm.h give.
#pragma once
#include <cstdint>
#include <span>

#include "dgrt/gemm.h"
#include "runtime/base/status.h"

namespace dgrt::lab {

// INTERNAL names the first wrong element. `args` gives m and the strides, its pointers are not
// followed. Whatever lies outside the shape in q and scale (ends of rows, room after the last one)
// must be as fresh DeviceBuffers are: all ones. Requires: the spans hold every row that args names.
Status check_quant_fp8(const dgrt_quant_fp8_desc& desc, const dgrt_quant_fp8_args& args,
                       std::span<const uint16_t> x, std::span<const uint8_t> q,
                       std::span<const uint32_t> scale);

// The same for scale_layout: as bits, so NaN patterns must survive too.
Status check_scale_layout(const dgrt_scale_layout_desc& desc, const dgrt_scale_layout_args& args,
                          std::span<const uint32_t> src, std::span<const uint32_t> dst);

// The UE8M0 code that dgrt/gemm.h asks for, from the number's value.
uint32_t ue8m0_of(float value, bool round_up);

// The same for scale_pack_ue8m0. `ks`: what args.ks holds, empty without K_GROUPED.
Status check_scale_pack(const dgrt_scale_pack_ue8m0_desc& desc,
                        const dgrt_scale_pack_ue8m0_args& args, std::span<const int32_t> ks,
                        std::span<const uint32_t> src, std::span<const uint32_t> dst);

}  // namespace dgrt::lab
