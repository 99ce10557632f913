#include "tools/sparse_bench.h"

#include <algorithm>

#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_sparse_check.h"
#include "tools/lib/lab_topk_check.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20258;         // of the inputs; any will do
constexpr int64_t most_checked = 1 << 3;  // rows of topk_transform
constexpr int64_t page_size = 64;

// Rows of full length, as of one context.
class TopkTransformBench final : public OpBench {
 public:
  TopkTransformBench(const BenchHost& host, const dgrt_topk_transform_desc& desc)
      : OpBench(host), desc_(desc) {}
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override;

  dgrt_topk_transform_desc desc_;
  dgrt_topk_transform_args args_ = DGRT_TOPK_TRANSFORM_ARGS;
  std::vector<int32_t> table_;  // of all rows
  lab::DeviceBuffer scores_, lengths_, table_on_device_, positions_, slots_;
};

Result<const dgrt_args*> TopkTransformBench::prepare(int64_t m) {
  dgrt_topk_transform_args& x = args_;
  x.rows = m, x.columns = desc_.max_columns, x.page_size = page_size;
  x.num_pages = (x.columns + page_size - 1) / page_size;
  x.scores_row_stride = (x.columns + 3) / 4 * 4;
  x.positions_row_stride = x.slots_row_stride = desc_.top_k;
  DGRT_ASSIGN(scores_, lab::DeviceBuffer::make(device(), m * x.scores_row_stride * sizeof(float)));
  DGRT_ASSIGN(lengths_, lab::DeviceBuffer::make(device(), m * sizeof(int32_t)));
  DGRT_ASSIGN(positions_, lab::DeviceBuffer::make(device(), m * desc_.top_k * sizeof(int32_t)));
  DGRT_ASSIGN(slots_, lab::DeviceBuffer::make(device(), m * desc_.top_k * sizeof(int32_t)));
  DGRT_TRY(lab::fill_normal_f32(device(), scores_.as<float>(), m * x.scores_row_stride, seed));
  DGRT_TRY(lab::fill_words(device(), lengths_.data(), m, static_cast<uint32_t>(x.columns)));
  table_ = lab::shuffled(x.num_pages, seed);
  DGRT_ASSIGN(table_on_device_, lab::DeviceBuffer::make_of(device(), table_));
  x.scores = scores_.as<float>(), x.lengths = lengths_.as<int32_t>();
  x.page_table = table_on_device_.as<int32_t>();
  x.positions = positions_.as<int32_t>(), x.slots = slots_.as<int32_t>();
  return &x.op;
}

Status TopkTransformBench::check(BenchCheck* check) const {
  for (const lab::DeviceBuffer* buffer :
       {&scores_, &lengths_, &table_on_device_, &positions_, &slots_})
    DGRT_TRY(buffer->check_guards());
  const auto k = static_cast<size_t>(desc_.top_k), columns = static_cast<size_t>(args_.columns);
  std::vector<float> scores(columns);
  std::vector<int32_t> positions(k), slots(k);
  for (int64_t row = 0; row < args_.rows; row += args_.rows / most_checked + 1) {
    DGRT_TRY(scores_.download(scores.data(), columns * 4, row * args_.scores_row_stride * 4));
    DGRT_TRY(positions_.download(positions.data(), k * 4, row * k * 4));
    DGRT_TRY(slots_.download(slots.data(), k * 4, row * k * 4));
    const std::vector<int32_t> want = lab::top_positions(scores, desc_.top_k);
    DGRT_TRY(lab::check_row("positions", row, positions, want));
    DGRT_TRY(lab::check_row("slots", row, slots, lab::slots_of(want, table_, page_size)));
    check->elements += 2 * k;
  }
  return ok();
}

BenchCost TopkTransformBench::cost(int64_t m) const {
  BenchCost cost;
  cost.bytes = static_cast<double>(m * 4 * (desc_.max_columns + 2 * desc_.top_k));
  return cost;
}

int64_t columns_of(dgrt_mla_kv_format format) { return format == DGRT_MLA_KV_V32 ? 576 : 512; }
int64_t token_bytes_of(dgrt_mla_kv_format format) { return format == DGRT_MLA_KV_V32 ? 656 : 584; }
// Of FlashMLA's caches.
int64_t page_stride_of(dgrt_mla_kv_format format) {
  const int64_t unit = format == DGRT_MLA_KV_V32 ? 656 : 576;
  return (page_size * token_bytes_of(format) + unit - 1) / unit * unit;
}

// Tokens of many sequences: slots all over the cache.
class MlaKvAppendBench final : public OpBench {
 public:
  MlaKvAppendBench(const BenchHost& host, const dgrt_mla_kv_append_desc& desc) : OpBench(host), desc_(desc) {}
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override {
    BenchCost cost;
    cost.bytes = static_cast<double>(m * (columns_of(desc_.format) * 2 + token_bytes_of(desc_.format) + 4));
    return cost;
  }

  dgrt_mla_kv_append_desc desc_;
  dgrt_mla_kv_append_args args_ = DGRT_MLA_KV_APPEND_ARGS;
  std::vector<int32_t> slots_;
  lab::DeviceBuffer latent_, cache_, slots_on_device_;
};

Result<const dgrt_args*> MlaKvAppendBench::prepare(int64_t m) {
  dgrt_mla_kv_append_args& x = args_;
  x.tokens = m, x.page_size = page_size, x.num_pages = m / page_size + 1;
  x.latent_token_stride = x.rotary_token_stride = columns_of(desc_.format);
  x.cache_page_stride = page_stride_of(desc_.format);
  DGRT_ASSIGN(latent_, lab::DeviceBuffer::make(device(), m * x.latent_token_stride * 2));
  DGRT_ASSIGN(cache_, lab::DeviceBuffer::make(device(), x.num_pages * x.cache_page_stride));
  DGRT_TRY(lab::fill_normal_bf16(device(), latent_.data(), m * x.latent_token_stride, seed));
  slots_ = lab::shuffled(x.num_pages * page_size, seed);
  slots_.resize(m);
  DGRT_ASSIGN(slots_on_device_, lab::DeviceBuffer::make_of(device(), slots_));
  x.latent = latent_.data(), x.rotary = latent_.as<uint16_t>() + columns_of(desc_.format) - 64;
  x.cache = cache_.data(), x.slot_mapping = slots_on_device_.data();
  return &x.op;
}

Status MlaKvAppendBench::check(BenchCheck* check) const {
  for (const lab::DeviceBuffer* buffer : {&latent_, &cache_, &slots_on_device_})
    DGRT_TRY(buffer->check_guards());
  lab::LatentAppendImages images;
  DGRT_ASSIGN(images.latent, latent_.download_all<uint16_t>());
  DGRT_ASSIGN(images.cache, cache_.download_all<std::byte>());
  images.rotary.assign(images.latent.begin() + columns_of(desc_.format) - 64, images.latent.end());
  images.slots.assign(slots_.begin(), slots_.end());
  check->elements = images.cache.size();
  return lab::check_mla_kv_append(desc_, args_, images);
}

// Rows from all over the cache; sequences are all as long as their part of the result.
class KvDequantBench final : public OpBench {
 public:
  KvDequantBench(const BenchHost& host, const dgrt_kv_dequant_paged_desc& desc) : OpBench(host), desc_(desc) {}
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  int64_t sequences() const { return std::max<int64_t>(desc_.max_batch, 1); }
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override {
    const int64_t row = columns_of(desc_.format) * 2 + token_bytes_of(desc_.format) + (desc_.max_batch == 0 ? 4 : 0);
    BenchCost cost;
    cost.bytes = static_cast<double>(sequences() * m * row);
    return cost;
  }

  dgrt_kv_dequant_paged_desc desc_;
  dgrt_kv_dequant_paged_args args_ = DGRT_KV_DEQUANT_PAGED_ARGS;
  std::vector<int32_t> slots_, pages_;
  lab::DeviceBuffer cache_, out_, slots_on_device_, pages_on_device_, lengths_;
};

Result<const dgrt_args*> KvDequantBench::prepare(int64_t m) {
  dgrt_kv_dequant_paged_args& x = args_;
  x.rows = m, x.batch = desc_.max_batch, x.page_size = page_size;
  x.max_pages = x.page_table_row_stride = (m + page_size - 1) / page_size;
  x.num_pages = sequences() * x.max_pages;
  x.cache_page_stride = page_stride_of(desc_.format);
  x.out_row_stride = columns_of(desc_.format), x.out_sequence_stride = m * x.out_row_stride;
  DGRT_ASSIGN(cache_, lab::DeviceBuffer::make(device(), x.num_pages * x.cache_page_stride));
  DGRT_ASSIGN(out_, lab::DeviceBuffer::make(device(), sequences() * x.out_sequence_stride * 2));
  // Numbers as codes, as scales of either format and as rotary columns.
  DGRT_TRY(lab::fill_words(device(), cache_.data(), x.num_pages * x.cache_page_stride / 4, 0x3f803f80));
  slots_ = lab::shuffled(x.num_pages * page_size, seed);
  slots_.resize(m);
  pages_ = lab::shuffled(x.num_pages, seed);
  DGRT_ASSIGN(slots_on_device_, lab::DeviceBuffer::make_of(device(), slots_));
  DGRT_ASSIGN(pages_on_device_, lab::DeviceBuffer::make_of(device(), pages_));
  DGRT_ASSIGN(lengths_, lab::DeviceBuffer::make_of(device(), std::vector<int32_t>(sequences(), static_cast<int32_t>(m))));
  x.cache = cache_.data(), x.out = out_.data(), x.slots = slots_on_device_.data();
  x.seq_lens = lengths_.as<int32_t>(), x.page_table = pages_on_device_.as<int32_t>();
  return &x.op;
}

Status KvDequantBench::check(BenchCheck* check) const {
  for (const lab::DeviceBuffer* buffer : {&cache_, &out_, &slots_on_device_, &pages_on_device_, &lengths_})
    DGRT_TRY(buffer->check_guards());
  lab::DequantImages images;
  DGRT_ASSIGN(images.cache, cache_.download_all<std::byte>());
  DGRT_ASSIGN(images.out, out_.download_all<uint16_t>());
  images.slots.assign(slots_.begin(), slots_.end());
  images.seq_lens.assign(sequences(), static_cast<int32_t>(args_.rows));
  images.page_table = pages_;
  check->elements = images.out.size();
  return lab::check_kv_dequant_paged(desc_, args_, images);
}

// Requests of equal parts of the new tokens, in the middle of their sequences.
class SwaIdsBench final : public OpBench {
 public:
  SwaIdsBench(const BenchHost& host, const dgrt_build_swa_token_ids_desc& desc) : OpBench(host), desc_(desc) {}
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override {
    BenchCost cost;
    cost.bytes = static_cast<double>((m + desc_.max_batch * (desc_.window - 1)) * 16 + desc_.max_batch * 24);
    return cost;
  }

  dgrt_build_swa_token_ids_desc desc_;
  dgrt_build_swa_token_ids_args args_ = DGRT_BUILD_SWA_TOKEN_IDS_ARGS;
  lab::SwaIdsImages images_;
  lab::DeviceBuffer seq_lens_, extend_lens_, request_rows_, req_to_token_, full_to_swa_;
  lab::DeviceBuffer token_ids_, first_, gather_lens_, offsets_;
};

Result<const dgrt_args*> SwaIdsBench::prepare(int64_t m) {
  dgrt_build_swa_token_ids_args& x = args_;
  const int64_t batch = desc_.max_batch, extend = m / batch;
  x.batch = x.num_request_rows = batch, x.capacity = m + batch * (desc_.window - 1);
  x.max_tokens = x.req_to_token_row_stride = 2 * extend + desc_.window, x.num_full = batch * x.max_tokens;
  images_.seq_lens.assign(batch, static_cast<int32_t>(x.max_tokens));
  images_.extend_lens.assign(batch, static_cast<int32_t>(extend));
  images_.request_rows = lab::shuffled(batch, seed), images_.req_to_token = lab::shuffled(x.num_full, seed);
  images_.full_to_swa.assign(images_.req_to_token.begin(), images_.req_to_token.end());
  DGRT_ASSIGN(seq_lens_, lab::DeviceBuffer::make_of(device(), images_.seq_lens));
  DGRT_ASSIGN(extend_lens_, lab::DeviceBuffer::make_of(device(), images_.extend_lens));
  DGRT_ASSIGN(request_rows_, lab::DeviceBuffer::make_of(device(), images_.request_rows));
  DGRT_ASSIGN(req_to_token_, lab::DeviceBuffer::make_of(device(), images_.req_to_token));
  DGRT_ASSIGN(full_to_swa_, lab::DeviceBuffer::make_of(device(), images_.full_to_swa));
  DGRT_ASSIGN(token_ids_, lab::DeviceBuffer::make(device(), x.capacity * sizeof(int32_t)));
  DGRT_ASSIGN(first_, lab::DeviceBuffer::make(device(), batch * sizeof(int32_t)));
  DGRT_ASSIGN(gather_lens_, lab::DeviceBuffer::make(device(), batch * sizeof(int32_t)));
  DGRT_ASSIGN(offsets_, lab::DeviceBuffer::make(device(), (batch + 1) * sizeof(int32_t)));
  x.seq_lens = seq_lens_.as<int32_t>(), x.extend_lens = extend_lens_.as<int32_t>();
  x.request_rows = request_rows_.as<int32_t>(), x.req_to_token = req_to_token_.as<int32_t>();
  x.full_to_swa = full_to_swa_.as<int64_t>(), x.token_ids = token_ids_.as<int32_t>();
  x.first = first_.as<int32_t>(), x.gather_lens = gather_lens_.as<int32_t>(), x.offsets = offsets_.as<int32_t>();
  return &x.op;
}

Status SwaIdsBench::check(BenchCheck* check) const {
  for (const lab::DeviceBuffer* buffer : {&token_ids_, &first_, &gather_lens_, &offsets_})
    DGRT_TRY(buffer->check_guards());
  lab::SwaIdsImages images = images_;
  DGRT_ASSIGN(images.token_ids, token_ids_.download_all<int32_t>());
  DGRT_ASSIGN(images.first, first_.download_all<int32_t>());
  DGRT_ASSIGN(images.gather_lens, gather_lens_.download_all<int32_t>());
  DGRT_ASSIGN(images.offsets, offsets_.download_all<int32_t>());
  check->elements = images.token_ids.size();
  return lab::check_build_swa_token_ids(desc_, args_, images);
}

// Two requests, late enough in their sequences that all rows are full.
class CombineBench final : public OpBench {
 public:
  CombineBench(const BenchHost& host, const CombineBenchDesc& desc) : OpBench(host), desc_(desc) {}
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  int64_t width() const { return (desc_.top_k + desc_.window + 127) / 128 * 128; }
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override {
    BenchCost cost;
    cost.bytes = static_cast<double>(m * (desc_.top_k + width() + 1) * 4);
    return cost;
  }

  CombineBenchDesc desc_;
  dgrt_combine_topk_swa_indices_args args_ = DGRT_COMBINE_TOPK_SWA_INDICES_ARGS;
  lab::CombineImages images_;
  lab::DeviceBuffer topk_, starts_, seq_lens_, gather_lens_, compressed_base_, swa_base_, indices_, lengths_;
};

Result<const dgrt_args*> CombineBench::prepare(int64_t m) {
  dgrt_combine_topk_swa_indices_args& x = args_;
  const int64_t length = desc_.top_k * desc_.ratio * 2 + m, visible = length / desc_.ratio;
  x.tokens = m, x.batch = 2, x.top_k = desc_.top_k, x.width = x.indices_row_stride = width();
  x.topk_row_stride = (desc_.top_k + 3) / 4 * 4;
  images_.topk_indices.resize(m * x.topk_row_stride);
  for (size_t i = 0; i < images_.topk_indices.size(); ++i)
    images_.topk_indices[i] = static_cast<int32_t>(i * 7919 % visible);
  const auto half = static_cast<int32_t>(m / 2), end = static_cast<int32_t>(m);
  images_.query_start_loc = {0, half, end};
  images_.seq_lens.assign(2, static_cast<int32_t>(length));
  images_.gather_lens.clear();  // of another m
  for (const int32_t tokens : {half, end - half})
    images_.gather_lens.push_back(static_cast<int32_t>(std::min(length, tokens + desc_.window - 1)));
  images_.compressed_base = {0, static_cast<int32_t>(visible)};
  images_.swa_base = {static_cast<int32_t>(2 * visible), static_cast<int32_t>(2 * visible + images_.gather_lens[0])};
  DGRT_ASSIGN(topk_, lab::DeviceBuffer::make_of(device(), images_.topk_indices));
  DGRT_ASSIGN(starts_, lab::DeviceBuffer::make_of(device(), images_.query_start_loc));
  DGRT_ASSIGN(seq_lens_, lab::DeviceBuffer::make_of(device(), images_.seq_lens));
  DGRT_ASSIGN(gather_lens_, lab::DeviceBuffer::make_of(device(), images_.gather_lens));
  DGRT_ASSIGN(compressed_base_, lab::DeviceBuffer::make_of(device(), images_.compressed_base));
  DGRT_ASSIGN(swa_base_, lab::DeviceBuffer::make_of(device(), images_.swa_base));
  DGRT_ASSIGN(indices_, lab::DeviceBuffer::make(device(), m * x.indices_row_stride * sizeof(int32_t)));
  DGRT_ASSIGN(lengths_, lab::DeviceBuffer::make(device(), m * sizeof(int32_t)));
  x.topk_indices = topk_.as<int32_t>(), x.query_start_loc = starts_.as<int32_t>();
  x.seq_lens = seq_lens_.as<int32_t>(), x.gather_lens = gather_lens_.as<int32_t>();
  x.compressed_base = compressed_base_.as<int32_t>(), x.swa_base = swa_base_.as<int32_t>();
  x.indices = indices_.as<int32_t>(), x.lengths = lengths_.as<int32_t>();
  return &x.op;
}

Status CombineBench::check(BenchCheck* check) const {
  for (const lab::DeviceBuffer* buffer : {&topk_, &indices_, &lengths_}) DGRT_TRY(buffer->check_guards());
  lab::CombineImages images = images_;
  DGRT_ASSIGN(images.indices, indices_.download_all<int32_t>());
  DGRT_ASSIGN(images.lengths, lengths_.download_all<int32_t>());
  check->elements = images.indices.size();
  return lab::check_combine_topk_swa_indices(desc_, args_, images);
}

}  // namespace

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_topk_transform_desc& desc) {
  return make_op_bench<TopkTransformBench>(host, desc);
}

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const dgrt_mla_kv_append_desc& desc) {
  return make_op_bench<MlaKvAppendBench>(host, desc);
}

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const dgrt_kv_dequant_paged_desc& desc) {
  return make_op_bench<KvDequantBench>(host, desc);
}

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_build_swa_token_ids_desc& desc) {
  return make_op_bench<SwaIdsBench>(host, desc);
}

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const CombineBenchDesc& desc) {
  return make_op_bench<CombineBench>(host, desc);
}

}  // namespace dgrt
