// Whether the logits of mqa_logits and paged_mqa_logits are those of their inputs, against a naive reference;
// and whether nothing else was written.
#pragma once
#include <cstdint>
#include <string>

#include "dgrt/indexer.h"
#include "runtime/base/status.h"
#include "tools/lib/lab_device.h"

namespace dgrt::lab {

struct LogitsError {
  uint64_t logits = 0;    // compared, in how many rows
  uint64_t rows = 0;
  double calc_diff = 0;   // 1 - 2 <got, want> / (<got, got> + <want, want>)
  double worst_tile = 0;  // of 128 columns of a row the largest, as calc_diff, beside what squares so many logits usually have
  std::string to_string() const;
};

// What a right result keeps below. wgmma adds e4m3 products up with 14 bits or so; bf16 has 8.
constexpr double logits_limit_fp32 = 5e-6, logits_limit_bf16 = 3e-5;

// Of up to `most_rows` rows, evenly spread. `out`: all of the output memory as the launch left it, poisoned
// before; args.out lies in it. INTERNAL: a limit is passed; a logit is NaN where it must not be, or the other way
// round; a column without a logit is not minus infinity with CLEAN, or was written without; what lies between
// rows was written.
Result<LogitsError> check_mqa_logits(const Device& device, const dgrt_mqa_logits_desc& desc,
                                     const dgrt_mqa_logits_args& args, const DeviceBuffer& out, int64_t most_rows);
Result<LogitsError> check_mqa_logits(const Device& device, const dgrt_paged_mqa_logits_desc& desc,
                                     const dgrt_paged_mqa_logits_args& args, const DeviceBuffer& out,
                                     int64_t most_rows);

}  // namespace dgrt::lab
