#include "tools/gemm_bench.h"

#include <algorithm>
#include <random>

#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_gemm_check.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20251;          // of the operands; any will do
constexpr size_t num_checked_tiles = 96;  // of 64 x 64: corners, edges and a fixed selection
constexpr size_t max_checked_groups = 8;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t align(int64_t rows, int64_t to) { return ceil_div(rows, to) * to; }

uint64_t element_bytes(dgrt_dtype dtype) {
  return dtype == DGRT_E4M3 ? 1 : dtype == DGRT_FP32 ? 4 : 2;
}

// Rows of one call.
struct Rows {
  int64_t m = 0;                // args.m
  int64_t live = 0;             // of a and d that count, over all groups
  std::vector<int64_t> counts;  // of each group
  std::vector<int64_t> first;   // contiguous: where each begins
  std::vector<int32_t> groups;  // args.groups, args.masked_m
};

// About m rows per group, as engines see them: between 0.7 m and 1.3 m.
std::vector<int64_t> draw_counts(uint32_t num_groups, int64_t m) {
  std::mt19937_64 random(seed + m);
  std::vector<int64_t> counts;
  for (uint32_t g = 0; g < num_groups; ++g)
    counts.push_back(std::max<int64_t>(1, m * static_cast<int64_t>(700 + random() % 601) / 1000));
  return counts;
}

uint32_t num_groups(const dgrt_gemm_desc&) { return 1; }
uint32_t num_groups(const dgrt_gemm_grouped_contiguous_desc& desc) { return desc.num_groups; }
uint32_t num_groups(const dgrt_gemm_grouped_masked_desc& desc) { return desc.num_groups; }
uint32_t num_groups(const dgrt_gemm_batched_desc& desc) { return desc.num_batches; }

Rows make_rows(const dgrt_gemm_desc&, int64_t m) { return {m, m, {m}, {}, {}}; }
bool is_sum(const dgrt_gemm_batched_desc& desc) {
  return (desc.flags & DGRT_GEMM_SUM_BATCHES) != 0;
}
template <class Desc>
bool is_sum(const Desc&) {
  return false;
}
Rows make_rows(const dgrt_gemm_batched_desc& desc, int64_t m) {
  if (is_sum(desc)) return {m, m, {m}, {}, {}};
  return {m, m * desc.num_batches, std::vector<int64_t>(desc.num_batches, m), {}, {}};
}
Rows make_rows(const dgrt_gemm_grouped_masked_desc& desc, int64_t m) {
  Rows rows;
  rows.m = desc.max_m;
  rows.counts = draw_counts(desc.num_groups, m);
  for (int64_t& count : rows.counts) {
    count = std::min(count, rows.m);
    rows.live += count;
    rows.groups.push_back(static_cast<int32_t>(count));
  }
  return rows;
}
Rows make_rows(const dgrt_gemm_grouped_contiguous_desc& desc, int64_t m) {
  Rows rows;
  rows.counts = draw_counts(desc.num_groups, m);
  for (uint32_t g = 0; g < desc.num_groups; ++g) {
    rows.first.push_back(rows.m);
    const int64_t end = rows.m + rows.counts[g];
    if (desc.group_layout == DGRT_GROUP_END_ROW)
      rows.groups.push_back(static_cast<int32_t>(end));
    else
      rows.groups.insert(rows.groups.end(), rows.counts[g], static_cast<int32_t>(g));
    rows.m = align(end, desc.alignment);
    if (desc.group_layout == DGRT_GROUP_OF_ROW) rows.groups.resize(rows.m, -1);
  }
  rows.live = rows.m;  // padding is multiplied as well
  return rows;
}

// What an op adds to the args that all have: strides between groups, and the groups.
struct Strides {
  int64_t a, b, d, a_scale, b_scale;
};
void add_groups(dgrt_gemm_args*, const Strides&, const Rows&, int64_t, const int32_t*) {}
void add_groups(dgrt_gemm_grouped_contiguous_args* x, const Strides& s, const Rows&, int64_t,
                const int32_t* groups) {
  x->groups = groups;
  x->b_group_stride = s.b, x->b_scale_group_stride = s.b_scale;
}
void add_groups(dgrt_gemm_grouped_masked_args* x, const Strides& s, const Rows& rows, int64_t m,
                const int32_t* groups) {
  x->masked_m = groups;
  x->expected_m = std::clamp<int64_t>(m * 12 / 10, 1, rows.m);
  x->a_group_stride = s.a, x->b_group_stride = s.b, x->d_group_stride = s.d;
  x->a_scale_group_stride = s.a_scale, x->b_scale_group_stride = s.b_scale;
}
void add_groups(dgrt_gemm_batched_args* x, const Strides& s, const Rows&, int64_t, const int32_t*) {
  x->a_batch_stride = s.a, x->b_batch_stride = s.b, x->d_batch_stride = s.d;
  x->a_scale_batch_stride = s.a_scale, x->b_scale_batch_stride = s.b_scale;
}

lab::GemmProduct product_of(const dgrt_gemm_desc& desc, const dgrt_gemm_args& args, const Rows&,
                            uint32_t) {
  return lab::product_of(desc, args);
}
lab::GemmProduct product_of(const dgrt_gemm_grouped_contiguous_desc& desc,
                            const dgrt_gemm_grouped_contiguous_args& args, const Rows& rows,
                            uint32_t group) {
  return lab::product_of(desc, args, group, rows.first[group], rows.counts[group]);
}
lab::GemmProduct product_of(const dgrt_gemm_grouped_masked_desc& desc,
                            const dgrt_gemm_grouped_masked_args& args, const Rows& rows,
                            uint32_t group) {
  return lab::product_of(desc, args, group, rows.counts[group]);
}
lab::GemmProduct product_of(const dgrt_gemm_batched_desc& desc, const dgrt_gemm_batched_args& args,
                            const Rows&, uint32_t batch) {
  return lab::product_of(desc, args, batch);
}

template <class Desc, class Args>
class ProductBench final : public OpBench {
 public:
  ProductBench(const BenchHost& host, const Desc& desc, const Args& args)
      : OpBench(host), desc_(desc), args_(args) {}

  Status init() { return allocate(); }
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  static constexpr bool batched = std::is_same_v<Desc, dgrt_gemm_batched_desc>;
  static constexpr bool many = batched || std::is_same_v<Desc, dgrt_gemm_grouped_masked_desc>;
  // Batches lie side by side in the rows of a and d, as attention has them; those of a sum one behind
  // the other.
  bool side_by_side() const { return batched && !is_sum(desc_); }
  int64_t num_inputs() const { return many ? num_groups(desc_) : 1; }  // matrices of a
  int64_t num_outputs() const { return is_sum(desc_) ? 1 : num_inputs(); }
  int64_t k_blocks() const { return ceil_div(desc_.k, 128); }
  int64_t n_blocks() const { return ceil_div(desc_.n, 128); }

  Status allocate();
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override;

  Desc desc_;
  Args args_;
  Rows rows_;
  lab::DeviceBuffer a_, b_, a_scale_, b_scale_, d_, groups_;
};

template <class Desc, class Args>
Status ProductBench<Desc, Args>::allocate() {
  const bool fp8 = desc_.dtype_ab == DGRT_E4M3;
  const uint64_t all_rows = num_inputs() * desc_.max_m;
  const uint64_t num_a = all_rows * desc_.k, num_b = num_groups(desc_) * desc_.n * desc_.k;
  DGRT_ASSIGN(a_, lab::DeviceBuffer::make(device(), num_a * element_bytes(desc_.dtype_ab)));
  DGRT_ASSIGN(b_, lab::DeviceBuffer::make(device(), num_b * element_bytes(desc_.dtype_ab)));
  const uint64_t num_d = num_outputs() * desc_.max_m * desc_.n;
  DGRT_ASSIGN(d_, lab::DeviceBuffer::make(device(), num_d * element_bytes(desc_.dtype_d)));
  const uint64_t num_ids = std::max<uint64_t>(desc_.max_m, num_groups(desc_));
  DGRT_ASSIGN(groups_, lab::DeviceBuffer::make(device(), num_ids * sizeof(int32_t)));
  if (!fp8) {
    DGRT_TRY(lab::fill_normal_bf16(device(), a_.data(), num_a, seed));
    return lab::fill_normal_bf16(device(), b_.data(), num_b, seed + 1);
  }
  const uint64_t num_a_scales = num_inputs() * k_blocks() * align(desc_.max_m, 4);
  const uint64_t num_b_scales = num_groups(desc_) * k_blocks() * n_blocks();
  DGRT_ASSIGN(a_scale_, lab::DeviceBuffer::make(device(), num_a_scales * sizeof(float)));
  DGRT_ASSIGN(b_scale_, lab::DeviceBuffer::make(device(), num_b_scales * sizeof(float)));
  DGRT_TRY(lab::fill_normal_e4m3(device(), a_.data(), num_a, seed));
  DGRT_TRY(lab::fill_normal_e4m3(device(), b_.data(), num_b, seed + 1));
  DGRT_TRY(lab::fill_scales(device(), a_scale_.as<float>(), num_a_scales, seed + 2));
  return lab::fill_scales(device(), b_scale_.as<float>(), num_b_scales, seed + 3);
}

template <class Desc, class Args>
Result<const dgrt_args*> ProductBench<Desc, Args>::prepare(int64_t m) {
  rows_ = make_rows(desc_, m);
  DGRT_TRY(groups_.upload(rows_.groups.data(), rows_.groups.size() * sizeof(int32_t)));
  const int64_t across = side_by_side() ? num_groups(desc_) : 1, k = desc_.k, n = desc_.n;
  args_.a = a_.data(), args_.b = b_.data(), args_.d = d_.data();
  args_.m = rows_.m;
  args_.lda = k * across, args_.ldd = n * across;
  args_.ldb = desc_.b_major == DGRT_MN_MAJOR ? n : k;
  Strides strides{side_by_side() ? k : rows_.m * k, n * k, side_by_side() ? n : rows_.m * n, 0, 0};
  if (is_sum(desc_)) strides.d = 0;
  if (desc_.scale_mode == DGRT_SCALE_BLOCK) {
    args_.a_scale = a_scale_.template as<float>();
    args_.b_scale = b_scale_.template as<float>();
    args_.ld_a_scale = align(rows_.m, 4);
    args_.ld_b_scale = k_blocks();
    strides.a_scale = k_blocks() * args_.ld_a_scale;
    strides.b_scale = k_blocks() * n_blocks();
  }
  add_groups(&args_, strides, rows_, m, groups_.template as<int32_t>());
  DGRT_TRY(d_.poison());
  return &args_.op;
}

template <class Desc, class Args>
Status ProductBench<Desc, Args>::check(BenchCheck* check) const {
  const size_t count = rows_.counts.size(), checked = std::min(count, max_checked_groups);
  lab::GemmError worst;
  for (size_t i = 0; i < checked; ++i) {
    const auto group = static_cast<uint32_t>(i * count / checked);
    const lab::GemmProduct product = product_of(desc_, args_, rows_, group);
    const auto tiles =
        lab::sample_tiles(product.m, product.n, num_checked_tiles / checked, seed + i);
    DGRT_ASSIGN(const lab::GemmError error, lab::check_gemm(device(), product, tiles));
    check->elements += error.checked;
    worst.calc_diff = std::max(worst.calc_diff, error.calc_diff);
    worst.worst_tile = std::max(worst.worst_tile, error.worst_tile);
    worst.worst_element = std::max(worst.worst_element, error.worst_element);
    check->errors = {{"calc_diff", worst.calc_diff},
                     {"worst_tile", worst.worst_tile},
                     {"worst_element", worst.worst_element}};
    DGRT_TRY(lab::check_limits(error, lab::gemm_limits(product)));
  }
  return d_.check_guards();
}

template <class Desc, class Args>
BenchCost ProductBench<Desc, Args>::cost(int64_t m) const {
  const auto rows = static_cast<double>(make_rows(desc_, m).live);
  const double n = static_cast<double>(desc_.n), k = static_cast<double>(desc_.k);
  const double groups = num_groups(desc_);
  const double a_rows = is_sum(desc_) ? rows * groups : rows;
  BenchCost cost;
  cost.flops = 2.0 * a_rows * n * k;
  cost.flops_dtype = desc_.dtype_ab;
  cost.bytes = (a_rows + groups * n) * k * element_bytes(desc_.dtype_ab) +
               rows * n * element_bytes(desc_.dtype_d);
  if (desc_.scale_mode == DGRT_SCALE_BLOCK)
    cost.bytes += sizeof(float) * k_blocks() * (rows + groups * n_blocks());
  return cost;
}

template <class Desc, class Args>
Result<std::unique_ptr<OpBench>> make_product_bench(const BenchHost& host, const Desc& desc,
                                                    const Args& args) {
  auto bench = std::make_unique<ProductBench<Desc, Args>>(host, desc, args);
  DGRT_TRY(bench->init());
  return std::unique_ptr<OpBench>(std::move(bench));
}

}  // namespace

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const dgrt_gemm_desc& desc) {
  return make_product_bench<dgrt_gemm_desc, dgrt_gemm_args>(host, desc, DGRT_GEMM_ARGS);
}
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_gemm_grouped_contiguous_desc& desc) {
  return make_product_bench<dgrt_gemm_grouped_contiguous_desc, dgrt_gemm_grouped_contiguous_args>(
      host, desc, DGRT_GEMM_GROUPED_CONTIGUOUS_ARGS);
}
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_gemm_grouped_masked_desc& desc) {
  return make_product_bench<dgrt_gemm_grouped_masked_desc, dgrt_gemm_grouped_masked_args>(
      host, desc, DGRT_GEMM_GROUPED_MASKED_ARGS);
}
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_gemm_batched_desc& desc) {
  return make_product_bench<dgrt_gemm_batched_desc, dgrt_gemm_batched_args>(host, desc,
                                                                            DGRT_GEMM_BATCHED_ARGS);
}

}  // namespace dgrt
