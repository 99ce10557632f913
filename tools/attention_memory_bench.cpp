#include "tools/attention_memory_bench.h"

#include "tools/lib/lab_attn_memory_check.h"
#include "tools/lib/lab_fill.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20255;           // of the inputs; any will do
constexpr int64_t most_checked = 1 << 10;  // rows of attn_merge
constexpr int64_t page_size = 64;

int64_t bytes_of(dgrt_dtype dtype) { return dtype == DGRT_FP32 ? 4 : 2; }

Status fill_normal(const lab::Device& device, const lab::DeviceBuffer& to, dgrt_dtype dtype,
                   uint64_t stream) {
  const uint64_t count = to.bytes() / bytes_of(dtype);
  if (dtype == DGRT_FP32) return lab::fill_normal_f32(device, to.as<float>(), count, seed + stream);
  return dtype == DGRT_FP16 ? lab::fill_normal_fp16(device, to.data(), count, seed + stream)
                            : lab::fill_normal_bf16(device, to.data(), count, seed + stream);
}

// max_parts dense parts, none of them empty.
class AttnMergeBench final : public OpBench {
 public:
  AttnMergeBench(const BenchHost& host, const dgrt_attn_merge_desc& desc)
      : OpBench(host), desc_(desc) {}
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override;

  dgrt_attn_merge_desc desc_;
  dgrt_attn_merge_args args_ = DGRT_ATTN_MERGE_ARGS;
  lab::DeviceBuffer part_o_, part_lse_, o_, lse_;
};

Result<const dgrt_args*> AttnMergeBench::prepare(int64_t m) {
  dgrt_attn_merge_args& x = args_;
  x.tokens = m, x.num_parts = desc_.max_parts;
  x.part_o_head_stride = x.o_head_stride = desc_.head_dim;
  x.part_o_token_stride = x.o_token_stride = desc_.num_heads * desc_.head_dim;
  x.part_o_part_stride = m * x.part_o_token_stride;
  x.part_lse_head_stride = x.lse_head_stride = 1;
  x.part_lse_token_stride = x.lse_token_stride = desc_.num_heads;
  x.part_lse_part_stride = m * desc_.num_heads;
  const int64_t elements = x.part_o_part_stride, rows = x.part_lse_part_stride;
  DGRT_ASSIGN(part_o_, lab::DeviceBuffer::make(
                           device(), x.num_parts * elements * bytes_of(desc_.dtype_part)));
  DGRT_ASSIGN(part_lse_, lab::DeviceBuffer::make(device(), x.num_parts * rows * sizeof(float)));
  DGRT_ASSIGN(o_, lab::DeviceBuffer::make(device(), elements * bytes_of(desc_.dtype_o)));
  DGRT_ASSIGN(lse_, lab::DeviceBuffer::make(device(), rows * sizeof(float)));
  DGRT_TRY(fill_normal(device(), part_o_, desc_.dtype_part, 0));
  DGRT_TRY(fill_normal(device(), part_lse_, DGRT_FP32, 1));
  x.part_o = part_o_.data(), x.part_lse = part_lse_.as<float>();
  x.o = o_.data(), x.lse = lse_.as<float>();
  return &x.op;
}

Status AttnMergeBench::check(BenchCheck* check) const {
  for (const lab::DeviceBuffer* buffer : {&part_o_, &part_lse_, &o_, &lse_})
    DGRT_TRY(buffer->check_guards());
  lab::MergeImages images;
  DGRT_ASSIGN(images.part_o, part_o_.download_all<std::byte>());
  DGRT_ASSIGN(images.part_lse, part_lse_.download_all<float>());
  DGRT_ASSIGN(images.o, o_.download_all<std::byte>());
  DGRT_ASSIGN(images.lse, lse_.download_all<float>());
  DGRT_ASSIGN(const lab::MergeError error,
              lab::check_attn_merge(desc_, args_, images, most_checked));
  check->elements = error.rows * desc_.head_dim;
  check->errors = {{"worst_element", error.worst}};
  return ok();
}

BenchCost AttnMergeBench::cost(int64_t m) const {
  const int64_t row =
      desc_.head_dim * (desc_.max_parts * bytes_of(desc_.dtype_part) + bytes_of(desc_.dtype_o));
  BenchCost cost;
  cost.bytes = static_cast<double>(m * desc_.num_heads * (row + 4 * (desc_.max_parts + 1)));
  return cost;
}

// Tokens of many sequences: slots all over the cache.
class KvAppendBench final : public OpBench {
 public:
  KvAppendBench(const BenchHost& host, const dgrt_kv_append_desc& desc)
      : OpBench(host), desc_(desc) {}
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  int64_t cache_bytes() const { return desc_.dtype_cache == DGRT_E4M3 ? 1 : 2; }
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override;

  dgrt_kv_append_desc desc_;
  dgrt_kv_append_args args_ = DGRT_KV_APPEND_ARGS;
  std::vector<int32_t> slots_;
  lab::DeviceBuffer k_, v_, k_cache_, v_cache_, slots_on_device_, scale_;
};

Result<const dgrt_args*> KvAppendBench::prepare(int64_t m) {
  dgrt_kv_append_args& x = args_;
  x.tokens = m, x.page_size = page_size, x.num_pages = m / page_size + 1;
  x.k_head_stride = x.k_cache_head_stride = desc_.head_dim_qk;
  x.v_head_stride = x.v_cache_head_stride = desc_.head_dim_v;
  x.k_token_stride = x.k_cache_token_stride = desc_.num_kv_heads * desc_.head_dim_qk;
  x.v_token_stride = x.v_cache_token_stride = desc_.num_kv_heads * desc_.head_dim_v;
  x.k_cache_page_stride = page_size * x.k_token_stride;
  x.v_cache_page_stride = page_size * x.v_token_stride;
  DGRT_ASSIGN(k_, lab::DeviceBuffer::make(device(), m * x.k_token_stride * 2));
  DGRT_ASSIGN(v_, lab::DeviceBuffer::make(device(), m * x.v_token_stride * 2));
  DGRT_ASSIGN(k_cache_, lab::DeviceBuffer::make(
                            device(), x.num_pages * x.k_cache_page_stride * cache_bytes()));
  DGRT_ASSIGN(v_cache_, lab::DeviceBuffer::make(
                            device(), x.num_pages * x.v_cache_page_stride * cache_bytes()));
  DGRT_ASSIGN(scale_, lab::DeviceBuffer::make(device(), sizeof(float)));
  DGRT_TRY(fill_normal(device(), k_, desc_.dtype, 0));
  DGRT_TRY(fill_normal(device(), v_, desc_.dtype, 1));
  DGRT_TRY(lab::fill_scales(device(), scale_.as<float>(), 1, seed));
  slots_ = lab::shuffled(x.num_pages * page_size, seed);
  slots_.resize(m);
  DGRT_ASSIGN(slots_on_device_, lab::DeviceBuffer::make_of(device(), slots_));
  x.k = k_.data(), x.v = v_.data(), x.k_cache = k_cache_.data(), x.v_cache = v_cache_.data();
  x.slot_mapping = slots_on_device_.data();
  if (desc_.dtype_cache == DGRT_E4M3) x.k_scale = x.v_scale = scale_.as<float>();
  return &x.op;
}

Status KvAppendBench::check(BenchCheck* check) const {
  for (const lab::DeviceBuffer* buffer :
       {&k_, &v_, &k_cache_, &v_cache_, &slots_on_device_, &scale_})
    DGRT_TRY(buffer->check_guards());
  lab::AppendImages images;
  DGRT_ASSIGN(images.k, k_.download_all<std::byte>());
  DGRT_ASSIGN(images.v, v_.download_all<std::byte>());
  DGRT_ASSIGN(images.k_cache, k_cache_.download_all<std::byte>());
  DGRT_ASSIGN(images.v_cache, v_cache_.download_all<std::byte>());
  images.slots.assign(slots_.begin(), slots_.end());
  if (args_.k_scale != nullptr) {
    DGRT_ASSIGN(images.k_scale, scale_.download_all<float>());
    images.v_scale = images.k_scale;
  }
  check->elements = images.k_cache.size() / cache_bytes() + images.v_cache.size() / cache_bytes();
  return lab::check_kv_append(desc_, args_, images);
}

BenchCost KvAppendBench::cost(int64_t m) const {
  const int64_t elements = desc_.num_kv_heads * (desc_.head_dim_qk + desc_.head_dim_v);
  BenchCost cost;
  cost.bytes = static_cast<double>(m * (elements * (2 + cache_bytes()) + 4));
  return cost;
}

}  // namespace

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_attn_merge_desc& desc) {
  return make_op_bench<AttnMergeBench>(host, desc);
}

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_kv_append_desc& desc) {
  return make_op_bench<KvAppendBench>(host, desc);
}

}  // namespace dgrt
