#include "tools/decode_bench.h"

#include <algorithm>
#include <cmath>

#include "tools/attention_bench.h"
#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_tree_mask.h"
#include "tools/paged_tables.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20255;         // of the inputs; any will do
constexpr int64_t most_checked = 1 << 8;  // tokens, of all heads

// Sequences of m queries each, every one with as many keys, whose pages lie in random order.
template <class Desc, class Args>
class PagedBench : public OpBench {
 public:
  PagedBench(const BenchHost& host, const PagedBenchDesc<Desc>& desc, const Args& args)
      : OpBench(host), desc_(desc), args_(args) {}
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  Status set_scale();
  Status make_mask(int64_t m);
  bool is_masked() const { return (desc_.flags & (DGRT_ATTN_MASK_BYTES | DGRT_ATTN_MASK_BITS)) != 0; }
  void set_strides();
  Status check(BenchCheck* check) const override;

 protected:
  Result<lab::DeviceBuffer> make_input(int64_t elements, uint64_t stream) const {
    return make_bench_input(device(), desc_.dtype, elements, seed + stream);
  }
  BenchCost cost(int64_t m) const override;

  PagedBenchDesc<Desc> desc_;
  Args args_;  // but for what prepare() adds
  PagedTables tables_;
  lab::DeviceBuffer q_, k_, v_, o_, lse_, mask_, mask_indptr_, scale_;
};

template <class Desc, class Args>
Status PagedBench<Desc, Args>::set_scale() {
  DGRT_ASSIGN(scale_, lab::DeviceBuffer::make(device(), sizeof(bench_kv_scale)));
  DGRT_TRY(scale_.upload(&bench_kv_scale, sizeof(bench_kv_scale)));
  args_.k_scale = args_.v_scale = scale_.template as<float>();
  return ok();
}

// A tree for each sequence.
template <class Desc, class Args>
Status PagedBench<Desc, Args>::make_mask(int64_t m) {
  if (!is_masked()) return ok();
  Args& x = args_;
  const std::vector<uint8_t> one = lab::tree_mask(m, desc_.prefix, (desc_.flags & DGRT_ATTN_MASK_BITS) != 0);
  std::vector<int64_t> indptr;
  for (int64_t i = 0; i < x.batch; ++i) indptr.push_back(i * static_cast<int64_t>(one.size()));
  x.mask_bytes = x.batch * static_cast<int64_t>(one.size());
  DGRT_ASSIGN(mask_, lab::DeviceBuffer::make(device(), static_cast<size_t>(x.mask_bytes)));
  DGRT_ASSIGN(mask_indptr_, lab::DeviceBuffer::make(device(), indptr.size() * sizeof(int64_t)));
  for (const int64_t first : indptr) DGRT_TRY(mask_.upload(one.data(), one.size(), static_cast<size_t>(first)));
  DGRT_TRY(mask_indptr_.upload(indptr.data(), mask_indptr_.bytes()));
  x.mask = mask_.data(), x.mask_indptr = mask_indptr_.template as<int64_t>();
  return ok();
}

template <class Desc, class Args>
void PagedBench<Desc, Args>::set_strides() {
  Args& x = args_;
  const int64_t qk = desc_.head_dim_qk, dv = desc_.head_dim_v;
  x.q_token_stride = desc_.num_q_heads * qk, x.q_head_stride = qk;
  x.o_token_stride = desc_.num_q_heads * dv, x.o_head_stride = dv;
  x.k_token_stride = desc_.num_kv_heads * qk, x.k_head_stride = qk;
  x.v_token_stride = desc_.num_kv_heads * dv, x.v_head_stride = dv;
  x.k_page_stride = x.page_size * x.k_token_stride;
  x.v_page_stride = x.page_size * x.v_token_stride;
  x.lse_token_stride = desc_.num_q_heads, x.lse_head_stride = 1;
}

template <class Desc, class Args>
Result<const dgrt_args*> PagedBench<Desc, Args>::prepare(int64_t m) {
  Args& x = args_;
  DGRT_TRY(tables_.make(device(), {desc_.max_batch, m, m + desc_.prefix, desc_.page_size}, seed, &x));
  DGRT_TRY(make_mask(m));
  set_strides();
  const int64_t rows = x.total_q * desc_.num_q_heads;
  DGRT_ASSIGN(q_, make_input(rows * desc_.head_dim_qk, 0));
  const dgrt_dtype dtype_kv = desc_.dtype_kv == DGRT_E4M3 ? dgrt_dtype{DGRT_E4M3} : desc_.dtype;
  DGRT_ASSIGN(k_, make_bench_input(device(), dtype_kv, x.num_pages * x.k_page_stride, seed + 1));
  DGRT_ASSIGN(v_, make_bench_input(device(), dtype_kv, x.num_pages * x.v_page_stride, seed + 2));
  DGRT_ASSIGN(o_, lab::DeviceBuffer::make(device(), rows * desc_.head_dim_v * 2));
  DGRT_ASSIGN(lse_, lab::DeviceBuffer::make(device(), rows * sizeof(float)));
  x.q = q_.data(), x.k = k_.data(), x.v = v_.data(), x.o = o_.data(), x.lse = lse_.as<float>();
  if (desc_.dtype_kv == DGRT_E4M3) DGRT_TRY(set_scale());
  x.window_left = desc_.window_left, x.window_right = desc_.window_right;
  x.scale = 1.0f / std::sqrt(static_cast<float>(desc_.head_dim_qk));
  return &x.op;
}

template <class Desc, class Args>
Status PagedBench<Desc, Args>::check(BenchCheck* check) const {
  for (const lab::DeviceBuffer* buffer : {&q_, &k_, &v_, &o_, &lse_}) DGRT_TRY(buffer->check_guards());
  DGRT_TRY(tables_.check_guards());
  DGRT_ASSIGN(const lab::AttnError error, lab::check_attn(device(), lab::problem_of(desc_, args_),
                                                          args_.total_q, most_checked));
  set_attn_check(error, check);
  return ok();
}

// Keys that some query sees, read once for every key head.
template <class Desc, class Args>
BenchCost PagedBench<Desc, Args>::cost(int64_t m) const {
  const double batch = static_cast<double>(desc_.max_batch);
  const double dims = static_cast<double>(desc_.head_dim_qk + desc_.head_dim_v);
  const int64_t unseen =
      desc_.window_left < 0 ? 0 : std::max<int64_t>(0, desc_.prefix - desc_.window_left);
  const double keys = static_cast<double>(m + desc_.prefix - unseen);
  const bool reads_prefix = is_masked() && (desc_.flags & DGRT_ATTN_MASK_SKIP_PREFIX) == 0;
  const double kv_bytes = desc_.dtype_kv == DGRT_E4M3 ? 1 : 2;
  BenchCost cost;
  cost.bytes = batch * (m * static_cast<double>(desc_.num_q_heads) * (2 * dims + sizeof(float)) +
                        keys * static_cast<double>(desc_.num_kv_heads) * kv_bytes * dims);
  if (reads_prefix) cost.bytes += static_cast<double>(args_.mask_bytes);
  return cost;
}

struct AttnDecodeBench final : PagedBench<dgrt_attn_decode_desc, dgrt_attn_decode_args> {
  AttnDecodeBench(const BenchHost& host, const DecodeBenchDesc& desc)
      : PagedBench(host, desc, DGRT_ATTN_DECODE_ARGS) {}
};

struct AttnExtendBench final : PagedBench<dgrt_attn_extend_desc, dgrt_attn_extend_args> {
  AttnExtendBench(const BenchHost& host, const ExtendBenchDesc& desc)
      : PagedBench(host, desc, DGRT_ATTN_EXTEND_ARGS) {}

  // The cache has the prefix alone to give then, whatever else is in it.
  Result<const dgrt_args*> prepare(int64_t m) override {
    DGRT_ASSIGN(const dgrt_args* args, PagedBench::prepare(m));
    if ((desc_.flags & DGRT_ATTN_NEW_KEYS) == 0) return args;
    args_.k_new_token_stride = args_.k_token_stride, args_.k_new_head_stride = args_.k_head_stride;
    args_.v_new_token_stride = args_.v_token_stride, args_.v_new_head_stride = args_.v_head_stride;
    DGRT_ASSIGN(k_new_, make_input(args_.total_q * args_.k_token_stride, 3));
    DGRT_ASSIGN(v_new_, make_input(args_.total_q * args_.v_token_stride, 4));
    args_.k_new = k_new_.data(), args_.v_new = v_new_.data();
    return args;
  }

  // Chunks are bound by their products.
  BenchCost cost(int64_t m) const override {
    const int64_t dims = desc_.head_dim_qk + desc_.head_dim_v;
    BenchCost cost = PagedBench::cost(m);
    cost.flops = 2 * static_cast<double>(desc_.max_batch * desc_.num_q_heads * dims) *
                 visible_pairs(desc_.prefix, desc_.window_left, desc_.window_right, m);
    cost.flops_dtype = desc_.dtype;
    return cost;
  }

 private:
  lab::DeviceBuffer k_new_, v_new_;
};

}  // namespace

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const DecodeBenchDesc& desc) {
  return make_op_bench<AttnDecodeBench>(host, desc);
}

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const ExtendBenchDesc& desc) {
  return make_op_bench<AttnExtendBench>(host, desc);
}

}  // namespace dgrt
