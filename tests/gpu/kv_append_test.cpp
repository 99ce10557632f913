// kv_append byte for byte: types, page sizes, layouts, scales, slots that do not exist; graphs and repeats.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "tests/gpu/gpu_test.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_attn_memory_check.h"

namespace dgrt::test {
namespace {

enum class Layout { nhd, hnd, padded };
enum class Scales { none, one, per_head };

struct AppendCase {
  int64_t tokens = 0, heads = 0, head_dim_qk = 0, head_dim_v = 0, page_size = 0;
  dgrt_dtype dtype = DGRT_BF16, dtype_cache = DGRT_BF16;
  Layout layout = Layout::nhd;
  Scales scales = Scales::none;
  uint32_t flags = 0;

  int64_t num_pages() const { return (tokens + tokens / 4) / page_size + 2; }
  int64_t cache_bytes() const { return dtype_cache == DGRT_E4M3 ? 1 : 2; }
  std::string name() const {
    return fmt::format("kv_append {}x{}x{},{} page={} dtypes={},{} layout={} scales={} flags={:#x}",
                       tokens, heads, head_dim_qk, head_dim_v, page_size, dtype, dtype_cache,
                       static_cast<int>(layout), static_cast<int>(scales), flags);
  }
};

class AppendRun {
 public:
  static Result<AppendRun> make(Gpu& gpu, const AppendCase& test) {
    AppendRun run;
    run.gpu_ = &gpu, run.test_ = test;
    run.desc_.num_kv_heads = test.heads, run.desc_.max_tokens = 1 << 20;
    run.desc_.head_dim_qk = test.head_dim_qk, run.desc_.head_dim_v = test.head_dim_v;
    run.desc_.dtype = test.dtype, run.desc_.dtype_cache = test.dtype_cache;
    run.desc_.flags = test.flags;
    DGRT_ASSIGN(run.plan_, Plan::make(gpu, &run.desc_.op));
    run.set_strides();
    const dgrt_kv_append_args& x = run.args_;
    const lab::Device& lab = *gpu.lab;
    run.images_.k.resize(run.extent(x.k_token_stride, x.k_head_stride, test.head_dim_qk));
    run.images_.v.resize(run.extent(x.v_token_stride, x.v_head_stride, test.head_dim_v));
    DGRT_ASSIGN(run.k_, lab::DeviceBuffer::make(lab, run.images_.k.size()));
    DGRT_ASSIGN(run.v_, lab::DeviceBuffer::make(lab, run.images_.v.size()));
    DGRT_ASSIGN(run.k_cache_,
                lab::DeviceBuffer::make(
                    lab, test.num_pages() * x.k_cache_page_stride * test.cache_bytes()));
    DGRT_ASSIGN(run.v_cache_,
                lab::DeviceBuffer::make(
                    lab, test.num_pages() * x.v_cache_page_stride * test.cache_bytes()));
    DGRT_ASSIGN(run.slots_, lab::DeviceBuffer::make(lab, test.tokens * 8));
    DGRT_ASSIGN(run.scales_, lab::DeviceBuffer::make(lab, test.heads * 2 * 4));
    run.set_pointers();
    DGRT_TRY(run.fill(1));
    return run;
  }

  // New inputs: any bits at all where they are copied or saturate, among them NaN and infinities.
  Status fill(uint64_t seed) {
    std::mt19937_64 random(seed);
    for (lab::Bytes* bytes : {&images_.k, &images_.v})
      for (std::byte& byte : *bytes) byte = static_cast<std::byte>(random());
    const int64_t num_slots = test_.num_pages() * test_.page_size;
    std::vector<int64_t> order(num_slots);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    images_.slots.assign(order.begin(), order.begin() + test_.tokens);
    const bool wide = (test_.flags & DGRT_KV_SLOTS_INT64) != 0;
    const std::vector<int64_t> bad = {
        -1, num_slots, INT32_MAX, INT32_MIN, wide ? int64_t{1} << 32 : -2, wide ? INT64_MIN : -3};
    for (int64_t token = 3; token < test_.tokens; token += 7)
      images_.slots[token] = bad[token % bad.size()];
    images_.k_scale.clear(), images_.v_scale.clear();
    const int64_t scales = test_.scales == Scales::none  ? 0
                           : test_.scales == Scales::one ? 1
                                                         : test_.heads;
    for (int64_t i = 0; i < scales; ++i) {
      images_.k_scale.push_back(std::ldexp(1.0f + static_cast<float>(random() % 1000) / 1000,
                                           static_cast<int>(random() % 24) - 12));
      images_.v_scale.push_back(std::ldexp(1.0f + static_cast<float>(random() % 1000) / 1000,
                                           static_cast<int>(random() % 24) - 12));
    }
    return upload();
  }

  Status poison() const {
    DGRT_TRY(k_cache_.poison());
    return v_cache_.poison();
  }
  Status launch() const { return plan_.launch(&args_.op, gpu_->lab->stream()); }

  Result<std::string> check() {
    DGRT_TRY(gpu_->lab->synchronize());
    for (const lab::DeviceBuffer* buffer : {&k_, &v_, &k_cache_, &v_cache_, &slots_, &scales_})
      DGRT_TRY(buffer->check_guards());
    DGRT_ASSIGN(images_.k_cache, k_cache_.download_all<std::byte>());
    DGRT_ASSIGN(images_.v_cache, v_cache_.download_all<std::byte>());
    DGRT_TRY(lab::check_kv_append(desc_, args_, images_));
    if (test_.tokens == 0) return std::string("nothing to do");
    return plan_.kernel_name(&args_.op);
  }

 private:
  void set_strides() {
    const bool padded = test_.layout == Layout::padded;
    const int64_t pad = padded ? 8 : 0;
    dgrt_kv_append_args& x = args_;
    x.tokens = test_.tokens, x.page_size = test_.page_size, x.num_pages = test_.num_pages();
    const auto rows = [&](int64_t head_dim, int64_t* token, int64_t* head) {
      *head = head_dim + pad, *token = test_.heads * *head + 2 * pad;
    };
    rows(test_.head_dim_qk, &x.k_token_stride, &x.k_head_stride);
    rows(test_.head_dim_v, &x.v_token_stride, &x.v_head_stride);
    const auto cache = [&](int64_t head_dim, int64_t* page, int64_t* token, int64_t* head) {
      const bool hnd = test_.layout == Layout::hnd;
      *token = hnd ? head_dim : test_.heads * (head_dim + pad) + pad;
      *head = hnd ? test_.page_size * head_dim : head_dim + pad;
      *page = (hnd ? test_.heads * *head : test_.page_size * *token) + 5 * pad;
    };
    cache(test_.head_dim_qk, &x.k_cache_page_stride, &x.k_cache_token_stride,
          &x.k_cache_head_stride);
    cache(test_.head_dim_v, &x.v_cache_page_stride, &x.v_cache_token_stride,
          &x.v_cache_head_stride);
    if (test_.scales == Scales::per_head) x.k_scale_head_stride = x.v_scale_head_stride = 1;
  }
  void set_pointers() {
    args_.k = k_.data(), args_.v = v_.data();
    args_.k_cache = k_cache_.data(), args_.v_cache = v_cache_.data(),
    args_.slot_mapping = slots_.data();
    if (test_.scales == Scales::none) return;
    args_.k_scale = scales_.as<float>(), args_.v_scale = args_.k_scale + test_.heads;
  }
  Status upload() const {
    DGRT_TRY(k_.upload(images_.k.data(), images_.k.size()));
    DGRT_TRY(v_.upload(images_.v.data(), images_.v.size()));
    DGRT_TRY(scales_.upload(images_.k_scale.data(), images_.k_scale.size() * 4));
    DGRT_TRY(scales_.upload(images_.v_scale.data(), images_.v_scale.size() * 4, test_.heads * 4));
    if ((test_.flags & DGRT_KV_SLOTS_INT64) != 0)
      return slots_.upload(images_.slots.data(), images_.slots.size() * 8);
    const std::vector<int32_t> narrow(images_.slots.begin(), images_.slots.end());
    return slots_.upload(narrow.data(), narrow.size() * 4);
  }
  size_t extent(int64_t token, int64_t head, int64_t columns) const {
    return test_.tokens == 0
               ? 0
               : ((test_.tokens - 1) * token + (test_.heads - 1) * head + columns) * 2;
  }

  Gpu* gpu_ = nullptr;
  AppendCase test_;
  dgrt_kv_append_desc desc_ = DGRT_KV_APPEND_DESC;
  dgrt_kv_append_args args_ = DGRT_KV_APPEND_ARGS;
  Plan plan_;
  lab::AppendImages images_;
  lab::DeviceBuffer k_, v_, k_cache_, v_cache_, slots_, scales_;
};

void run_append(Gpu& gpu, const AppendCase& test) {
  run_case(test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(AppendRun run, AppendRun::make(gpu, test));
    DGRT_TRY(gpu.lab->synchronize());
    DGRT_TRY(run.launch());
    return run.check();
  });
}

}  // namespace

TEST_CASE("kv_append: types, layouts, page sizes, scales", "[gpu]") {
  Gpu* gpu = gpu_for("kv_append: types, layouts, page sizes, scales");
  if (!gpu) return;
  for (const dgrt_dtype dtype : {DGRT_BF16, DGRT_FP16})
    for (const Layout layout : {Layout::nhd, Layout::hnd, Layout::padded})
      for (const int64_t page_size : {1, 7, 64}) {
        AppendCase test{.tokens = 300,
                        .heads = 8,
                        .head_dim_qk = 128,
                        .head_dim_v = 128,
                        .page_size = page_size,
                        .dtype = dtype,
                        .dtype_cache = dtype,
                        .layout = layout};
        run_append(*gpu, test);
        test.dtype_cache = DGRT_E4M3, test.flags = DGRT_KV_SLOTS_INT64;
        for (const Scales scales : {Scales::none, Scales::one, Scales::per_head}) {
          test.scales = scales;
          run_append(*gpu, test);
        }
      }
}

TEST_CASE("kv_append: heads, head sizes, numbers of tokens", "[gpu]") {
  Gpu* gpu = gpu_for("kv_append: heads, head sizes, numbers of tokens");
  if (!gpu) return;
  for (const int64_t heads : {1, 3, 40})
    for (const auto& [qk, v] : std::initializer_list<std::pair<int64_t, int64_t>>{
             {8, 8}, {64, 64}, {72, 40}, {192, 128}, {512, 512}})
      for (const int64_t tokens : {0, 1, 5, 131}) {
        AppendCase test{.tokens = tokens,
                        .heads = heads,
                        .head_dim_qk = qk,
                        .head_dim_v = v,
                        .page_size = 16,
                        .layout = Layout::padded,
                        .flags = DGRT_FLAG_PDL};
        run_append(*gpu, test);
        test.dtype_cache = DGRT_E4M3, test.scales = Scales::per_head;
        run_append(*gpu, test);
      }
  run_append(*gpu,
             {.tokens = 20000, .heads = 8, .head_dim_qk = 128, .head_dim_v = 128, .page_size = 64});
  // Where the model lets threads move two tokens.
  for (const dgrt_dtype cache : {DGRT_BF16, DGRT_E4M3})
    run_append(*gpu, {.tokens = 1001,
                      .heads = 8,
                      .head_dim_qk = 192,
                      .head_dim_v = 128,
                      .page_size = 16,
                      .dtype_cache = cache});
  run_append(*gpu, {.tokens = 20000,
                    .heads = 8,
                    .head_dim_qk = 128,
                    .head_dim_v = 128,
                    .page_size = 64,
                    .dtype_cache = DGRT_E4M3,
                    .scales = Scales::one});
}

TEST_CASE("kv_append: graph replay with other inputs and slots", "[gpu]") {
  Gpu* gpu = gpu_for("kv_append: graph replay with other inputs and slots");
  if (!gpu) return;
  for (const dgrt_dtype cache : {DGRT_BF16, DGRT_E4M3}) {
    const AppendCase test{.tokens = 77,
                          .heads = 4,
                          .head_dim_qk = 256,
                          .head_dim_v = 256,
                          .page_size = 16,
                          .dtype_cache = cache,
                          .flags = DGRT_FLAG_PDL | DGRT_KV_SLOTS_INT64};
    run_case("graph replay: " + test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(AppendRun run, AppendRun::make(*gpu, test));
      return replay(*gpu, 10, &run);
    });
  }
}

TEST_CASE("kv_append: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("kv_append: small sizes");
  if (!gpu) return;
  AppendCase test{.tokens = 37,
                  .heads = 3,
                  .head_dim_qk = 72,
                  .head_dim_v = 40,
                  .page_size = 7,
                  .layout = Layout::padded};
  run_append(*gpu, test);
  test.dtype_cache = DGRT_E4M3, test.scales = Scales::per_head;
  run_append(*gpu, test);
}

}  // namespace dgrt::test
