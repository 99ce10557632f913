// Operands, plans and checks of attn_prefill's tests.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "dgrt/attention.h"
#include "tests/gpu/gpu_test.h"

namespace dgrt::test {

enum class AttnLayout {
  packed,      // [tokens, heads, columns], nothing between
  padded,      // 16 bytes between heads, more between tokens
  head_major,  // [heads, tokens, columns]
  fused,       // q, k and v are slices of one projection; as many queries as keys
};

struct AttnCase {
  int64_t num_q_heads = 4, num_kv_heads = 2, head_dim_qk = 128, head_dim_v = 128;
  std::vector<std::pair<int64_t, int64_t>> lens = {};  // queries and keys of each sequence
  int64_t window_left = -1, window_right = 0;
  float softcap = 0;
  bool sinks = false, lse = true;
  dgrt_dtype dtype = DGRT_BF16, dtype_kv = 0;
  bool scale_per_head = true;  // e4m3 only
  uint32_t flags = 0;
  AttnLayout layout = AttnLayout::packed;
  float sigma = 1;           // of q; keys and values have 1
  int64_t spare_tokens = 0;  // of no sequence, behind the others; NaN in q, k and v
  std::vector<std::pair<int64_t, int64_t>> nan_keys =
      {};                            // packed: tokens from, to whose k and v are NaN
  int64_t hint_factor = 1;           // max_q_len and max_kv_len are so many times the longest
  int64_t most_checked = INT64_MAX;  // tokens

  int64_t num_q() const;
  int64_t num_kv() const;
  int64_t kv_bytes() const { return dtype_kv == DGRT_E4M3 ? 1 : 2; }
  std::string name() const;
};

class AttnRun {
 public:
  static Result<AttnRun> make(Gpu& gpu, const AttnCase& test);

  // Elements of the values, from their start. e4m3 only.
  Status set_values(const std::vector<uint8_t>& codes) const { return v_.upload(codes.data(), codes.size()); }
  // Other inputs in the same places.
  Status fill(uint64_t seed) const;
  // Other sequences in the same places: as many, with no more tokens altogether.
  Status set_lens(const std::vector<std::pair<int64_t, int64_t>>& lens) const;

  // One call's outputs, poisoned.
  struct Outputs {
    lab::DeviceBuffer o, lse;
    dgrt_attn_prefill_args args = DGRT_ATTN_PREFILL_ARGS;
  };
  Result<Outputs> outputs() const;
  Status poison(const Outputs& out) const;
  Status launch(const Outputs& out) const {
    return plan_.launch(&out.args.op, gpu_->lab->stream());
  }
  // Compares with the reference, then poisons: nothing else may have been written. Also guards and counter.
  Result<std::string> check(const Outputs& out) const;
  Result<std::string> launch_and_check() const;
  Status check_state() const;

  const Plan& plan() const { return plan_; }

 private:
  // Elements, of so many bytes, between tokens and between heads, of one tensor of `heads` heads.
  struct Strides {
    int64_t token, head, elements;  // elements: of a buffer for all tokens
  };
  Strides strides(int64_t tokens, int64_t heads, int64_t columns, int64_t bytes = 2) const;
  void set_args(dgrt_attn_prefill_args* args) const;
  Status fill_tensor(const lab::DeviceBuffer& buffer, int64_t bytes, uint64_t seed, float sigma) const;
  Status plant_nan(const lab::DeviceBuffer& buffer, int64_t heads, int64_t columns, int64_t tokens,
                   int64_t live, int64_t bytes) const;

  Gpu* gpu_ = nullptr;
  AttnCase test_;
  dgrt_attn_prefill_desc desc_ = DGRT_ATTN_PREFILL_DESC;
  lab::DeviceBuffer scales_;  // of keys, then of values
  lab::DeviceBuffer q_, k_, v_, sinks_, q_indptr_, kv_indptr_;  // fused: all of q, k, v in q_
  Plan plan_;
};

// Runs the case once, checked.
void run_attn(Gpu& gpu, const AttnCase& test);

}  // namespace dgrt::test
