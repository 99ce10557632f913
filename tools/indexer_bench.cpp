#include "tools/indexer_bench.h"

#include <algorithm>
#include <random>

#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_mqa_check.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20256;  // of the inputs; any will do
constexpr int64_t most_checked = 64;  // rows
constexpr int64_t ranks = 8;  // that split a prompt

int64_t out_bytes(dgrt_dtype dtype) { return dtype == DGRT_FP32 ? 4 : 2; }

// What either op has.
template <class Desc, class Args>
class LogitsBench : public OpBench {
 public:
  LogitsBench(const BenchHost& host, const Desc& desc, const Args& args) : OpBench(host), desc_(desc), args_(args) {}
  const dgrt_desc* desc() const override { return &desc_.op; }

 protected:
  Status make_rows(int64_t rows, int64_t columns) {
    DGRT_ASSIGN(q_, lab::DeviceBuffer::make(device(), rows * desc_.num_heads * desc_.head_dim));
    DGRT_ASSIGN(w_, lab::DeviceBuffer::make(device(), rows * desc_.num_heads * sizeof(float)));
    DGRT_ASSIGN(out_, lab::DeviceBuffer::make(device(), rows * columns * out_bytes(desc_.dtype_out)));
    DGRT_TRY(lab::fill_normal_e4m3(device(), q_.data(), q_.bytes(), seed));
    DGRT_TRY(lab::fill_normal_f32(device(), w_.as<float>(), rows * desc_.num_heads, seed + 1));
    args_.q = q_.data(), args_.w = w_.template as<float>(), args_.out = out_.data();
    args_.w_token_stride = desc_.num_heads, args_.out_token_stride = columns;
    return ok();
  }
  Status check(BenchCheck* check) const override {
    for (const lab::DeviceBuffer* buffer : {&q_, &w_, &out_}) DGRT_TRY(buffer->check_guards());
    DGRT_ASSIGN(const lab::LogitsError error, lab::check_mqa_logits(device(), desc_, args_, out_, most_checked));
    check->elements = error.logits;
    check->errors = {{"calc_diff", error.calc_diff}, {"worst_tile", error.worst_tile}};
    return ok();
  }
  // pairs: of a token and a key that it sees. columns: of all rows that are written.
  BenchCost cost_of(int64_t rows, int64_t pairs, int64_t columns, int64_t key_bytes) const {
    const double heads = static_cast<double>(desc_.num_heads), dim = static_cast<double>(desc_.head_dim);
    BenchCost cost;
    cost.flops = 2 * static_cast<double>(pairs) * heads * dim;
    cost.flops_dtype = DGRT_E4M3;
    cost.bytes = static_cast<double>(rows) * heads * (dim + 4) + static_cast<double>(key_bytes) +
                 static_cast<double>(columns * out_bytes(desc_.dtype_out));
    return cost;
  }
  bool is_clean() const { return (desc_.flags & DGRT_LOGITS_CLEAN) != 0; }

  Desc desc_;
  Args args_;  // but for what prepare() adds
  lab::DeviceBuffer q_, w_, out_;
};

class MqaLogitsBench final : public LogitsBench<LogitsBenchDesc, dgrt_mqa_logits_args> {
 public:
  MqaLogitsBench(const BenchHost& host, const LogitsBenchDesc& desc)
      : LogitsBench(host, desc, DGRT_MQA_LOGITS_ARGS) {}

  Result<const dgrt_args*> prepare(int64_t m) override {
    const int64_t keys = desc_.max_kv_tokens;
    DGRT_TRY(make_rows(m, keys));
    DGRT_ASSIGN(kv_, lab::DeviceBuffer::make(device(), keys * desc_.head_dim));
    DGRT_ASSIGN(kv_scale_, lab::DeviceBuffer::make(device(), keys * sizeof(float)));
    DGRT_TRY(lab::fill_normal_e4m3(device(), kv_.data(), kv_.bytes(), seed + 2));
    DGRT_TRY(lab::fill_scales(device(), kv_scale_.as<float>(), keys, seed + 3));
    DGRT_ASSIGN(ks_, lab::DeviceBuffer::make_of(device(), std::vector<int32_t>(m, 0)));
    DGRT_ASSIGN(ke_, lab::DeviceBuffer::make_of(device(), ends(m)));
    args_.kv = kv_.data(), args_.kv_scale = kv_scale_.as<float>();
    args_.ks = ks_.as<int32_t>(), args_.ke = ke_.as<int32_t>();
    args_.tokens = m, args_.kv_tokens = keys;
    return &args_.op;
  }

 private:
  // The last m tokens of the keys, or the share of a rank: of 2 * ranks pieces of the prompt the third and the
  // third from the end.
  std::vector<int32_t> ends(int64_t m) const {
    const int64_t keys = desc_.max_kv_tokens, piece = keys / (2 * ranks);
    std::vector<int32_t> result(m);
    for (int64_t i = 0; i < m; ++i) {
      int64_t end = keys - m + i + 1;
      if (desc_.split) end = i < m / 2 ? 2 * piece + i + 1 : (2 * ranks - 3) * piece + i - m / 2 + 1;
      result[i] = static_cast<int32_t>(std::clamp<int64_t>(end, 0, keys));
    }
    return result;
  }
  BenchCost cost(int64_t m) const override {
    const std::vector<int32_t> seen = ends(m);
    const int64_t pairs = std::accumulate(seen.begin(), seen.end(), int64_t{0});
    const int64_t keys = desc_.max_kv_tokens;
    return cost_of(m, pairs, is_clean() ? m * keys : pairs, keys * (desc_.head_dim + 4));
  }

  lab::DeviceBuffer kv_, kv_scale_, ks_, ke_;
};

// Requests of about as many keys, 0.7 to 1.3 of that, on pages in random order.
class PagedMqaLogitsBench final : public LogitsBench<PagedLogitsBenchDesc, dgrt_paged_mqa_logits_args> {
 public:
  PagedMqaLogitsBench(const BenchHost& host, const PagedLogitsBenchDesc& desc)
      : LogitsBench(host, desc, DGRT_PAGED_MQA_LOGITS_ARGS) {}

  Result<const dgrt_args*> prepare(int64_t m) override {
    const int64_t page_bytes = desc_.page_size * (desc_.head_dim + 4);
    const int64_t max_pages = (desc_.max_context_len + desc_.page_size - 1) / desc_.page_size;
    const std::vector<int32_t> lens = lengths(m);
    std::vector<int32_t> context_lens, table(m * max_pages, -1);
    int32_t num_pages = 0;
    for (int64_t i = 0; i < m; ++i) {
      // Each draft token sees the ones before it too.
      for (int64_t n = 0; n < desc_.next_n; ++n)
        context_lens.push_back(lens[i] - static_cast<int32_t>(desc_.next_n - 1 - n));
      for (int64_t page = 0; page * desc_.page_size < lens[i]; ++page) table[i * max_pages + page] = num_pages++;
    }
    const std::vector<int32_t> pages = lab::shuffled(num_pages, seed);
    for (int32_t& entry : table)
      if (entry >= 0) entry = pages[entry];
    DGRT_TRY(make_rows(m * desc_.next_n, desc_.max_context_len));
    DGRT_TRY(make_cache(num_pages, page_bytes));
    DGRT_ASSIGN(context_lens_, lab::DeviceBuffer::make_of(device(), context_lens));
    DGRT_ASSIGN(page_table_, lab::DeviceBuffer::make_of(device(), table));
    args_.context_lens = context_lens_.as<int32_t>(), args_.page_table = page_table_.as<int32_t>();
    args_.batch = m, args_.max_context_len = desc_.max_context_len;
    args_.num_pages = num_pages, args_.max_pages = max_pages;
    args_.kv_page_stride = page_bytes, args_.page_table_stride = max_pages;
    return &args_.op;
  }

 private:
  std::vector<int32_t> lengths(int64_t m) const {
    std::mt19937_64 rng(seed);
    std::vector<int32_t> result(m);
    for (int32_t& len : result) {
      const int64_t mean = desc_.max_context_len * 10 / 13, more = mean * 6 / 10;
      len = static_cast<int32_t>(mean * 7 / 10 + static_cast<int64_t>(rng() % static_cast<uint64_t>(more + 1)));
      len = std::max(len, static_cast<int32_t>(desc_.next_n));
    }
    return result;
  }
  // Codes of e4m3 everywhere, then scales where they belong.
  Status make_cache(int64_t num_pages, int64_t page_bytes) {
    DGRT_ASSIGN(cache_, lab::DeviceBuffer::make(device(), num_pages * page_bytes));
    DGRT_TRY(lab::fill_normal_e4m3(device(), cache_.data(), cache_.bytes(), seed + 2));
    for (int64_t page = 0; page < num_pages; ++page)
      DGRT_TRY(lab::fill_scales(device(),
                                reinterpret_cast<float*>(cache_.as<std::byte>() + page * page_bytes +
                                                         desc_.page_size * desc_.head_dim),
                                desc_.page_size, seed + 3 + page));
    args_.kv_cache = cache_.data();
    return ok();
  }
  BenchCost cost(int64_t m) const override {
    const std::vector<int32_t> lens = lengths(m);
    const int64_t keys = std::accumulate(lens.begin(), lens.end(), int64_t{0}), rows = m * desc_.next_n;
    const int64_t pairs = keys * desc_.next_n - m * desc_.next_n * (desc_.next_n - 1) / 2;
    return cost_of(rows, pairs, is_clean() ? rows * desc_.max_context_len : pairs, keys * (desc_.head_dim + 4));
  }

  lab::DeviceBuffer cache_, context_lens_, page_table_;
};

}  // namespace

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const LogitsBenchDesc& desc) {
  return make_op_bench<MqaLogitsBench>(host, desc);
}

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const PagedLogitsBenchDesc& desc) {
  return make_op_bench<PagedMqaLogitsBench>(host, desc);
}

}  // namespace dgrt
