// Whether hc_prenorm's sums are those of its inputs, against a reference in fp64; and whether
// hc_prenorm_weights split its input as the formula in dgrt/hyper.h says, byte for byte.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "dgrt/hyper.h"
#include "runtime/base/status.h"
#include "tools/lib/lab_device.h"

namespace dgrt::lab {

struct HcError {
  uint64_t checked = 0;   // elements of z and q
  double calc_diff = 0;   // of z: 1 - 2 <got, want> / (<got, got> + <want, want>)
  double worst_tile = 0;  // the largest calc_diff of 64 rows of one split
  double worst_q = 0;     // |got - want| / want
  std::string to_string() const;
};

// What a right result keeps below. (See Numerics in dgrt/hyper.h; bf16 parts alone give 3e-12.)
constexpr double hc_z_limit = 1e-10, hc_q_limit = 2e-6;

// The reference of a call whose args name its inputs: [splits, m, n + 1], z and then q.
Result<std::vector<double>> reference_sums(const Device& device, const dgrt_hc_prenorm_desc& desc,
                                           const dgrt_hc_prenorm_args& args, const float* f,
                                           int64_t ldf);

// INTERNAL: a limit is passed, something is finite that must not be or the other way round, or an
// element between rows and splits was written. `z`, `q`: all of the output memory as it was left,
// poisoned before.
Result<HcError> check_hc_prenorm(const dgrt_hc_prenorm_desc& desc, const dgrt_hc_prenorm_args& args,
                                 std::span<const double> reference, std::span<const float> z,
                                 std::span<const float> q);

// INTERNAL names the first wrong element.
Status check_hc_prenorm_weights(const dgrt_hc_prenorm_weights_desc& desc, int64_t ldf,
                                std::span<const float> f, std::span<const uint16_t> w);

}  // namespace dgrt::lab
