#include "tools/mla_sparse_bench.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "tools/attention_bench.h"
#include "tools/lib/lab_mla_sparse_check.h"
#include "tools/lib/lab_quant_model.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20266;  // of the inputs; any will do
constexpr int64_t most_checked = 3;  // tokens, of all heads

// A cache and each token's list of its request's slots. Every page holds the same bytes.
struct BenchPool {
  int64_t top_k = 0, page_size = 1, num_pages = 0, page_stride = 0;
  std::vector<std::byte> page;
  std::vector<int32_t> indices;
  lab::DeviceBuffer cache, indices_on_device;

  // Codes of any size but NaN, numbers of 2^-10 and about for scales, rotary columns of 0.1.
  void make_page(bool v4, std::mt19937_64& random) {
    page.resize(static_cast<size_t>(page_stride));
    for (std::byte& byte : page) {
      const auto code = static_cast<uint8_t>(random());
      byte = static_cast<std::byte>((code & 0x7f) == 0x7f ? 0x7e : code);
    }
    for (int64_t token = 0; token < page_size; ++token) {
      std::byte* const row = page.data() + token * (v4 ? 576 : 656);
      for (int64_t i = 0; i < 64; ++i) {
        const uint16_t value = lab::float_to_bf16((static_cast<float>(random() % 1000) - 500) / 2500);
        std::memcpy(row + (v4 ? 448 : 528) + i * 2, &value, 2);
      }
      for (int64_t group = 0; group < 4 && !v4; ++group) {
        const float scale = (0.5f + static_cast<float>(random() % 1000) / 1000) / 900;
        std::memcpy(row + 512 + group * 4, &scale, 4);
      }
      if (v4) std::fill_n(page.data() + page_size * 576 + token * 8, 8, std::byte{117});
    }
  }

  Status make(const lab::Device& device, const SparseDecodeBenchDesc& desc, int64_t m, uint64_t stream) {
    const bool v4 = desc.format == DGRT_MLA_KV_V4;
    const int64_t token_bytes = v4 ? 584 : 656, unit = v4 ? 576 : 656;  // unit: of FlashMLA's pages
    std::mt19937_64 random(seed + stream);
    num_pages = (desc.batch * desc.kv_len + page_size - 1) / page_size;
    page_stride = (page_size * token_bytes + unit - 1) / unit * unit;
    make_page(v4, random);
    DGRT_ASSIGN(cache, lab::DeviceBuffer::make(device, static_cast<size_t>(num_pages * page_stride)));
    std::vector<std::byte> chunk;  // pages by the megabyte
    while (chunk.size() < 1 << 20) chunk.insert(chunk.end(), page.begin(), page.end());
    for (size_t at = 0; at < cache.bytes(); at += chunk.size())
      DGRT_TRY(cache.upload(chunk.data(), std::min(chunk.size(), cache.bytes() - at), at));
    // Slots in no order, each once: steps of an odd number, of a number of slots that is a power of two.
    indices.clear();
    for (int64_t token = 0; token < desc.batch * m; ++token) {
      const int64_t first = static_cast<int64_t>(random() % 65536), step = static_cast<int64_t>(random() % 65536) | 1;
      for (int64_t i = 0; i < top_k; ++i)
        indices.push_back(static_cast<int32_t>(token / m * desc.kv_len + (first + i * step) % desc.kv_len));
    }
    DGRT_ASSIGN(indices_on_device, lab::DeviceBuffer::make(device, indices.size() * 4));
    return indices_on_device.upload(indices.data(), indices_on_device.bytes());
  }
};

class MlaSparseDecodeBench final : public OpBench {
 public:
  MlaSparseDecodeBench(const BenchHost& host, const SparseDecodeBenchDesc& desc) : OpBench(host), desc_(desc) {
    main_.top_k = desc.max_keys - desc.extra_top_k, main_.page_size = desc.page_size;
    extra_.top_k = desc.extra_top_k, extra_.page_size = desc.extra_page_size;
  }
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  int64_t columns() const { return desc_.format == DGRT_MLA_KV_V32 ? 576 : 512; }
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override;

  SparseDecodeBenchDesc desc_;
  dgrt_mla_sparse_decode_args args_ = DGRT_MLA_SPARSE_DECODE_ARGS;
  BenchPool main_, extra_;
  lab::DeviceBuffer q_, o_, lse_;
};

Result<const dgrt_args*> MlaSparseDecodeBench::prepare(int64_t m) {
  dgrt_mla_sparse_decode_args& x = args_;
  DGRT_TRY(main_.make(device(), desc_, m, 1));
  if (extra_.top_k > 0) DGRT_TRY(extra_.make(device(), desc_, m, 2));
  const int64_t heads = desc_.num_q_heads, rows = desc_.batch * m * heads;
  x.batch = desc_.batch, x.q_len = m, x.top_k = main_.top_k, x.extra_top_k = extra_.top_k;
  x.page_size = main_.page_size, x.num_pages = main_.num_pages, x.cache_page_stride = main_.page_stride;
  x.extra_page_size = extra_.page_size, x.extra_num_pages = extra_.num_pages;
  x.extra_cache_page_stride = extra_.page_stride;
  x.indices_token_stride = main_.top_k, x.extra_indices_token_stride = extra_.top_k;
  x.q_head_stride = columns(), x.q_token_stride = heads * columns();
  x.o_head_stride = 512, x.o_token_stride = heads * 512, x.lse_token_stride = heads, x.lse_head_stride = 1;
  DGRT_ASSIGN(q_, make_bench_input(device(), DGRT_BF16, rows * columns(), seed));
  DGRT_ASSIGN(o_, lab::DeviceBuffer::make(device(), static_cast<size_t>(rows * 1024)));
  DGRT_ASSIGN(lse_, lab::DeviceBuffer::make(device(), static_cast<size_t>(rows * 4)));
  x.q = q_.data(), x.o = o_.data(), x.lse = lse_.as<float>();
  x.cache = main_.cache.data(), x.extra_cache = extra_.cache.data();
  x.indices = main_.indices_on_device.as<int32_t>(), x.extra_indices = extra_.indices_on_device.as<int32_t>();
  x.scale = std::pow(static_cast<float>(columns()), -0.55f);
  return &x.op;
}

Status MlaSparseDecodeBench::check(BenchCheck* check) const {
  for (const lab::DeviceBuffer* buffer : {&main_.cache, &extra_.cache, &q_, &o_, &lse_})
    if (buffer->bytes() > 0) DGRT_TRY(buffer->check_guards());
  lab::SparseDecodeImages images;
  images.cache = main_.page, images.extra_cache = extra_.page;
  images.indices = main_.indices, images.extra_indices = extra_.indices;
  DGRT_ASSIGN(images.q, q_.download_all<uint16_t>());
  DGRT_ASSIGN(images.o, o_.download_all<uint16_t>());
  DGRT_ASSIGN(images.lse, lse_.download_all<float>());
  dgrt_mla_sparse_decode_args args = args_;
  args.cache_page_stride = args.extra_cache_page_stride = 0;  // the images have a page, which is like all
  DGRT_ASSIGN(const lab::SparseDecodeError error,
              lab::check_mla_sparse_decode(desc_, args, images, most_checked));
  check->elements = static_cast<uint64_t>(error.checked);
  check->errors = {{"worst_element", error.worst_element},
                   {"worst_lse", error.worst_lse},
                   {"worst_diff", error.worst_diff}};
  return ok();
}

// Each token's rows, of which no other has read the same.
BenchCost MlaSparseDecodeBench::cost(int64_t m) const {
  const double tokens = static_cast<double>(desc_.batch * m), heads = static_cast<double>(desc_.num_q_heads);
  const double keys = static_cast<double>(desc_.max_keys), dims = static_cast<double>(columns() + 512);
  BenchCost cost;
  cost.flops = 2 * tokens * heads * keys * dims;
  cost.flops_dtype = DGRT_BF16;
  const double row_bytes = desc_.format == DGRT_MLA_KV_V32 ? 656 : 584;
  cost.bytes = tokens * (keys * (row_bytes + 4) + heads * (2 * dims + 4));
  return cost;
}

}  // namespace

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const SparseDecodeBenchDesc& desc) {
  return make_op_bench<MlaSparseDecodeBench>(host, desc);
}

}  // namespace dgrt
