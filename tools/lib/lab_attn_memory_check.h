// Did attn_merge and kv_append do what the formulas in dgrt/attention.h say? On the CPU, from copies of all
// that a call read and wrote.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "dgrt/attention.h"
#include "runtime/base/status.h"

namespace dgrt::lab {

using Bytes = std::vector<std::byte>;

// One element of a tensor, as a float.
float element_at(const Bytes& tensor, dgrt_dtype dtype, int64_t index);

// Each begins where the pointer of args points. lse and sinks: empty where that is NULL.
struct MergeImages {
  Bytes part_o;
  std::vector<float> part_lse;
  Bytes o;
  std::vector<float> lse, sinks;
};

struct MergeError {
  int64_t rows = 0;  // compared
  double worst = 0;  // error, in allowances: at most 1
};

// Compares about `most_rows` rows, evenly spread, with sums in fp64. INTERNAL names the first wrong element.
// Allowed: one rounding to o's type, and for weights and sums in fp32 1e-5 of sum w_i |o_i|.
Result<MergeError> check_attn_merge(const dgrt_attn_merge_desc& desc,
                                    const dgrt_attn_merge_args& args, const MergeImages& images,
                                    int64_t most_rows);

struct AppendImages {
  Bytes k, v, k_cache, v_cache;
  std::vector<int64_t> slots;
  std::vector<float> k_scale, v_scale;  // empty where NULL
};

// Byte for byte, what no token goes to included: it holds 0xff. INTERNAL names the first wrong byte.
Status check_kv_append(const dgrt_kv_append_desc& desc, const dgrt_kv_append_args& args,
                       const AppendImages& images);

}  // namespace dgrt::lab
