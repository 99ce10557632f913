// Operands, plans and checks of the tests of attn_decode and of attn_extend, whose structs begin
// alike: a cache whose pages lie in random order, with NaN in every slot that no query may see.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "dgrt/attention.h"
#include "tests/gpu/attn_mask_case.h"
#include "tests/gpu/gpu_test.h"

namespace dgrt::test {

enum class CacheLayout {
  tokens_first,  // [pages, page_size, heads, columns]
  heads_first,   // [pages, heads, page_size, columns]
  padded,        // as tokens_first, with 8 to 24 columns between heads, tokens and pages
};

struct DecodeCase {
  uint32_t op_id = DGRT_OP_ATTN_DECODE;
  int64_t num_q_heads = 8, num_kv_heads = 2, head_dim_qk = 128, head_dim_v = 128;
  std::vector<std::pair<int64_t, int64_t>> lens = {};  // queries and keys of each sequence
  int64_t page_size = 16;
  int64_t window_left = -1, window_right = 0;
  float softcap = 0;
  bool sinks = false;
  dgrt_dtype dtype = DGRT_BF16, dtype_kv = 0;
  bool scale_per_head = true;  // e4m3 only
  uint32_t flags = 0, sm_budget = 0;
  CacheLayout layout = CacheLayout::tokens_first;
  float sigma = 1;  // of q; keys and values have 1
  int64_t hint_factor = 1;
  int64_t most_checked = INT64_MAX;  // tokens
  MaskShape mask = MaskShape::none;  // flags say how it is encoded
  int64_t mask_bytes_cut = 0;        // of mask_bytes, at the end

  int64_t num_q() const;
  int64_t kv_bytes() const { return dtype_kv == DGRT_E4M3 ? 1 : 2; }
  std::string name() const;
};

using Lens = std::vector<std::pair<int64_t, int64_t>>;

inline DecodeCase sized(std::pair<int64_t, int64_t> head_size, Lens lens) {
  DecodeCase test;
  test.head_dim_qk = head_size.first, test.head_dim_v = head_size.second;
  test.lens = std::move(lens);
  return test;
}

// One sequence that many SMs share among short ones.
inline Lens uneven(int64_t count, int64_t longest) {
  Lens lens;
  for (int64_t i = 0; i < count; ++i) lens.push_back({1 + i % 3, i * 37 % 200});
  lens[static_cast<size_t>(count) / 2] = {2, longest};
  return lens;
}

// An entry of the page table.
struct PageEntry {
  int64_t sequence, column;
  int32_t page;
};

// The other op's call. attn_decode's has no kv_start.
dgrt_attn_extend_args to_extend(const dgrt_attn_decode_args& args);
dgrt_attn_decode_args to_decode(const dgrt_attn_extend_args& args);

class DecodeRun {
 public:
  static Result<DecodeRun> make(Gpu& gpu, const DecodeCase& test);

  // Other numbers of keys, none above the case's. What they leave unused is no longer NaN.
  Status set_kv_lens(const std::vector<int32_t>& lens) const;

  // The case's page table, but for these entries. Zeroes page 0, which is nobody's.
  // Requires: CacheLayout::tokens_first.
  Status set_entries(const std::vector<PageEntry>& entries) const;
  int64_t num_pages() const { return num_pages_; }

  // Elements of the cache of values, from its start.
  Status set_values(const std::vector<uint8_t>& bytes) const {
    return v_.upload(bytes.data(), bytes.size());
  }

  // Writes the cache of `from`, of 16 bits and else the same case, into this one of e4m3 by kv_append.
  // Requires: CacheLayout::tokens_first, where pages are tokens one behind the other.
  Status append(const DecodeRun& from) const;

  // One call's outputs, poisoned.
  struct Outputs {
    lab::DeviceBuffer o, lse;
    dgrt_attn_decode_args args = DGRT_ATTN_DECODE_ARGS;
  };
  Result<Outputs> outputs() const;
  Status launch(const Outputs& out) const {
    return plan_.launch(&out.args.op, gpu_->lab->stream());
  }
  // Compares with the reference, then poisons: nothing else may have been written. Also guards and counters.
  Result<std::string> check(const Outputs& out) const;
  // The counters are zero again, and nothing was written beyond the workspace's end.
  Status check_state() const;
  Result<std::string> launch_and_check() const;

  const Plan& plan() const { return plan_; }
  const DecodeCase& test() const { return test_; }

 private:
  struct Strides {
    int64_t page, token, head;  // elements
  };
  Strides cache_strides(int64_t columns) const;
  Status make_tables();
  Status fill() const;
  Status plant_nan(const lab::DeviceBuffer& cache, int64_t columns) const;
  Status plant_masked_nan() const;
  Status upload_mask(const std::vector<std::pair<int64_t, int64_t>>& lens) const;
  void set_args(dgrt_attn_decode_args* args) const;

  Gpu* gpu_ = nullptr;
  DecodeCase test_;
  dgrt_attn_decode_desc desc_ = DGRT_ATTN_DECODE_DESC;
  int64_t num_pages_ = 0, max_pages_ = 0;
  std::vector<int32_t> pages_;  // the table, rows of max_pages_
  lab::DeviceBuffer scales_;  // of keys, then of values
  lab::DeviceBuffer q_, k_, v_, sinks_, q_indptr_, seq_lens_, page_table_, mask_, mask_indptr_;
  Plan plan_;
};

// Runs the case once, checked.
void run_decode(Gpu& gpu, const DecodeCase& test);
// Each round launches three times back to back; all give the first launch's bits.
void run_repeats(Gpu& gpu, const DecodeCase& test, int rounds);
// Every sequence in a call of its own gives the bits of the whole batch.
void run_one_by_one(Gpu& gpu, const DecodeCase& test);
// The case's mask is a chain: the bits are those of a call without it. Requires: configs are alike.
void run_against_causal(Gpu& gpu, const DecodeCase& test);
// replays: numbers of keys of every sequence, see set_kv_lens().
void run_graph_replay(Gpu& gpu, const DecodeCase& test,
                      const std::vector<std::vector<int32_t>>& replays);

}  // namespace dgrt::test
