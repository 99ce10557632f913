#include "tools/attention_bench.h"

#include <algorithm>
#include <cmath>

#include "tools/lib/lab_fill.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20254;           // of the inputs; any will do
constexpr int64_t most_checked = 1 << 10;  // tokens, of all heads

// Sequences of m queries each, one behind the other.
class AttnPrefillBench final : public OpBench {
 public:
  AttnPrefillBench(const BenchHost& host, const AttnBenchDesc& desc) : OpBench(host), desc_(desc) {}
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  Status upload_indptr(const lab::DeviceBuffer& buffer, int64_t batch, int64_t len) const;
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override;

  AttnBenchDesc desc_;
  dgrt_attn_prefill_args args_ = DGRT_ATTN_PREFILL_ARGS;
  lab::DeviceBuffer q_, k_, v_, o_, lse_, q_indptr_, kv_indptr_, scale_;
};

Status AttnPrefillBench::upload_indptr(const lab::DeviceBuffer& buffer, int64_t batch,
                                       int64_t len) const {
  std::vector<int32_t> indptr;
  for (int64_t i = 0; i <= batch; ++i) indptr.push_back(static_cast<int32_t>(i * len));
  return buffer.upload(indptr.data(), indptr.size() * sizeof(int32_t));
}

Result<const dgrt_args*> AttnPrefillBench::prepare(int64_t m) {
  const int64_t batch = desc_.batch(m), keys = m + desc_.prefix;
  const int64_t qk = desc_.head_dim_qk, dv = desc_.head_dim_v;
  const int64_t q_row = desc_.num_q_heads * qk, o_row = desc_.num_q_heads * dv;
  const int64_t k_row = desc_.num_kv_heads * qk, v_row = desc_.num_kv_heads * dv;
  const dgrt_dtype dtype_kv = desc_.dtype_kv == DGRT_E4M3 ? dgrt_dtype{DGRT_E4M3} : desc_.dtype;
  DGRT_ASSIGN(q_, make_bench_input(device(), desc_.dtype, batch * m * q_row, seed));
  DGRT_ASSIGN(k_, make_bench_input(device(), dtype_kv, batch * keys * k_row, seed + 1));
  DGRT_ASSIGN(v_, make_bench_input(device(), dtype_kv, batch * keys * v_row, seed + 2));
  DGRT_ASSIGN(o_, lab::DeviceBuffer::make(device(), batch * m * o_row * 2));
  DGRT_ASSIGN(lse_,
              lab::DeviceBuffer::make(device(), batch * m * desc_.num_q_heads * sizeof(float)));
  DGRT_ASSIGN(q_indptr_, lab::DeviceBuffer::make(device(), (batch + 1) * sizeof(int32_t)));
  DGRT_ASSIGN(kv_indptr_, lab::DeviceBuffer::make(device(), (batch + 1) * sizeof(int32_t)));
  DGRT_TRY(upload_indptr(q_indptr_, batch, m));
  DGRT_TRY(upload_indptr(kv_indptr_, batch, keys));
  dgrt_attn_prefill_args& x = args_;
  x.q = q_.data(), x.k = k_.data(), x.v = v_.data(), x.o = o_.data(), x.lse = lse_.as<float>();
  x.q_indptr = q_indptr_.as<int32_t>(), x.kv_indptr = kv_indptr_.as<int32_t>();
  x.batch = batch, x.total_q = batch * m, x.total_kv = batch * keys;
  x.max_q_len = m, x.max_kv_len = keys;
  x.q_token_stride = q_row, x.q_head_stride = qk, x.k_token_stride = k_row, x.k_head_stride = qk;
  x.v_token_stride = v_row, x.v_head_stride = dv, x.o_token_stride = o_row, x.o_head_stride = dv;
  x.lse_token_stride = desc_.num_q_heads, x.lse_head_stride = 1;
  x.window_left = desc_.window_left, x.window_right = desc_.window_right;
  x.scale = 1.0f / std::sqrt(static_cast<float>(qk));
  if (dtype_kv != DGRT_E4M3) return &x.op;
  DGRT_ASSIGN(scale_, lab::DeviceBuffer::make(device(), sizeof(bench_kv_scale)));
  DGRT_TRY(scale_.upload(&bench_kv_scale, sizeof(bench_kv_scale)));
  x.k_scale = x.v_scale = scale_.as<float>();
  return &x.op;
}

Status AttnPrefillBench::check(BenchCheck* check) const {
  for (const lab::DeviceBuffer* buffer : {&q_, &k_, &v_, &o_, &lse_, &q_indptr_, &kv_indptr_})
    DGRT_TRY(buffer->check_guards());
  DGRT_ASSIGN(const lab::AttnError error, lab::check_attn(device(), lab::problem_of(desc_, args_),
                                                          args_.total_q, most_checked));
  set_attn_check(error, check);
  return ok();
}

BenchCost AttnPrefillBench::cost(int64_t m) const {
  const double batch = static_cast<double>(desc_.batch(m));
  const double dims = static_cast<double>(desc_.head_dim_qk + desc_.head_dim_v);
  // Keys before every window need not be read.
  const int64_t unseen =
      desc_.window_left < 0 ? 0 : std::max<int64_t>(0, desc_.prefix - desc_.window_left);
  const double keys = static_cast<double>(m + desc_.prefix - unseen);
  const double q_heads = static_cast<double>(desc_.num_q_heads);
  const double kv_bytes = desc_.dtype_kv == DGRT_E4M3 ? 1 : 2;
  BenchCost cost;
  cost.flops = 2 * batch * q_heads * visible_pairs(desc_.prefix, desc_.window_left, desc_.window_right, m) * dims;
  cost.flops_dtype = desc_.dtype;
  cost.bytes = batch * (m * q_heads * (2 * dims + sizeof(float)) +
                        keys * static_cast<double>(desc_.num_kv_heads) * kv_bytes * dims);
  return cost;
}

}  // namespace

void set_attn_check(const lab::AttnError& error, BenchCheck* check) {
  check->elements = error.checked;
  check->errors = {{"calc_diff", error.calc_diff},
                   {"worst_tile", error.worst_tile},
                   {"worst_element", error.worst_element},
                   {"worst_lse", error.worst_lse}};
}

double visible_pairs(int64_t prefix, int64_t window_left, int64_t window_right, int64_t m) {
  double pairs = 0;
  for (int64_t row = 0; row < m; ++row) {
    const int64_t place = prefix + row;
    const int64_t first = window_left < 0 ? 0 : std::max<int64_t>(0, place - window_left);
    const int64_t end = window_right < 0 ? m + prefix : place + 1;
    pairs += static_cast<double>(end - first);
  }
  return pairs;
}

Result<lab::DeviceBuffer> make_bench_input(const lab::Device& device, dgrt_dtype dtype, int64_t elements,
                                           uint64_t seed) {
  const int64_t bytes = elements * (dtype == DGRT_E4M3 ? 1 : 2);
  DGRT_ASSIGN(lab::DeviceBuffer buffer, lab::DeviceBuffer::make(device, static_cast<size_t>(bytes)));
  const auto count = static_cast<uint64_t>(elements);
  DGRT_TRY(dtype == DGRT_E4M3   ? lab::fill_normal_e4m3(device, buffer.data(), count, seed)
           : dtype == DGRT_FP16 ? lab::fill_normal_fp16(device, buffer.data(), count, seed)
                                : lab::fill_normal_bf16(device, buffer.data(), count, seed));
  return buffer;
}

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const AttnBenchDesc& desc) {
  return make_op_bench<AttnPrefillBench>(host, desc);
}

}  // namespace dgrt
