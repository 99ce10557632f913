// Did mla_sparse_decode do what dgrt/mla.h says? On the CPU in fp64, from copies of all that a call read and wrote.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "dgrt/mla.h"
#include "runtime/base/status.h"

namespace dgrt::lab {

// Each begins where the pointer of args points; empty where that is NULL.
struct SparseDecodeImages {
  std::vector<uint16_t> q, o;
  std::vector<float> lse, sinks;
  std::vector<std::byte> cache, extra_cache;
  std::vector<int32_t> indices, extra_indices, lengths, extra_lengths;
};

// Errors over what is allowed, the largest: of an element of o 1e-3 or 2.01 / 128 of itself, of an lse 1e-5 and
// 8.01 / 65536 of itself, of a token's o 5e-6 of 1 - 2 <got, want> / (<got, got> + <want, want>).
struct SparseDecodeError {
  int64_t checked = 0;  // elements of o
  double worst_element = 0, worst_lse = 0, worst_diff = 0;
  std::string to_string() const;
};

// Checks about `most` tokens. INTERNAL names what is wrong.
Result<SparseDecodeError> check_mla_sparse_decode(const dgrt_mla_sparse_decode_desc& desc,
                                                  const dgrt_mla_sparse_decode_args& args,
                                                  const SparseDecodeImages& images, int64_t most = INT64_MAX);

// INTERNAL: o or lse was written between its rows. Both were poisoned with 0xff before the call.
Status check_mla_sparse_untouched(const dgrt_mla_sparse_decode_desc& desc, const dgrt_mla_sparse_decode_args& args,
                                  SparseDecodeImages images);

}  // namespace dgrt::lab
