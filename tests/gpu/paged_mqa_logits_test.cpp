// paged_mqa_logits against a naive reference: heads, head sizes, tokens, pages, types, contexts of every kind,
// entries of no page; bit for bit against itself: repeats, graphs, requests alone.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "tests/gpu/gpu_test.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_gemm_check.h"  // first_difference()
#include "tools/lib/lab_mqa_check.h"

namespace dgrt::test {
namespace {

struct PagedCase {
  int64_t heads = 64, head_dim = 128, next_n = 1, page_size = 64;
  int64_t batch = 0, max_context_len = 0;
  dgrt_dtype dtype_out = DGRT_FP32;
  uint32_t flags = DGRT_LOGITS_CLEAN;
  int64_t pad = 5;  // elements after each row of w, out and the page table; 16 bytes after each page

  int64_t max_pages() const { return (max_context_len + page_size - 1) / page_size; }
  int64_t num_pages() const { return batch * max_pages() + 1; }
  int64_t page_bytes() const { return page_size * (head_dim + 4) + 16 * pad; }
  std::string name() const {
    return fmt::format("paged_mqa_logits {}x{} of up to {}, heads {}x{} page={} dtype={} flags={:#x}", batch, next_n,
                       max_context_len, heads, head_dim, page_size, dtype_out, flags);
  }
};

// Of all tokens, the last of a request seeing most; a third of the requests are empty.
std::vector<int32_t> any_lens(const PagedCase& test, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::vector<int32_t> lens;
  for (int64_t i = 0; i < test.batch; ++i) {
    const auto most = static_cast<int64_t>(rng() % static_cast<uint64_t>(test.max_context_len + 1));
    for (int64_t n = 0; n < test.next_n; ++n)
      lens.push_back(rng() % 3 == 0 ? 0 : static_cast<int32_t>(std::max<int64_t>(most - (test.next_n - 1 - n) * 3, 0)));
    if (rng() % 3 == 0) std::fill(lens.end() - test.next_n, lens.end(), 0);
  }
  return lens;
}
std::vector<int32_t> equal_lens(const PagedCase& test, int32_t len) {
  return std::vector<int32_t>(test.batch * test.next_n, len);
}

class PagedRun {
 public:
  static Result<PagedRun> make(Gpu& gpu, const PagedCase& test, const std::vector<int32_t>& lens) {
    PagedRun run;
    run.gpu_ = &gpu, run.test_ = test;
    run.desc_.num_heads = test.heads, run.desc_.head_dim = test.head_dim;
    run.desc_.next_n = test.next_n, run.desc_.page_size = test.page_size;
    run.desc_.max_batch = 1 << 14, run.desc_.max_context_len = 1 << 20;
    run.desc_.dtype_out = test.dtype_out, run.desc_.flags = test.flags;
    DGRT_ASSIGN(run.plan_, Plan::make(gpu, &run.desc_.op));
    const lab::Device& lab = *gpu.lab;
    const int64_t rows = test.batch * test.next_n, bytes = test.dtype_out == DGRT_FP32 ? 4 : 2;
    dgrt_paged_mqa_logits_args& x = run.args_;
    x.batch = test.batch, x.max_context_len = test.max_context_len;
    x.num_pages = test.num_pages(), x.max_pages = test.max_pages(), x.kv_page_stride = test.page_bytes();
    x.page_table_stride = x.max_pages + test.pad;
    x.w_token_stride = test.heads + test.pad, x.out_token_stride = test.max_context_len + test.pad;
    DGRT_ASSIGN(run.q_, lab::DeviceBuffer::make(lab, rows * test.heads * test.head_dim));
    DGRT_ASSIGN(run.cache_, lab::DeviceBuffer::make(lab, (x.num_pages - 1) * x.kv_page_stride +
                                                             test.page_size * (test.head_dim + 4)));
    DGRT_ASSIGN(run.w_, lab::DeviceBuffer::make(lab, ((rows - 1) * x.w_token_stride + test.heads) * 4));
    DGRT_ASSIGN(run.lens_, lab::DeviceBuffer::make(lab, rows * 4));
    const int64_t out_elements = (rows - 1) * x.out_token_stride + test.max_context_len;
    DGRT_ASSIGN(run.out_, lab::DeviceBuffer::make(lab, out_elements * bytes));
    run.table_.assign((test.batch - 1) * x.page_table_stride + x.max_pages, 0);
    DGRT_ASSIGN(run.table_on_device_, lab::DeviceBuffer::make(lab, run.table_.size() * 4));
    x.q = run.q_.data(), x.kv_cache = run.cache_.data(), x.w = run.w_.as<float>(), x.out = run.out_.data();
    x.context_lens = run.lens_.as<int32_t>(), x.page_table = run.table_on_device_.as<int32_t>();
    DGRT_TRY(run.fill(1));
    DGRT_TRY(run.set_lens(lens));
    return run;
  }

  // Other values, and the pages in another order.
  Status fill(uint64_t seed) {
    const lab::Device& lab = *gpu_->lab;
    DGRT_TRY(lab::fill_normal_e4m3(lab, q_.data(), q_.bytes(), seed));
    DGRT_TRY(lab::fill_normal_f32(lab, w_.as<float>(), w_.bytes() / 4, seed + 2));
    DGRT_TRY(lab::fill_normal_e4m3(lab, cache_.data(), cache_.bytes(), seed + 1));
    DGRT_ASSIGN(std::vector<uint8_t> cache, cache_.download_all<uint8_t>());
    std::mt19937_64 rng(seed);
    for (int64_t page = 0; page < test_.num_pages(); ++page)
      for (int64_t slot = 0; slot < test_.page_size; ++slot) {
        const float scale = 0.001f * static_cast<float>(1 + rng() % 20);
        std::memcpy(cache.data() + page * test_.page_bytes() + test_.page_size * test_.head_dim + slot * 4, &scale, 4);
      }
    DGRT_TRY(cache_.upload(cache.data(), cache.size()));
    std::vector<int32_t> pages(test_.num_pages());
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), rng);
    for (size_t i = 0; i < table_.size(); ++i) {
      const auto column = static_cast<int64_t>(i) % args_.page_table_stride;
      const int64_t row = static_cast<int64_t>(i) / args_.page_table_stride;
      table_[i] = column < args_.max_pages ? pages[row * args_.max_pages + column] : INT32_MIN;
    }
    return upload_table();
  }
  Status set_lens(const std::vector<int32_t>& lens) const { return lens_.upload(lens.data(), lens_.bytes()); }
  Status set_page(int64_t request, int64_t page, int32_t entry) {
    table_[request * args_.page_table_stride + page] = entry;
    return upload_table();
  }
  // What no context reaches: NaN in the pages' values and scales, and no page where one is not needed.
  Status spoil(const std::vector<int32_t>& lens) {
    DGRT_ASSIGN(std::vector<uint8_t> cache, cache_.download_all<uint8_t>());
    std::vector<uint8_t> spoiled(cache.size(), 0x7f);
    for (int64_t request = 0; request < test_.batch; ++request) {
      const auto own = lens.begin() + request * test_.next_n;
      const int32_t most = *std::max_element(own, own + test_.next_n);
      for (int64_t page = 0; page < args_.max_pages; ++page) {
        int32_t& entry = table_[request * args_.page_table_stride + page];
        const int64_t keys = std::clamp<int64_t>(most - page * test_.page_size, 0, test_.page_size);
        const int64_t values = entry * test_.page_bytes(), scales = values + test_.page_size * test_.head_dim;
        std::copy_n(cache.begin() + values, keys * test_.head_dim, spoiled.begin() + values);
        std::fill_n(spoiled.begin() + scales + keys * 4, (test_.page_size - keys) * 4, 0xff);
        std::copy_n(cache.begin() + scales, keys * 4, spoiled.begin() + scales);
        if (keys == 0) entry = INT32_MAX;
      }
    }
    DGRT_TRY(cache_.upload(spoiled.data(), spoiled.size()));
    return upload_table();
  }

  Status launch() const { return plan_.launch(&args_.op, gpu_->lab->stream()); }
  Result<std::string> check(int64_t most_rows = 1 << 20) const {
    DGRT_TRY(gpu_->lab->synchronize());
    for (const lab::DeviceBuffer* buffer : {&q_, &cache_, &w_, &lens_, &table_on_device_, &out_})
      DGRT_TRY(buffer->check_guards());
    DGRT_TRY(plan_.kernel_name(&args_.op).status());
    DGRT_ASSIGN(const lab::LogitsError error, lab::check_mqa_logits(*gpu_->lab, desc_, args_, out_, most_rows));
    return error.to_string();
  }
  Result<std::string> run(int64_t most_rows = 1 << 20) const {
    DGRT_TRY(launch());
    return check(most_rows);
  }
  // INTERNAL: a request alone gives other bits.
  Status check_alone(int64_t request) const {
    const int64_t row = request * test_.next_n, size = test_.dtype_out == DGRT_FP32 ? 4 : 2;
    const int64_t row_bytes = args_.out_token_stride * size;
    DGRT_ASSIGN(const lab::DeviceBuffer alone, lab::DeviceBuffer::make(*gpu_->lab, test_.next_n * row_bytes));
    dgrt_paged_mqa_logits_args x = args_;
    x.batch = 1, x.out = alone.data();
    x.q = q_.as<uint8_t>() + row * test_.heads * test_.head_dim;
    x.w += row * x.w_token_stride, x.context_lens += row, x.page_table += request * x.page_table_stride;
    DGRT_TRY(plan_.launch(&x.op, gpu_->lab->stream()));
    DGRT_TRY(gpu_->lab->synchronize());
    // The last row may end with out's memory.
    const uint64_t bytes = (test_.next_n - 1) * row_bytes + test_.max_context_len * size;
    const std::byte* want = out_.as<std::byte>() + row * row_bytes;
    DGRT_ASSIGN(const int64_t at, lab::first_difference(*gpu_->lab, alone.data(), want, bytes));
    return at < 0 ? ok() : error(DGRT_INTERNAL, "request {} alone: byte {} differs", request, at);
  }

  const lab::DeviceBuffer& out() const { return out_; }

 private:
  Status upload_table() const { return table_on_device_.upload(table_.data(), table_on_device_.bytes()); }

  Gpu* gpu_ = nullptr;
  PagedCase test_;
  dgrt_paged_mqa_logits_desc desc_ = DGRT_PAGED_MQA_LOGITS_DESC;
  dgrt_paged_mqa_logits_args args_ = DGRT_PAGED_MQA_LOGITS_ARGS;
  std::vector<int32_t> table_;
  lab::DeviceBuffer q_, cache_, w_, lens_, table_on_device_, out_;
  Plan plan_;
};

void run_lens(Gpu& gpu, const PagedCase& test, const std::vector<int32_t>& lens, const char* what) {
  run_case(test.name() + ", " + what, [&]() -> Result<std::string> {
    DGRT_ASSIGN(const PagedRun run, PagedRun::make(gpu, test, lens));
    return run.run();
  });
}

}  // namespace

TEST_CASE("paged_mqa_logits: heads, head sizes, tokens, pages, types", "[gpu]") {
  Gpu* gpu = gpu_for("paged_mqa_logits: heads, head sizes, tokens, pages, types");
  if (!gpu) return;
  uint32_t turn = 0;
  for (const int64_t heads : {8, 16, 32, 64})
    for (const int64_t next_n : {1, 2, 3, 4}) {
      PagedCase test{.heads = heads, .next_n = next_n, .batch = 17, .max_context_len = 1003};
      if (turn % 3 == 1) test.head_dim = 64;
      if (turn % 3 == 2) test.head_dim = 32;
      test.page_size = 32 << turn / 2 % 3;
      if (turn % 2) test.dtype_out = DGRT_BF16;
      if (turn / 3 % 2) test.flags = 0;
      ++turn;
      run_lens(*gpu, test, any_lens(test, turn), "any");
    }
  for (const int64_t page_size : {32, 64, 128}) {
    const PagedCase test{.next_n = 2, .page_size = page_size, .batch = 3, .max_context_len = 20000};
    run_lens(*gpu, test, any_lens(test, 4), "long");
  }
}

TEST_CASE("paged_mqa_logits: contexts", "[gpu]") {
  Gpu* gpu = gpu_for("paged_mqa_logits: contexts");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_LOGITS_CLEAN}) {
    PagedCase test{.next_n = 2, .batch = 9, .max_context_len = 777, .flags = flags};
    run_lens(*gpu, test, equal_lens(test, 0), "none");
    run_lens(*gpu, test, equal_lens(test, -5), "negative");
    run_lens(*gpu, test, equal_lens(test, INT32_MAX), "cut");
    for (const int32_t len : {1, 64, 128, 129, 777}) run_lens(*gpu, test, equal_lens(test, len), "equal");
    std::vector<int32_t> one = equal_lens(test, 0);
    one[11] = 700;  // the second token of a request, and none else
    run_lens(*gpu, test, one, "one");
    test.batch = 1, test.max_context_len = 100000;
    run_lens(*gpu, test, equal_lens(test, 99999), "one long request");
    for (const int64_t batch : {255, 256, 257}) {  // one warp finds shares, or all do
      test.batch = batch, test.max_context_len = 150;
      run_lens(*gpu, test, any_lens(test, 7), "as many requests as a warp looks at");
    }
    test.batch = 3000, test.max_context_len = 300;
    run_lens(*gpu, test, any_lens(test, 5), "many requests");
    std::vector<int32_t> few = equal_lens(test, 0);
    few[5000] = few[5999] = 300;
    run_lens(*gpu, test, few, "few of many");
    test.batch = 4, test.pad = 0;
    run_lens(*gpu, test, any_lens(test, 5), "dense");
  }
}

TEST_CASE("paged_mqa_logits: pages that are not there, NaN past contexts", "[gpu]") {
  Gpu* gpu = gpu_for("paged_mqa_logits: pages that are not there, NaN past contexts");
  if (!gpu) return;
  for (const int64_t page_size : {32, 64, 128}) {
    const PagedCase test{.next_n = 2, .page_size = page_size, .batch = 9, .max_context_len = 1003};
    run_case(test.name() + ", no such page", [&]() -> Result<std::string> {
      DGRT_ASSIGN(PagedRun run, PagedRun::make(*gpu, test, equal_lens(test, 1000)));
      DGRT_TRY(run.set_page(0, 2, -1));
      DGRT_TRY(run.set_page(3, 0, INT32_MIN));
      DGRT_TRY(run.set_page(4, 5, static_cast<int32_t>(test.num_pages())));
      DGRT_TRY(run.set_page(8, 7, INT32_MAX));
      return run.run();
    });
    run_case(test.name() + ", NaN past contexts", [&]() -> Result<std::string> {
      const std::vector<int32_t> lens = any_lens(test, 3);
      DGRT_ASSIGN(PagedRun run, PagedRun::make(*gpu, test, lens));
      DGRT_TRY(run.spoil(lens));
      return run.run();
    });
  }
}

TEST_CASE("paged_mqa_logits: repeats and requests alone, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("paged_mqa_logits: repeats and requests alone, bitwise");
  if (!gpu) return;
  for (const int64_t next_n : {2, 3, 4}) {
    const PagedCase test{
        .next_n = next_n, .batch = 100, .max_context_len = 2000, .flags = DGRT_LOGITS_CLEAN | DGRT_FLAG_PDL};
    run_case("repeats: " + test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(const PagedRun run, PagedRun::make(*gpu, test, any_lens(test, 3)));
      DGRT_ASSIGN(const std::string detail, run.run());
      DGRT_ASSIGN(const std::vector<std::byte> want, run.out().download_all<std::byte>());
      for (int repeat = 0; repeat < 20; ++repeat) {
        DGRT_TRY(run.out().poison());
        DGRT_TRY(gpu->lab->synchronize());
        DGRT_TRY(run.launch());
        DGRT_TRY(gpu->lab->synchronize());
        DGRT_ASSIGN(const std::vector<std::byte> got, run.out().download_all<std::byte>());
        if (got != want) return error(DGRT_INTERNAL, "repeat {} differs", repeat);
      }
      for (int64_t request = 0; request < test.batch; request += 17) DGRT_TRY(run.check_alone(request));
      return detail;
    });
  }
}

TEST_CASE("paged_mqa_logits: graph replay with other contexts", "[gpu]") {
  Gpu* gpu = gpu_for("paged_mqa_logits: graph replay with other contexts");
  if (!gpu) return;
  const PagedCase test{.next_n = 2, .batch = 30, .max_context_len = 3000, .flags = DGRT_LOGITS_CLEAN | DGRT_FLAG_PDL};
  run_case("graph replay: " + test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(PagedRun run, PagedRun::make(*gpu, test, equal_lens(test, 0)));
    DGRT_TRY(gpu->lab->synchronize());
    Graph graph(gpu->lab->driver());
    const CUstream stream = gpu->lab->stream();
    DGRT_TRY(capture(&graph, stream, [&] { return run.launch(); }));
    std::string detail;
    for (uint64_t round = 0; round < 5; ++round) {
      DGRT_TRY(run.fill(round + 9));
      DGRT_TRY(run.set_lens(round == 3 ? equal_lens(test, 0) : any_lens(test, round)));
      DGRT_TRY(run.out().poison());
      DGRT_TRY(gpu->lab->synchronize());
      for (int repeat = 0; repeat < 3; ++repeat) DGRT_CU(gpu->lab->driver(), cuGraphLaunch(graph.exec, stream));
      DGRT_ASSIGN(detail, run.check());
    }
    return detail;
  });
}

TEST_CASE("paged_mqa_logits: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("paged_mqa_logits: small sizes");
  if (!gpu) return;
  PagedCase test{.heads = 16, .head_dim = 64, .next_n = 2, .page_size = 32, .batch = 5, .max_context_len = 203};
  run_lens(*gpu, test, any_lens(test, 3), "any");
  test.heads = 64, test.head_dim = 128, test.next_n = 1, test.page_size = 64;
  run_lens(*gpu, test, any_lens(test, 4), "any");
}

}  // namespace dgrt::test
