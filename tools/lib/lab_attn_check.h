// Whether attention is what its inputs say, against a reference in fp64 that recomputes every checked token
// from the operands that the kernel saw, wherever they lie: contiguous or in pages. A bound of its own for
// each element, because a mean hides a wrong column; calc_diff per tile, because a bound that allows for
// every rounding at its worst hides a systematic one.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "dgrt/attention.h"
#include "dgrt/mla.h"
#include "runtime/base/status.h"
#include "tools/lib/lab_attn_reference.cuh"
#include "tools/lib/lab_device.h"

namespace dgrt::lab {

using AttnProblem =
    attn_reference::Params;  // tokens, stats and allowance are check_attn()'s to fill

// Requires: queries, keys and values of e4m3 have scales.
AttnProblem problem_of(const dgrt_attn_prefill_desc& desc, const dgrt_attn_prefill_args& args);
AttnProblem problem_of(const dgrt_attn_decode_desc& desc, const dgrt_attn_decode_args& args);
AttnProblem problem_of(const dgrt_attn_extend_desc& desc, const dgrt_attn_extend_args& args);
AttnProblem problem_of(const dgrt_mla_decode_desc& desc, const dgrt_mla_decode_args& args);
AttnProblem problem_of(const dgrt_mla_sparse_prefill_desc& desc, const dgrt_mla_sparse_prefill_args& args);

struct AttnError {
  uint64_t checked = 0;      // elements of o
  double calc_diff = 0;      // 1 - 2 <got, want> / (<got, got> + <want, want>)
  double worst_tile = 0;     // the largest calc_diff of 64 rows of one head
  double worst_element = 0;  // error over its bound, the largest
  double worst_lse = 0;      // error over what is allowed, the largest; max_logits too
  double logit_error =
      0;  // what the weights of some row may be off by because its logits are large
  std::string to_string() const;
};

constexpr double attn_lse_limit = 1e-3;  // absolute, where logits are small
// Of lists of keys, absolute or relative, whichever is more, as FlashMLA's tests have it.
constexpr double sparse_lse_limit = 1e-6, sparse_lse_relative = 2.01 / 65536;

// Checks the tokens [0, num_tokens), of which at most about `most`: the first, the last, and others spread
// evenly. INTERNAL names what is wrong. Waits for the device.
Result<AttnError> check_attn(const Device& device, const AttnProblem& problem, int64_t num_tokens,
                             int64_t most = INT64_MAX);

// INTERNAL: something was written that the call had not to write, between rows or heads or for tokens of no
// sequence. Requires: o, lse and max_logits (empty: none) were poisoned before the call. Leaves them poisoned.
Status check_attn_untouched(const Device& device, const AttnProblem& problem, int64_t num_tokens,
                            const DeviceBuffer& o, const DeviceBuffer& lse, const DeviceBuffer& max_logits = {});

}  // namespace dgrt::lab
