#include "tools/mla_bench.h"

#include <cmath>

#include "tools/attention_bench.h"
#include "tools/lib/lab_attn_check.h"
#include "tools/paged_tables.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20264;          // of the inputs; any will do
constexpr int64_t most_checked = 1 << 6;  // tokens, of all heads

class MlaDecodeBench final : public OpBench {
 public:
  MlaDecodeBench(const BenchHost& host, const MlaBenchDesc& desc) : OpBench(host), desc_(desc) {}
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  bool is_fp8() const { return desc_.dtype_kv == DGRT_E4M3; }  // queries too
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override;

  MlaBenchDesc desc_;
  dgrt_mla_decode_args args_ = DGRT_MLA_DECODE_ARGS;
  PagedTables tables_;
  lab::DeviceBuffer q_, kv_, o_, lse_, scale_;
};

Result<const dgrt_args*> MlaDecodeBench::prepare(int64_t m) {
  dgrt_mla_decode_args& x = args_;
  DGRT_TRY(tables_.make(device(), {desc_.max_batch, m, m + desc_.prefix, desc_.page_size}, seed, &x));
  const int64_t qk = desc_.head_dim_qk, dv = desc_.head_dim_v, rows = x.total_q * desc_.num_q_heads;
  x.q_token_stride = desc_.num_q_heads * qk, x.q_head_stride = qk;
  x.o_token_stride = desc_.num_q_heads * dv, x.o_head_stride = dv;
  x.kv_token_stride = desc_.num_kv_heads * qk, x.kv_head_stride = qk;
  x.kv_page_stride = x.page_size * x.kv_token_stride;
  x.lse_token_stride = desc_.num_q_heads, x.lse_head_stride = 1;
  const bool fp8 = is_fp8();
  const dgrt_dtype dtype = fp8 ? dgrt_dtype{DGRT_E4M3} : desc_.dtype;
  DGRT_ASSIGN(q_, make_bench_input(device(), dtype, rows * qk, seed));
  DGRT_ASSIGN(kv_, make_bench_input(device(), dtype, x.num_pages * x.kv_page_stride, seed + 1));
  DGRT_ASSIGN(o_, lab::DeviceBuffer::make(device(), rows * dv * 2));
  DGRT_ASSIGN(lse_, lab::DeviceBuffer::make(device(), rows * sizeof(float)));
  x.q = q_.data(), x.kv = kv_.data(), x.o = o_.data(), x.lse = lse_.as<float>();
  x.scale = 1.0f / std::sqrt(static_cast<float>(qk));
  if (!fp8) return &x.op;
  constexpr float one_sigma = 0.01f;  // inputs fill the type's range
  DGRT_ASSIGN(scale_, lab::DeviceBuffer::make(device(), sizeof(one_sigma)));
  DGRT_TRY(scale_.upload(&one_sigma, sizeof(one_sigma)));
  x.q_scale = x.kv_scale = scale_.as<float>();
  return &x.op;
}

Status MlaDecodeBench::check(BenchCheck* check) const {
  for (const lab::DeviceBuffer* buffer : {&q_, &kv_, &o_, &lse_}) DGRT_TRY(buffer->check_guards());
  DGRT_TRY(tables_.check_guards());
  DGRT_ASSIGN(const lab::AttnError error,
              lab::check_attn(device(), lab::problem_of(desc_, args_), args_.total_q, most_checked));
  check->elements = error.checked;
  check->errors = {{"calc_diff", error.calc_diff},
                   {"worst_tile", error.worst_tile},
                   {"worst_element", error.worst_element},
                   {"worst_lse", error.worst_lse}};
  return ok();
}

// Rows of the cache, read once for every key head.
BenchCost MlaDecodeBench::cost(int64_t m) const {
  const double batch = static_cast<double>(desc_.max_batch), q_heads = static_cast<double>(desc_.num_q_heads);
  const double dims = static_cast<double>(desc_.head_dim_qk + desc_.head_dim_v);
  BenchCost cost;
  cost.flops = 2 * batch * q_heads * visible_pairs(desc_.prefix, -1, 0, m) * dims;
  cost.flops_dtype = desc_.dtype;
  const double bytes = is_fp8() ? 1 : 2, qk = static_cast<double>(desc_.head_dim_qk);
  const double row_bytes = qk * bytes + static_cast<double>(desc_.head_dim_v) * 2 + sizeof(float);
  cost.bytes = batch * (static_cast<double>(m) * q_heads * row_bytes +
                        static_cast<double>((m + desc_.prefix) * desc_.num_kv_heads) * qk * bytes);
  return cost;
}

}  // namespace

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const MlaBenchDesc& desc) {
  return make_op_bench<MlaDecodeBench>(host, desc);
}

}  // namespace dgrt
