// kv_dequant_paged bit for bit: both formats and both addressings, page sizes, strides, scales of every kind, slots,
// pages and lengths that do not exist, a cache of more than 2^31 bytes.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "tests/gpu/gpu_test.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_sparse_check.h"

namespace dgrt::test {
namespace {

struct DequantCase {
  int64_t rows = 0, batch = 0;  // 0: by slot
  int64_t page_size = 64;
  dgrt_mla_kv_format format = DGRT_MLA_KV_V4;
  bool gather_all = false;
  int64_t pad = 0;
  uint32_t flags = 0;

  int64_t num_pages() const { return 300 / page_size + 5; }
  int64_t columns() const { return format == DGRT_MLA_KV_V32 ? 576 : 512; }
  std::string name() const {
    return fmt::format("kv_dequant_paged {} batch={} page={} format={} all={} pad={} flags={:#x}", rows, batch,
                       page_size, format, gather_all, pad, flags);
  }
};

class DequantRun {
 public:
  static Result<DequantRun> make(Gpu& gpu, const DequantCase& test) {
    DequantRun run;
    run.gpu_ = &gpu, run.test_ = test;
    run.desc_.max_rows = 1 << 20, run.desc_.max_batch = test.batch, run.desc_.format = test.format;
    run.desc_.flags = test.flags;
    DGRT_ASSIGN(run.plan_, Plan::make(gpu, &run.desc_.op));
    dgrt_kv_dequant_paged_args& x = run.args_;
    const int64_t token_bytes = test.format == DGRT_MLA_KV_V32 ? 656 : 584;
    x.rows = test.rows, x.batch = test.batch, x.page_size = test.page_size, x.num_pages = test.num_pages();
    x.max_pages = 300 / test.page_size + 1;
    x.cache_page_stride = (test.page_size * token_bytes + 15) / 16 * 16 + 16 * test.pad;
    x.out_row_stride = test.columns() + 8 * test.pad;
    x.out_sequence_stride = test.rows * x.out_row_stride + 8 * test.pad;
    x.page_table_row_stride = x.max_pages + test.pad;
    const int64_t sequences = std::max<int64_t>(test.batch, 1);
    const lab::Device& lab = *gpu.lab;
    const auto make = [&](lab::DeviceBuffer* buffer, int64_t bytes) -> Status {
      DGRT_ASSIGN(*buffer, lab::DeviceBuffer::make(lab, static_cast<size_t>(bytes)));
      return ok();
    };
    DGRT_TRY(make(&run.cache_, x.num_pages * x.cache_page_stride));
    DGRT_TRY(make(&run.out_, sequences * x.out_sequence_stride * 2));
    DGRT_TRY(make(&run.slots_, test.rows * 8));
    DGRT_TRY(make(&run.seq_lens_, sequences * 4));
    DGRT_TRY(make(&run.gather_lens_, sequences * 4));
    DGRT_TRY(make(&run.page_table_, sequences * x.page_table_row_stride * 4));
    x.cache = run.cache_.data(), x.out = run.out_.data(), x.slots = run.slots_.data();
    x.seq_lens = run.seq_lens_.as<int32_t>(), x.page_table = run.page_table_.as<int32_t>();
    if (!test.gather_all) x.gather_lens = run.gather_lens_.as<int32_t>();
    DGRT_TRY(run.fill(1));
    return run;
  }

  Status fill(uint64_t seed) {
    std::mt19937_64 random(seed);
    images_.cache.resize(cache_.bytes());
    for (std::byte& byte : images_.cache) byte = static_cast<std::byte>(random());
    set_scales(random);
    const int64_t num_slots = test_.num_pages() * test_.page_size;
    images_.slots.resize(test_.rows);
    const int64_t bad[] = {-1, num_slots, INT32_MIN, INT32_MAX};
    for (int64_t& slot : images_.slots)
      slot = random() % 9 == 0 ? bad[random() % 4] : static_cast<int64_t>(random() % num_slots);
    images_.seq_lens.clear(), images_.gather_lens.clear(), images_.page_table.clear();
    for (int64_t b = 0; b < test_.batch; ++b) {
      images_.seq_lens.push_back(b % 5 == 4 ? -7 : static_cast<int32_t>(random() % 320));
      if (!test_.gather_all)
        images_.gather_lens.push_back(b % 7 == 6 ? -1 : static_cast<int32_t>(random() % (test_.rows + 20)));
      for (int64_t i = 0; i < args_.page_table_row_stride; ++i)
        images_.page_table.push_back(random() % 9 == 0 ? (random() % 2 ? -1 : 1 << 30)
                                                       : static_cast<int32_t>(random() % test_.num_pages()));
    }
    DGRT_TRY(cache_.upload(images_.cache.data(), cache_.bytes()));
    DGRT_TRY(seq_lens_.upload(images_.seq_lens.data(), images_.seq_lens.size() * 4));
    DGRT_TRY(gather_lens_.upload(images_.gather_lens.data(), images_.gather_lens.size() * 4));
    DGRT_TRY(page_table_.upload(images_.page_table.data(), images_.page_table.size() * 4));
    if ((test_.flags & DGRT_KV_SLOTS_INT64) != 0) return slots_.upload(images_.slots.data(), test_.rows * 8);
    const std::vector<int32_t> narrow(images_.slots.begin(), images_.slots.end());
    return slots_.upload(narrow.data(), narrow.size() * 4);
  }

  Status poison() const { return out_.poison(); }
  Status launch() const { return plan_.launch(&args_.op, gpu_->lab->stream()); }

  Result<std::string> check() {
    DGRT_TRY(gpu_->lab->synchronize());
    for (const lab::DeviceBuffer* buffer : {&cache_, &out_, &slots_, &seq_lens_, &gather_lens_, &page_table_})
      DGRT_TRY(buffer->check_guards());
    DGRT_ASSIGN(images_.out, out_.download_all<uint16_t>());
    DGRT_TRY(lab::check_kv_dequant_paged(desc_, args_, images_));
    if (test_.rows == 0) return std::string("nothing to do");
    return plan_.kernel_name(&args_.op);
  }

 private:
  // V4 has any bytes for scales already; V32's are numbers, of any size.
  void set_scales(std::mt19937_64& random) {
    if (test_.format != DGRT_MLA_KV_V32) return;
    for (int64_t slot = 0; slot < test_.num_pages() * test_.page_size; ++slot)
      for (int64_t group = 0; group < 4; ++group) {
        const float scale = std::ldexp(1.0f + static_cast<float>(random() % 1000) / 1000,
                                       static_cast<int>(random() % 40) - 20);
        std::memcpy(images_.cache.data() + slot / test_.page_size * args_.cache_page_stride +
                        slot % test_.page_size * 656 + 512 + group * 4,
                    &scale, 4);
      }
  }

  Gpu* gpu_ = nullptr;
  DequantCase test_;
  dgrt_kv_dequant_paged_desc desc_ = DGRT_KV_DEQUANT_PAGED_DESC;
  dgrt_kv_dequant_paged_args args_ = DGRT_KV_DEQUANT_PAGED_ARGS;
  Plan plan_;
  lab::DequantImages images_;
  lab::DeviceBuffer cache_, out_, slots_, seq_lens_, gather_lens_, page_table_;
};

void run_dequant(Gpu& gpu, const DequantCase& test) {
  run_case(test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(DequantRun run, DequantRun::make(gpu, test));
    DGRT_TRY(gpu.lab->synchronize());
    DGRT_TRY(run.launch());
    return run.check();
  });
}

}  // namespace

TEST_CASE("kv_dequant_paged: formats, addressings, page sizes, strides", "[gpu]") {
  Gpu* gpu = gpu_for("kv_dequant_paged: formats, addressings, page sizes, strides");
  if (!gpu) return;
  for (const dgrt_mla_kv_format format : {DGRT_MLA_KV_V32, DGRT_MLA_KV_V4})
    for (const int64_t page_size : {1, 2, 53, 64, 256}) {
      for (const int64_t rows : {0, 1, 9, 300}) {
        run_dequant(*gpu, {.rows = rows, .page_size = page_size, .format = format, .flags = DGRT_FLAG_PDL});
        run_dequant(*gpu, {.rows = rows, .page_size = page_size, .format = format, .pad = 3,
                           .flags = DGRT_KV_SLOTS_INT64});
      }
      run_dequant(*gpu, {.rows = 200, .batch = 9, .page_size = page_size, .format = format, .pad = 2});
      run_dequant(*gpu, {.rows = 330, .batch = 6, .page_size = page_size, .format = format, .gather_all = true});
    }
  for (const dgrt_mla_kv_format format : {DGRT_MLA_KV_V32, DGRT_MLA_KV_V4}) {
    run_dequant(*gpu, {.rows = 40000, .format = format});
    run_dequant(*gpu, {.rows = 1, .batch = 70000, .format = format});
  }
}

// Pages so far apart that offsets pass 2^31 and 2^32 bytes: only the last pages' tokens are there.
TEST_CASE("kv_dequant_paged: a cache of more than 4 GB", "[gpu]") {
  Gpu* gpu = gpu_for("kv_dequant_paged: a cache of more than 4 GB");
  if (!gpu) return;
  run_case("5 pages, 1 GiB and more apart", [&]() -> Result<std::string> {
    constexpr int64_t page_bytes = (int64_t{1} << 30) + 5 * 16, num_pages = 5;
    dgrt_kv_dequant_paged_desc desc = DGRT_KV_DEQUANT_PAGED_DESC;
    desc.max_rows = 8, desc.format = DGRT_MLA_KV_V4;
    DGRT_ASSIGN(const Plan plan, Plan::make(*gpu, &desc.op));
    const lab::Device& lab = *gpu->lab;
    DGRT_ASSIGN(const auto cache, lab::DeviceBuffer::make(lab, (num_pages - 1) * page_bytes + 584));
    DGRT_ASSIGN(const auto out, lab::DeviceBuffer::make(lab, num_pages * 1024));
    DGRT_ASSIGN(const auto slots, lab::DeviceBuffer::make(lab, num_pages * 4));
    const std::vector<int32_t> order = {4, 2, 0, 3, 1};
    for (int64_t page = 0; page < num_pages; ++page) {
      std::vector<uint8_t> token(584, static_cast<uint8_t>(0x38 + page));  // e4m3 1, 1.125, ...
      std::fill(token.begin() + 576, token.end(), uint8_t{127});
      DGRT_TRY(cache.upload(token.data(), token.size(), page * page_bytes));
    }
    DGRT_TRY(slots.upload(order.data(), order.size() * 4));
    dgrt_kv_dequant_paged_args args = DGRT_KV_DEQUANT_PAGED_ARGS;
    args.cache = cache.data(), args.out = out.data(), args.slots = slots.data();
    args.rows = num_pages, args.page_size = 1, args.num_pages = num_pages;
    args.cache_page_stride = page_bytes, args.out_row_stride = 512;
    DGRT_TRY(lab.synchronize());
    DGRT_TRY(plan.launch(&args.op, lab.stream()));
    DGRT_TRY(lab.synchronize());
    DGRT_ASSIGN(const auto got, out.download_all<uint16_t>());
    for (int64_t row = 0; row < num_pages; ++row) {
      const auto want = static_cast<uint16_t>(0x3f80 + (order[row] << 4));
      if (got[row * 512] != want || got[row * 512 + 447] != want)
        return error(DGRT_INTERNAL, "row {} is {:#x}, must be {:#x}", row, got[row * 512], want);
    }
    return plan.kernel_name(&args.op);
  });
}

TEST_CASE("kv_dequant_paged: graph replay with other rows", "[gpu]") {
  Gpu* gpu = gpu_for("kv_dequant_paged: graph replay with other rows");
  if (!gpu) return;
  for (const int64_t batch : {0, 5}) {
    const DequantCase test{.rows = 77, .batch = batch, .flags = DGRT_FLAG_PDL};
    run_case("graph replay: " + test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(DequantRun run, DequantRun::make(*gpu, test));
      return replay(*gpu, 5, &run);
    });
  }
}

TEST_CASE("kv_dequant_paged: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("kv_dequant_paged: small sizes");
  if (!gpu) return;
  run_dequant(*gpu, {.rows = 37, .page_size = 53, .format = DGRT_MLA_KV_V32, .pad = 3});
  run_dequant(*gpu, {.rows = 90, .batch = 6, .page_size = 2, .format = DGRT_MLA_KV_V4, .gather_all = true});
}

}  // namespace dgrt::test
