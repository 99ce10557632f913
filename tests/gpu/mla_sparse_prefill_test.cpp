// mla_sparse_prefill against the fp64 reference: heads, columns, lists of any length with entries that are no rows
// anywhere in them, NaN in rows that nobody names, sinks, forms of lse, strides, many tokens, far rows.
#include <algorithm>
#include <climits>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "dgrt/mla.h"
#include "tests/gpu/gpu_test.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_attn_check.h"
#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_gemm_check.h"  // first_difference()

namespace dgrt::test {
namespace {

constexpr int64_t dv = 512;
constexpr float inf = std::numeric_limits<float>::infinity();

enum class Lists {
  whole,    // only rows
  holes,    // one entry in six is no row
  one,      // of each list one entry, somewhere, is a row
  nothing,  // not one
  twice,    // rows that stand there several times
};

struct SparseCase {
  int64_t num_heads = 16, columns = 576, tokens = 2, kv_rows = 200, top_k = 128;
  Lists lists = Lists::holes;
  bool lengths = true, sinks = true, max_logits = true, lse = true;
  dgrt_dtype dtype = DGRT_BF16;
  uint32_t flags = 0, sm_budget = 0;
  bool padded = false;      // all strides larger than rows
  int64_t kv_stride = 0;    // 0: packed or padded
  float sigma = 1;          // of q; kv has 1
  int64_t most_checked = 64;

  std::string name() const {
    constexpr const char* lists_names[] = {"whole", "holes", "one", "nothing", "twice"};
    std::string text = fmt::format("mla_sparse_prefill {} {} heads {} columns {} tokens top_k={} of {} rows, {}",
                                   dtype == DGRT_FP16 ? "fp16" : "bf16", num_heads, columns, tokens, top_k, kv_rows,
                                   lists_names[static_cast<int>(lists)]);
    for (const auto& [has, what] : {std::pair{lengths, "lengths"}, {sinks, "sinks"}, {max_logits, "max_logits"},
                                    {lse, "lse"}, {padded, "padded"}, {kv_stride != 0, "far"}})
      if (has) text += fmt::format(" {}", what);
    if (sigma != 1) text += fmt::format(" sigma={}", sigma);
    if (sm_budget > 0) text += fmt::format(" sms={}", sm_budget);
    if (flags != 0) text += fmt::format(" flags={:#x}", flags);
    return text;
  }
};

class SparseRun {
 public:
  static Result<SparseRun> make(Gpu& gpu, const SparseCase& test) {
    SparseRun run;
    run.gpu_ = &gpu, run.test_ = test;
    dgrt_mla_sparse_prefill_desc& desc = run.desc_;
    desc.num_heads = test.num_heads, desc.head_dim_qk = test.columns;
    desc.max_tokens = test.tokens, desc.max_top_k = test.top_k;
    desc.dtype = test.dtype, desc.sm_budget = test.sm_budget, desc.flags = test.flags;
    DGRT_ASSIGN(run.plan_, Plan::make(gpu, &desc.op));
    run.set_strides();
    DGRT_TRY(run.make_operands());
    DGRT_TRY(run.set_lists(1));
    DGRT_TRY(run.plant_nan());
    DGRT_TRY(gpu.lab->synchronize());
    return run;
  }

  struct Outputs {
    lab::DeviceBuffer o, lse, max_logits;
    dgrt_mla_sparse_prefill_args args = DGRT_MLA_SPARSE_PREFILL_ARGS;

    Status poison() const {
      for (const lab::DeviceBuffer* buffer : {&o, &lse, &max_logits}) DGRT_TRY(buffer->poison());
      return ok();
    }
  };
  Result<Outputs> outputs() const {
    Outputs out;
    out.args = args_;
    const lab::Device& lab = *gpu_->lab;
    DGRT_ASSIGN(out.o, lab::DeviceBuffer::make(lab, test_.tokens * args_.o_token_stride * 2));
    DGRT_ASSIGN(out.lse, lab::DeviceBuffer::make(lab, test_.tokens * args_.lse_token_stride * 4));
    DGRT_ASSIGN(out.max_logits, lab::DeviceBuffer::make(lab, out.lse.bytes()));
    out.args.o = out.o.data();
    if (test_.lse) out.args.lse = out.lse.as<float>();
    if (test_.max_logits) out.args.max_logits = out.max_logits.as<float>();
    return out;
  }

  Status launch(const Outputs& out) const { return plan_.launch(&out.args.op, gpu_->lab->stream()); }

  // Compares with the reference, then poisons: nothing else may have been written. Also guards.
  Result<std::string> check(const Outputs& out) const {
    DGRT_TRY(gpu_->lab->synchronize());
    for (const lab::DeviceBuffer* buffer : {&q_, &kv_, &indices_, &lengths_, &sinks_, &out.o, &out.lse, &out.max_logits})
      if (buffer->bytes() > 0) DGRT_TRY(buffer->check_guards());
    const lab::AttnProblem problem = lab::problem_of(desc_, out.args);
    DGRT_ASSIGN(const lab::AttnError found, lab::check_attn(*gpu_->lab, problem, test_.tokens, test_.most_checked));
    DGRT_TRY(lab::check_attn_untouched(*gpu_->lab, problem, test_.tokens, out.o, out.lse, out.max_logits));
    return found.to_string();
  }

  // Lists of another seed, which name no row that the first ones did not. Waits for the device.
  Status set_lists(uint64_t seed) {
    std::mt19937_64 random(seed);
    const SparseCase& t = test_;
    const int32_t bad[] = {INT_MIN, -123456, -1, static_cast<int32_t>(t.kv_rows), 1919810 + (1 << 28), 2147480000, INT_MAX};
    // Of every five rows the first is nobody's, if there are others.
    const auto row = [&] {
      const auto any = static_cast<int32_t>(random() % static_cast<uint64_t>(t.kv_rows));
      return any % 5 == 0 && any + 1 < t.kv_rows ? any + 1 : any;
    };
    const int64_t lengths[] = {t.top_k, 1, t.top_k - 1, 0, 65, t.top_k + 100, -3, t.top_k / 2, 64};
    std::vector<int32_t> entries(static_cast<size_t>(t.tokens * args_.indices_row_stride)), counts;
    for (int64_t i = 0; i < t.tokens; ++i) {
      counts.push_back(static_cast<int32_t>(lengths[i % 9]));
      const int64_t length = t.lengths ? std::clamp<int64_t>(counts.back(), 0, t.top_k) : t.top_k;
      const auto only = static_cast<int64_t>(random() % static_cast<uint64_t>(std::max<int64_t>(length, 1)));
      for (int64_t j = 0; j < args_.indices_row_stride; ++j) {
        bool is_row = t.kv_rows > 0 && t.lists != Lists::nothing;
        if (t.lists == Lists::holes && random() % 6 == 0) is_row = false;
        if (t.lists == Lists::one && j != only) is_row = false;
        int32_t entry = is_row ? row() : bad[random() % 7];
        if (t.lists == Lists::twice && is_row) entry = 1 + 5 * static_cast<int32_t>(j % 7 % ((t.kv_rows + 3) / 5));
        // Behind the list there may be rows of nobody as well.
        if (j >= length) entry = j % 2 == 0 && t.kv_rows > 5 ? 5 * (entry & 1) : bad[random() % 7];
        entries[static_cast<size_t>(i * args_.indices_row_stride + j)] = entry;
      }
    }
    DGRT_TRY(gpu_->lab->synchronize());
    if (t.lengths) DGRT_TRY(lengths_.upload(counts.data(), counts.size() * 4));
    return indices_.upload(entries.data(), entries.size() * 4);
  }

  const Plan& plan() const { return plan_; }

 private:
  void set_strides() {
    dgrt_mla_sparse_prefill_args& x = args_;
    const SparseCase& t = test_;
    const int64_t pad = t.padded ? 8 : 0;
    x.tokens = t.tokens, x.kv_rows = t.kv_rows, x.top_k = t.top_k;
    x.q_head_stride = t.columns + pad, x.q_token_stride = t.num_heads * x.q_head_stride + 2 * pad;
    x.o_head_stride = dv + pad, x.o_token_stride = t.num_heads * x.o_head_stride + 2 * pad;
    x.kv_row_stride = t.kv_stride != 0 ? t.kv_stride : t.columns + 3 * pad;
    x.indices_row_stride = t.top_k + pad / 8 * 3;
    x.lse_head_stride = t.padded ? 2 : 1, x.lse_token_stride = t.num_heads * x.lse_head_stride + pad;
    x.scale = 1.0f / std::sqrt(static_cast<float>(t.columns));
  }

  Status make_operands() {
    dgrt_mla_sparse_prefill_args& x = args_;
    const SparseCase& t = test_;
    const lab::Device& lab = *gpu_->lab;
    DGRT_ASSIGN(q_, lab::DeviceBuffer::make(lab, t.tokens * x.q_token_stride * 2));
    DGRT_ASSIGN(kv_, lab::DeviceBuffer::make(lab, t.kv_rows * x.kv_row_stride * 2));
    DGRT_ASSIGN(indices_, lab::DeviceBuffer::make(lab, t.tokens * x.indices_row_stride * 4));
    DGRT_ASSIGN(lengths_, lab::DeviceBuffer::make(lab, t.tokens * 4));
    DGRT_ASSIGN(sinks_, lab::DeviceBuffer::make(lab, t.num_heads * 4));
    const auto normal = [&](const lab::DeviceBuffer& to, uint64_t seed, float sigma) {
      if (t.dtype == DGRT_FP16) return lab::fill_normal_fp16(lab, to.data(), to.bytes() / 2, seed, sigma);
      return lab::fill_normal_bf16(lab, to.data(), to.bytes() / 2, seed, sigma);
    };
    DGRT_TRY(normal(q_, 1, t.sigma));
    DGRT_TRY(normal(kv_, 2, 1.0f));
    std::vector<float> sinks(static_cast<size_t>(t.num_heads));
    const float some[] = {0.5f, -inf, 3.0f, inf, -20.0f, 1000.0f, 0.0f};
    for (size_t i = 0; i < sinks.size(); ++i) sinks[i] = some[i % 7];
    DGRT_TRY(sinks_.upload(sinks.data(), sinks_.bytes()));
    x.q = q_.data(), x.kv = kv_.data(), x.indices = indices_.as<int32_t>();
    if (t.lengths) x.lengths = lengths_.as<int32_t>();
    if (t.sinks) x.sinks = sinks_.as<float>();
    return ok();
  }

  // Between rows, and in those of nobody. Rows that are far apart are too much memory to go through here.
  Status plant_nan() const {
    if (test_.kv_stride != 0) return ok();
    DGRT_ASSIGN(std::vector<uint16_t> image, kv_.download_all<uint16_t>());
    for (int64_t i = 0; i < static_cast<int64_t>(image.size()); ++i) {
      const int64_t row = i / args_.kv_row_stride, column = i % args_.kv_row_stride;
      if (column >= test_.columns || (row % 5 == 0 && row + 1 < test_.kv_rows)) image[static_cast<size_t>(i)] = 0xffff;
    }
    return kv_.upload(image.data(), image.size() * 2);
  }

  Gpu* gpu_ = nullptr;
  SparseCase test_;
  dgrt_mla_sparse_prefill_desc desc_ = DGRT_MLA_SPARSE_PREFILL_DESC;
  dgrt_mla_sparse_prefill_args args_ = DGRT_MLA_SPARSE_PREFILL_ARGS;
  lab::DeviceBuffer q_, kv_, indices_, lengths_, sinks_;
  Plan plan_;
};

Status check_equal(const Gpu& gpu, const SparseRun::Outputs& want, const SparseRun::Outputs& got) {
  DGRT_TRY(gpu.lab->synchronize());
  for (const auto& [name, a, b] : {std::tuple{"o", &want.o, &got.o}, {"lse", &want.lse, &got.lse},
                                   {"max_logits", &want.max_logits, &got.max_logits}}) {
    DGRT_ASSIGN(const int64_t at, lab::first_difference(*gpu.lab, a->data(), b->data(), a->bytes()));
    if (at >= 0) return error(DGRT_INTERNAL, "byte {} of {} differs", at, name);
  }
  return ok();
}

void run_sparse(Gpu& gpu, const SparseCase& test) {
  run_case(test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(const SparseRun run, SparseRun::make(gpu, test));
    DGRT_ASSIGN(const SparseRun::Outputs out, run.outputs());
    std::string kernel;
    if (test.tokens > 0) {
      DGRT_ASSIGN(kernel, run.plan().kernel_name(&out.args.op));
      kernel += ": ";
    }
    DGRT_TRY(run.launch(out));
    DGRT_ASSIGN(const std::string found, run.check(out));
    return kernel + found;
  });
}

// Three launches back to back give the first one's bits, whatever the number of SMs.
void run_sparse_repeats(Gpu& gpu, const SparseCase& test, int rounds) {
  run_case("repeats: " + test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(const SparseRun run, SparseRun::make(gpu, test));
    SparseCase fewer = test;
    fewer.sm_budget = 3;
    DGRT_ASSIGN(const SparseRun other, SparseRun::make(gpu, fewer));
    DGRT_ASSIGN(const SparseRun::Outputs want, run.outputs());
    DGRT_ASSIGN(const SparseRun::Outputs got, run.outputs());
    DGRT_TRY(run.launch(want));
    for (int round = 0; round < rounds; ++round) {
      DGRT_TRY(got.poison());
      for (int i = 0; i < 3; ++i) DGRT_TRY((round % 2 == 0 ? run : other).launch(got));
      DGRT_TRY(check_equal(gpu, want, got));
    }
    return run.check(want);
  });
}

}  // namespace

TEST_CASE("mla_sparse_prefill: heads and columns", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_prefill: heads and columns");
  if (!gpu) return;
  for (const int64_t columns : {576, 512})
    for (const int64_t heads : {1, 16, 63, 64, 65, 128})
      run_sparse(*gpu, {.num_heads = heads, .columns = columns, .tokens = heads > 64 ? 1 : 2, .top_k = heads > 16 ? 64 : 192,
                        .lengths = false});
}

TEST_CASE("mla_sparse_prefill: lists", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_prefill: lists");
  if (!gpu) return;
  for (const int64_t columns : {576, 512})
    for (const Lists lists : {Lists::whole, Lists::holes, Lists::one, Lists::nothing, Lists::twice})
      run_sparse(*gpu, {.num_heads = 4, .columns = columns, .tokens = 9, .top_k = 192, .lists = lists});
  for (const int64_t columns : {576, 512})  // two tiles of a token
    run_sparse(*gpu, {.num_heads = 66, .columns = columns, .tokens = 9, .top_k = 192, .sm_budget = 4});
  for (const int64_t rows : {0, 1, 64, 600}) run_sparse(*gpu, {.num_heads = 3, .tokens = 5, .kv_rows = rows});
  for (const int64_t tokens : {0, 1}) run_sparse(*gpu, {.tokens = tokens, .top_k = 64});
}

TEST_CASE("mla_sparse_prefill: sinks, forms of lse, large logits", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_prefill: sinks, forms of lse, large logits");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_MLA_LSE_BASE2, DGRT_MLA_LSE_EMPTY_INF, DGRT_MLA_LSE_BASE2 | DGRT_MLA_LSE_EMPTY_INF})
    for (const bool sinks : {false, true})
      run_sparse(*gpu, {.num_heads = 8, .columns = 512, .tokens = 4, .sinks = sinks, .flags = flags});
  run_sparse(*gpu, {.num_heads = 8, .tokens = 4, .max_logits = false});
  run_sparse(*gpu, {.num_heads = 8, .tokens = 4, .lse = false});
  run_sparse(*gpu, {.num_heads = 8, .tokens = 4, .max_logits = false, .lse = false});
  for (const float sigma : {100.0f, 20000.0f}) run_sparse(*gpu, {.num_heads = 8, .tokens = 4, .sigma = sigma});
}

TEST_CASE("mla_sparse_prefill: strides and types", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_prefill: strides and types");
  if (!gpu) return;
  for (const int64_t columns : {576, 512})
    for (const dgrt_dtype dtype : {DGRT_BF16, DGRT_FP16})
      run_sparse(*gpu, {.num_heads = 17, .columns = columns, .tokens = 3, .dtype = dtype, .padded = true});
}

TEST_CASE("mla_sparse_prefill: several items to a CTA, repeats", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_prefill: several items to a CTA, repeats");
  if (!gpu) return;
  for (const int64_t columns : {576, 512})
    for (const uint32_t flags : {0u, DGRT_FLAG_PDL | DGRT_FLAG_BATCH_INVARIANT})
      run_sparse_repeats(*gpu, {.num_heads = 2, .columns = columns, .tokens = 18, .top_k = 192, .flags = flags,
                                .sm_budget = 2}, 4);
  run_sparse_repeats(*gpu, {.num_heads = 66, .tokens = 4, .top_k = 64, .sm_budget = 2}, 2);
}

TEST_CASE("mla_sparse_prefill: graph replay with other lists", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_prefill: graph replay with other lists");
  if (!gpu) return;
  const SparseCase test{.num_heads = 4, .columns = 512, .tokens = 7};
  run_case("graph replay: " + test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(SparseRun run, SparseRun::make(*gpu, test));
    DGRT_ASSIGN(const SparseRun::Outputs out, run.outputs());
    Graph graph(gpu->lab->driver());
    DGRT_TRY(capture(&graph, gpu->lab->stream(), [&] { return run.launch(out); }));
    std::string details;
    for (const uint64_t seed : {2, 3}) {
      DGRT_TRY(run.set_lists(seed));
      DGRT_TRY(out.poison());
      DGRT_CU(gpu->lab->driver(), cuGraphLaunch(graph.exec, gpu->lab->stream()));
      DGRT_ASSIGN(const std::string detail, run.check(out));
      details += (details.empty() ? "" : "; ") + detail;
    }
    return details;
  });
}

TEST_CASE("mla_sparse_prefill: sizes of models", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_prefill: sizes of models");
  if (!gpu) return;
  for (const int64_t columns : {576, 512})
    for (const int64_t heads : {64, 128})
      for (const auto& [rows, top_k] : std::vector<std::pair<int64_t, int64_t>>{
               {128, 128}, {592, 128}, {1840, 256}, {1592, 384}, {1521, 512}, {95, 128}, {4096, 2048}, {32, 2048}})
        for (const int64_t tokens : {1, 62, 213})
          run_sparse(*gpu, {.num_heads = heads, .columns = columns, .tokens = tokens, .kv_rows = rows, .top_k = top_k,
                            .lengths = tokens == 213, .sinks = tokens != 1, .most_checked = 16});
  run_sparse_repeats(*gpu, {.num_heads = 128, .tokens = 300, .kv_rows = 8192, .top_k = 2048, .most_checked = 16}, 10);
}

TEST_CASE("mla_sparse_prefill: many tokens, far rows", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_prefill: many tokens, far rows");
  if (!gpu) return;
  run_sparse(*gpu, {.num_heads = 16, .columns = 512, .tokens = 70000, .kv_rows = 1000, .top_k = 64});
  run_sparse(*gpu, {.num_heads = 64, .tokens = 20, .kv_rows = 1100, .kv_stride = 1 << 21});  // 4.6 GB
}

TEST_CASE("mla_sparse_prefill: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("mla_sparse_prefill: small sizes");
  if (!gpu) return;
  run_sparse(*gpu, {.num_heads = 3, .tokens = 5, .kv_rows = 90, .top_k = 128, .sm_budget = 2});
  run_sparse(*gpu, {.num_heads = 65, .columns = 512, .tokens = 1, .kv_rows = 70, .top_k = 64, .padded = true});
}

}  // namespace dgrt::test
