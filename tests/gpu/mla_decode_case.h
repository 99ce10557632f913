// Operands, plans and checks of mla_decode's tests: a cache of latent rows whose pages lie in random order, with NaN
// in every slot that no query may see.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "dgrt/mla.h"
#include "tests/gpu/gpu_test.h"

namespace dgrt::test {

enum class MlaLayout {
  tokens_first,  // [pages, page_size, heads, columns]
  heads_first,   // [pages, heads, page_size, columns]
  padded,        // as tokens_first, with 16 to 48 bytes between heads, tokens and pages; q and o likewise
};

struct MlaCase {
  int64_t num_q_heads = 16, num_kv_heads = 1;
  std::vector<std::pair<int64_t, int64_t>> lens = {};  // queries and keys of each sequence
  int64_t page_size = 64;
  bool causal = true, lse = true;
  dgrt_dtype dtype = DGRT_BF16, dtype_kv = 0, dtype_q = 0;
  uint32_t flags = 0, sm_budget = 0;
  MlaLayout layout = MlaLayout::tokens_first;
  float sigma = 1;  // of q; the cache has 1
  bool every_code = false;  // of e4m3, q and the cache hold every code, NaN among them
  int64_t most_checked = 64;  // tokens, about

  int64_t num_q() const;
  std::string name() const;
};

class MlaRun {
 public:
  static Result<MlaRun> make(Gpu& gpu, const MlaCase& test);

  // Other numbers of keys, none above the case's.
  Status set_kv_lens(const std::vector<int32_t>& lens) const;

  // One call's outputs, poisoned.
  struct Outputs {
    lab::DeviceBuffer o, lse;
    dgrt_mla_decode_args args = DGRT_MLA_DECODE_ARGS;
  };
  Result<Outputs> outputs() const;
  Status launch(const Outputs& out) const { return plan_.launch(&out.args.op, gpu_->lab->stream()); }
  // Compares with the reference, then poisons: nothing else may have been written. Also guards and counters.
  Result<std::string> check(const Outputs& out) const;

  const Plan& plan() const { return plan_; }
  int64_t q_bytes() const { return test_.dtype_q == DGRT_E4M3 ? 1 : 2; }  // of an element

 private:
  struct Strides {
    int64_t page, token, head;  // elements
  };
  Strides cache_strides() const;
  int64_t padding() const { return test_.layout == MlaLayout::padded ? 8 : 0; }  // of a row of o
  Status make_tables();
  Status plant_nan() const;
  void set_args(dgrt_mla_decode_args* args) const;
  Status check_state() const;

  Gpu* gpu_ = nullptr;
  MlaCase test_;
  dgrt_mla_decode_desc desc_ = DGRT_MLA_DECODE_DESC;
  int64_t num_pages_ = 0, max_pages_ = 0;
  std::vector<int32_t> pages_;  // the table, rows of max_pages_
  int64_t kv_bytes() const { return test_.dtype_kv == DGRT_E4M3 ? 1 : 2; }  // of an element
  int64_t padding_q() const { return padding() * 2 / q_bytes(); }  // of a row of q
  Status fill(const lab::DeviceBuffer& to, int64_t bytes, uint64_t seed, float sigma) const;

  lab::DeviceBuffer q_, kv_, q_indptr_, seq_lens_, page_table_, scales_;
  Plan plan_;
};

// Runs the case once, checked.
void run_mla(Gpu& gpu, const MlaCase& test);
// Each round launches three times back to back; all give the first launch's bits.
void run_mla_repeats(Gpu& gpu, const MlaCase& test, int rounds);
// Every sequence in a call of its own gives the bits of the whole batch.
void run_mla_one_by_one(Gpu& gpu, const MlaCase& test);
// replays: numbers of keys of every sequence, see set_kv_lens().
void run_mla_replays(Gpu& gpu, const MlaCase& test, const std::vector<std::vector<int32_t>>& replays);

}  // namespace dgrt::test
