// What tests of attention over e4m3 keys and values share: what codes are worth.
#pragma once
#include <cmath>

#include "tests/gpu/attn_decode_case.h"

namespace dgrt::test {

inline double value_of_code(uint32_t code) {
  const int exponent = static_cast<int>(code >> 3 & 15), fraction = static_cast<int>(code & 7);
  if ((code & 0x7f) == 0x7f) return std::nan("");
  const double size = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return (code & 0x80) != 0 ? -size : size;
}

inline double value_of_half(uint16_t bits, bool is_fp16) {
  const int mantissa_bits = is_fp16 ? 10 : 7, bias = is_fp16 ? 15 : 127;
  const int exponent = (bits & 0x7fff) >> mantissa_bits, one = 1 << mantissa_bits;
  const int fraction = bits & (one - 1);
  if (exponent == 2 * bias + 1) return std::nan("");
  const double size = exponent == 0 ? std::ldexp(fraction, 1 - bias - mantissa_bits)
                                    : std::ldexp(one + fraction, exponent - bias - mantissa_bits);
  return (bits & 0x8000) != 0 ? -size : size;
}

// Elements of o must be the values of the codes.
inline Status check_codes(const std::vector<uint16_t>& o, const std::vector<uint8_t>& codes, dgrt_dtype dtype) {
  for (size_t i = 0; i < codes.size(); ++i) {
    const double want = value_of_code(codes[i]), got = value_of_half(o[i], dtype == DGRT_FP16);
    if (std::isnan(want) ? !std::isnan(got) : got != want)
      return error(DGRT_INTERNAL, "code {:#x} is {}, not {}", codes[i], got, want);
  }
  return ok();
}

inline std::vector<uint8_t> all_codes() {
  std::vector<uint8_t> codes;
  for (int code = 0; code < 256; ++code) codes.push_back(static_cast<uint8_t>(code));
  return codes;
}

// One key of two heads in a paged cache, whose value holds all codes: it is the output.
inline void run_codes(Gpu& gpu, uint32_t op_id, dgrt_dtype dtype) {
  run_case(dtype == DGRT_FP16 ? "fp16" : "bf16", [&]() -> Result<std::string> {
    DecodeCase test = sized({128, 128}, {{1, 1}});
    test.op_id = op_id, test.dtype_kv = DGRT_E4M3;
    test.num_q_heads = 2, test.page_size = 1, test.dtype = dtype;
    DGRT_ASSIGN(const DecodeRun run, DecodeRun::make(gpu, test));
    const std::vector<uint8_t> codes = all_codes();
    std::vector<uint8_t> pages;
    for (int page = 0; page < 3; ++page)  // the sequence's is the second
      pages.insert(pages.end(), codes.begin(), codes.end());
    DGRT_TRY(run.set_values(pages));
    DGRT_ASSIGN(DecodeRun::Outputs out, run.outputs());
    out.args.v_scale = nullptr;
    DGRT_TRY(run.launch(out));
    DGRT_TRY(gpu.lab->synchronize());
    DGRT_ASSIGN(const std::vector<uint16_t> o, out.o.download_all<uint16_t>());
    DGRT_TRY(check_codes(o, codes, dtype));
    return std::string("256 codes");
  });
}

}  // namespace dgrt::test
