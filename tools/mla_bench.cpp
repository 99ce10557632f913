#include "tools/mla_bench.h"

#include <cmath>
#include <random>
#include <vector>

#include "tools/attention_bench.h"
#include "tools/lib/lab_fill.h"
#include "tools/paged_tables.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20264;          // of the inputs; any will do
constexpr int64_t most_checked = 1 << 6;  // tokens, of all heads

Status check_sample(const lab::Device& device, const lab::AttnProblem& problem, int64_t tokens, BenchCheck* check) {
  DGRT_ASSIGN(const lab::AttnError error, lab::check_attn(device, problem, tokens, most_checked));
  set_attn_check(error, check);
  return ok();
}

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
  return check_sample(device(), lab::problem_of(desc_, args_), args_.total_q, check);
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

// Tokens that see rows from all over kv, with a sink.
class MlaSparsePrefillBench final : public OpBench {
 public:
  MlaSparsePrefillBench(const BenchHost& host, const SparseMlaBenchDesc& desc) : OpBench(host), desc_(desc) {}
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override;

  SparseMlaBenchDesc desc_;
  dgrt_mla_sparse_prefill_args args_ = DGRT_MLA_SPARSE_PREFILL_ARGS;
  lab::DeviceBuffer q_, kv_, indices_, sinks_, o_, max_logits_, lse_;
};

Result<const dgrt_args*> MlaSparsePrefillBench::prepare(int64_t m) {
  dgrt_mla_sparse_prefill_args& x = args_;
  const int64_t heads = desc_.num_heads, qk = desc_.head_dim_qk, dv = desc_.head_dim_v, rows = m * heads;
  x.tokens = m, x.kv_rows = desc_.kv_rows, x.top_k = x.indices_row_stride = desc_.max_top_k;
  x.q_token_stride = heads * qk, x.q_head_stride = x.kv_row_stride = qk;
  x.o_token_stride = heads * dv, x.o_head_stride = dv;
  x.lse_token_stride = heads, x.lse_head_stride = 1;
  std::vector<int32_t> indices(static_cast<size_t>(m * x.top_k));
  std::mt19937_64 random(seed);
  for (int32_t& index : indices) index = static_cast<int32_t>(random() % static_cast<uint64_t>(x.kv_rows));
  DGRT_ASSIGN(q_, make_bench_input(device(), desc_.dtype, rows * qk, seed));
  DGRT_ASSIGN(kv_, make_bench_input(device(), desc_.dtype, x.kv_rows * qk, seed + 1));
  DGRT_ASSIGN(indices_, lab::DeviceBuffer::make(device(), indices.size() * sizeof(int32_t)));
  DGRT_TRY(indices_.upload(indices.data(), indices_.bytes()));
  DGRT_ASSIGN(sinks_, lab::DeviceBuffer::make(device(), heads * sizeof(float)));
  DGRT_TRY(lab::fill_normal_f32(device(), sinks_.as<float>(), heads, seed + 2, 1.0f));
  DGRT_ASSIGN(o_, lab::DeviceBuffer::make(device(), rows * dv * 2));
  DGRT_ASSIGN(max_logits_, lab::DeviceBuffer::make(device(), rows * sizeof(float)));
  DGRT_ASSIGN(lse_, lab::DeviceBuffer::make(device(), rows * sizeof(float)));
  x.q = q_.data(), x.kv = kv_.data(), x.indices = indices_.as<int32_t>(), x.sinks = sinks_.as<float>();
  x.o = o_.data(), x.max_logits = max_logits_.as<float>(), x.lse = lse_.as<float>();
  x.scale = 1.0f / std::sqrt(static_cast<float>(qk));
  return &x.op;
}

Status MlaSparsePrefillBench::check(BenchCheck* check) const {
  for (const lab::DeviceBuffer* buffer : {&q_, &kv_, &indices_, &sinks_, &o_, &max_logits_, &lse_})
    DGRT_TRY(buffer->check_guards());
  return check_sample(device(), lab::problem_of(desc_, args_), args_.tokens, check);
}

BenchCost MlaSparsePrefillBench::cost(int64_t m) const {
  const double rows = static_cast<double>(m * desc_.num_heads);
  const double dims = static_cast<double>(desc_.head_dim_qk + desc_.head_dim_v);
  BenchCost cost;
  cost.flops = 2 * rows * static_cast<double>(desc_.max_top_k) * dims;
  cost.flops_dtype = desc_.dtype;
  cost.bytes = rows * (2 * dims + 2 * sizeof(float)) + static_cast<double>(m * desc_.max_top_k) * sizeof(int32_t) +
               static_cast<double>(desc_.kv_rows * desc_.head_dim_qk) * 2;
  return cost;
}

}  // namespace

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const MlaBenchDesc& desc) {
  return make_op_bench<MlaDecodeBench>(host, desc);
}
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const SparseMlaBenchDesc& desc) {
  return make_op_bench<MlaSparsePrefillBench>(host, desc);
}

}  // namespace dgrt
