// mla_kv_append byte for byte: both formats, page sizes, strides, slots that do not exist, numbers of every kind.
#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "tests/gpu/gpu_test.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_sparse_check.h"

namespace dgrt::test {
namespace {

struct AppendCase {
  int64_t tokens = 0, page_size = 64;
  dgrt_mla_kv_format format = DGRT_MLA_KV_V4;
  bool joined = true;  // latent and rotary are parts of the same rows
  int64_t pad = 0;     // of rows, in vectors; of pages, in 16 bytes
  uint32_t flags = 0;

  int64_t num_pages() const { return (tokens + tokens / 4) / page_size + 2; }
  int64_t columns() const { return format == DGRT_MLA_KV_V32 ? 512 : 448; }
  std::string name() const {
    return fmt::format("mla_kv_append {} page={} format={} joined={} pad={} flags={:#x}", tokens, page_size, format,
                       joined, pad, flags);
  }
};

class LatentAppendRun {
 public:
  static Result<LatentAppendRun> make(Gpu& gpu, const AppendCase& test) {
    LatentAppendRun run;
    run.gpu_ = &gpu, run.test_ = test;
    run.desc_.max_tokens = 1 << 20, run.desc_.format = test.format, run.desc_.flags = test.flags;
    DGRT_ASSIGN(run.plan_, Plan::make(gpu, &run.desc_.op));
    dgrt_mla_kv_append_args& x = run.args_;
    const int64_t token_bytes = test.format == DGRT_MLA_KV_V32 ? 656 : 584;
    x.tokens = test.tokens, x.page_size = test.page_size, x.num_pages = test.num_pages();
    x.latent_token_stride = test.columns() + (test.joined ? 64 : 0) + 8 * test.pad;
    x.rotary_token_stride = test.joined ? x.latent_token_stride : 64 + 16 * test.pad;
    x.cache_page_stride = (test.page_size * token_bytes + 15) / 16 * 16 + 16 * test.pad;
    const lab::Device& lab = *gpu.lab;
    DGRT_ASSIGN(run.latent_, lab::DeviceBuffer::make(lab, test.tokens * x.latent_token_stride * 2));
    DGRT_ASSIGN(run.rotary_, lab::DeviceBuffer::make(lab, test.joined ? 0 : test.tokens * x.rotary_token_stride * 2));
    DGRT_ASSIGN(run.cache_, lab::DeviceBuffer::make(lab, x.num_pages * x.cache_page_stride));
    DGRT_ASSIGN(run.slots_, lab::DeviceBuffer::make(lab, test.tokens * 8));
    x.latent = run.latent_.data(), x.cache = run.cache_.data(), x.slot_mapping = run.slots_.data();
    x.rotary = test.joined ? run.latent_.as<uint16_t>() + test.columns() : run.rotary_.data();
    DGRT_TRY(run.fill(1));
    return run;
  }

  // Groups of any bits at all, NaN and infinities among them, of like size, of zeros and of tiny numbers.
  Status fill(uint64_t seed) {
    std::mt19937_64 random(seed);
    images_.latent.resize(latent_.bytes() / 2), images_.rotary.resize(rotary_.bytes() / 2);
    for (size_t i = 0; i < images_.latent.size(); ++i) {
      const auto bits = static_cast<uint16_t>(random());
      const size_t kind = i / 64 % 5;
      images_.latent[i] = kind == 0   ? bits
                          : kind == 1 ? static_cast<uint16_t>((bits & 0x81ff) | 0x3e00)
                          : kind == 2 ? static_cast<uint16_t>((bits & 0x83ff) | (i / 320 % 120) << 7)
                          : kind == 3 ? uint16_t{0}
                                      : static_cast<uint16_t>(bits & 0x80ff);
    }
    for (uint16_t& bits : images_.rotary) bits = static_cast<uint16_t>(random());
    const int64_t num_slots = test_.num_pages() * test_.page_size;
    std::vector<int64_t> order(num_slots);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    images_.slots.assign(order.begin(), order.begin() + test_.tokens);
    const bool wide = (test_.flags & DGRT_KV_SLOTS_INT64) != 0;
    const std::vector<int64_t> bad = {-1, num_slots, INT32_MAX, INT32_MIN, wide ? int64_t{1} << 32 : -2};
    for (int64_t token = 3; token < test_.tokens; token += 7) images_.slots[token] = bad[token % bad.size()];
    DGRT_TRY(latent_.upload(images_.latent.data(), latent_.bytes()));
    DGRT_TRY(rotary_.upload(images_.rotary.data(), rotary_.bytes()));
    if (wide) return slots_.upload(images_.slots.data(), images_.slots.size() * 8);
    const std::vector<int32_t> narrow(images_.slots.begin(), images_.slots.end());
    return slots_.upload(narrow.data(), narrow.size() * 4);
  }

  Status poison() const { return cache_.poison(); }
  Status launch() const { return plan_.launch(&args_.op, gpu_->lab->stream()); }

  Result<std::string> check() {
    DGRT_TRY(gpu_->lab->synchronize());
    for (const lab::DeviceBuffer* buffer : {&latent_, &rotary_, &cache_, &slots_}) DGRT_TRY(buffer->check_guards());
    DGRT_ASSIGN(images_.cache, cache_.download_all<std::byte>());
    lab::LatentAppendImages seen = images_;
    if (test_.joined) seen.rotary.assign(images_.latent.begin() + std::min<int64_t>(test_.columns(), images_.latent.size()), images_.latent.end());
    DGRT_TRY(lab::check_mla_kv_append(desc_, args_, seen));
    if (test_.tokens == 0) return std::string("nothing to do");
    return plan_.kernel_name(&args_.op);
  }

 private:
  Gpu* gpu_ = nullptr;
  AppendCase test_;
  dgrt_mla_kv_append_desc desc_ = DGRT_MLA_KV_APPEND_DESC;
  dgrt_mla_kv_append_args args_ = DGRT_MLA_KV_APPEND_ARGS;
  Plan plan_;
  lab::LatentAppendImages images_;
  lab::DeviceBuffer latent_, rotary_, cache_, slots_;
};

void run_append(Gpu& gpu, const AppendCase& test) {
  run_case(test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(LatentAppendRun run, LatentAppendRun::make(gpu, test));
    DGRT_TRY(gpu.lab->synchronize());
    DGRT_TRY(run.launch());
    return run.check();
  });
}

}  // namespace

TEST_CASE("mla_kv_append: formats, page sizes, strides, numbers of tokens", "[gpu]") {
  Gpu* gpu = gpu_for("mla_kv_append: formats, page sizes, strides, numbers of tokens");
  if (!gpu) return;
  for (const dgrt_mla_kv_format format : {DGRT_MLA_KV_V32, DGRT_MLA_KV_V4}) {
    for (const int64_t page_size : {1, 2, 53, 64, 256})
      for (const int64_t tokens : {0, 1, 5, 131}) {
        run_append(*gpu, {.tokens = tokens, .page_size = page_size, .format = format, .flags = DGRT_FLAG_PDL});
        run_append(*gpu, {.tokens = tokens,
                          .page_size = page_size,
                          .format = format,
                          .joined = false,
                          .pad = 3,
                          .flags = DGRT_KV_SLOTS_INT64});
      }
    run_append(*gpu, {.tokens = 20000, .format = format});
  }
}

TEST_CASE("mla_kv_append: graph replay with other inputs and slots", "[gpu]") {
  Gpu* gpu = gpu_for("mla_kv_append: graph replay with other inputs and slots");
  if (!gpu) return;
  for (const dgrt_mla_kv_format format : {DGRT_MLA_KV_V32, DGRT_MLA_KV_V4}) {
    const AppendCase test{.tokens = 77, .format = format, .flags = DGRT_FLAG_PDL | DGRT_KV_SLOTS_INT64};
    run_case("graph replay: " + test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(LatentAppendRun run, LatentAppendRun::make(*gpu, test));
      return replay(*gpu, 5, &run);
    });
  }
}

TEST_CASE("mla_kv_append: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("mla_kv_append: small sizes");
  if (!gpu) return;
  for (const dgrt_mla_kv_format format : {DGRT_MLA_KV_V32, DGRT_MLA_KV_V4})
    run_append(*gpu, {.tokens = 37, .page_size = 53, .format = format, .pad = 3, .flags = DGRT_KV_SLOTS_INT64});
}

}  // namespace dgrt::test
