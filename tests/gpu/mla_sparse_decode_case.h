// Operands, plans and checks of mla_sparse_decode's tests: caches whose unnamed slots are NaN, lists with holes,
// repeated slots and, past their ends, garbage.
#pragma once
#include <string>
#include <vector>

#include "dgrt/mla.h"
#include "tests/gpu/gpu_test.h"
#include "tools/lib/lab_mla_sparse_check.h"

namespace dgrt::test {

enum class ListLengths { all, of_requests, of_tokens };

struct SparseCase {
  int64_t heads = 16, batch = 1, q_len = 1;
  int64_t top_k = 64, extra_top_k = 0;
  int64_t page_size = 64, extra_page_size = 2;
  int64_t num_slots = 300;  // about, of each cache
  dgrt_mla_kv_format format = DGRT_MLA_KV_V32;
  ListLengths lengths = ListLengths::all;
  double holes = 0.1;  // of the indices name no slot
  bool sinks = false, lse = true, padded = false;
  uint32_t flags = 0, sm_budget = 0;
  int64_t most_checked = 1 << 20;  // tokens, about

  int64_t tokens() const { return batch * q_len; }
  std::string name() const;
};

class SparseRun {
 public:
  static Result<SparseRun> make(Gpu& gpu, const SparseCase& test);

  // One call's outputs, poisoned.
  struct Outputs {
    lab::DeviceBuffer o, lse;
    dgrt_mla_sparse_decode_args args = DGRT_MLA_SPARSE_DECODE_ARGS;
  };
  Result<Outputs> outputs() const;
  Status launch(const Outputs& out) const { return plan_.launch(&out.args.op, gpu_->lab->stream()); }
  // Compares with the reference. Also guards and counters, and what must not have been written.
  Result<std::string> check(const Outputs& out);
  // Others, of the same lists.
  Status set_lengths(uint64_t seed);

  const Plan& plan() const { return plan_; }

 private:
  // A cache and its lists.
  struct Pool {
    int64_t top_k, page_size, num_pages, page_stride, index_stride;
    lab::DeviceBuffer cache, indices, lengths;
    std::vector<std::byte> cache_image;
    std::vector<int32_t> index_image, length_image;
  };
  Status make_pool(int64_t top_k, int64_t page_size, uint64_t seed, Pool* pool) const;
  void fill_slot(int64_t slot, uint64_t seed, Pool* pool) const;
  Status make_queries();
  Status check_state() const;

  Gpu* gpu_ = nullptr;
  SparseCase test_;
  dgrt_mla_sparse_decode_desc desc_ = DGRT_MLA_SPARSE_DECODE_DESC;
  Pool main_, extra_;
  lab::DeviceBuffer q_, sinks_;
  std::vector<uint16_t> q_image_;
  std::vector<float> sinks_image_;
  int64_t columns_ = 0, q_head_ = 0, o_head_ = 0;  // strides of heads
  Plan plan_;
};

// Runs the case once, checked.
void run_sparse(Gpu& gpu, const SparseCase& test);
// Each round launches three times back to back; all give the first launch's bits.
void run_sparse_repeats(Gpu& gpu, const SparseCase& test, int rounds);
// Every request in a call of its own gives the bits of the whole batch.
void run_sparse_one_by_one(Gpu& gpu, const SparseCase& test);
// A captured launch, with other lengths each time.
void run_sparse_replays(Gpu& gpu, const SparseCase& test, int replays);

}  // namespace dgrt::test
