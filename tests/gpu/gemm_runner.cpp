#include "tests/gpu/gemm_runner.h"

#include <algorithm>

#include "tools/lib/lab_fill.h"

namespace dgrt::test {
namespace {

constexpr uint64_t seed_a = 11, seed_b = 12, seed_c = 13, seed_a_scale = 14, seed_b_scale = 15,
                   seed_bias = 16;
constexpr size_t max_checked_tiles = 2048;  // of 64 x 64, over all groups; more are sampled

int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }
int64_t blocks_of_128(int64_t size) { return (size + 127) / 128; }

// Elements between rows of `length`, 16-byte rows.
int64_t stride(int64_t length, int64_t pad, dgrt_dtype dtype) {
  return std::max<int64_t>(round_up(length + pad, 16 / element_bytes(dtype)),
                           16 / element_bytes(dtype));
}

// Each group's check costs about a millisecond: of many, every third and the last stand for all.
bool is_skipped(uint32_t group, uint32_t num_groups) {
  return num_groups > 40 && group % 3 != 0 && group + 1 != num_groups;
}

Status fill(const Gpu& gpu, const lab::DeviceBuffer& buffer, dgrt_dtype dtype, uint64_t seed) {
  const uint64_t count = buffer.bytes() / element_bytes(dtype);
  if (dtype == DGRT_E4M3) return lab::fill_normal_e4m3(*gpu.lab, buffer.data(), count, seed);
  if (dtype == DGRT_FP32) return lab::fill_normal_f32(*gpu.lab, buffer.as<float>(), count, seed);
  if (dtype == DGRT_FP16) return lab::fill_normal_fp16(*gpu.lab, buffer.data(), count, seed);
  return lab::fill_normal_bf16(*gpu.lab, buffer.data(), count, seed);
}

Result<lab::DeviceBuffer> make_matrix(const Gpu& gpu, int64_t rows, int64_t row_stride,
                                      dgrt_dtype dtype) {
  return lab::DeviceBuffer::make(*gpu.lab, rows * row_stride * element_bytes(dtype));
}

Status copy(const Gpu& gpu, const lab::DeviceBuffer& to, const lab::DeviceBuffer& from) {
  DGRT_CU(gpu.lab->driver(), cuMemcpyDtoDAsync(reinterpret_cast<CUdeviceptr>(to.data()),
                                               reinterpret_cast<CUdeviceptr>(from.data()),
                                               to.bytes(), gpu.lab->stream()));
  return ok();
}

}  // namespace

Result<GemmRun> GemmRun::make(Gpu& gpu, const GemmCase& test) {
  GemmRun run;
  run.gpu_ = &gpu;
  run.test_ = test;
  run.rows_ = 1;
  for (const int64_t m : test.m) run.rows_ = std::max(run.rows_, test.rows(m).m);
  run.desc_ = test.desc(run.rows_);
  DGRT_ASSIGN(run.plan_, Plan::make(gpu, op_of(run.desc_)));
  DGRT_TRY(run.allocate());
  DGRT_TRY(run.deal(test.m.front()));
  return run;
}

GemmRun::Strides GemmRun::strides(int64_t m) const {
  const bool side_by_side = test_.interleaved;
  const int64_t a_across = side_by_side ? test_.num_inputs() : 1, across = d_across();
  const int64_t b_rows = test_.b_major == DGRT_MN_MAJOR ? test_.k : test_.n;
  Strides s{};
  s.lda = lda_ * a_across, s.ldb = ldb_, s.ldc = ldc_ * across, s.ldd = ldd_ * across;
  if (test_.num_outputs() > 1) {
    s.c = side_by_side ? ldc_ : m * ldc_;
    s.d = side_by_side ? ldd_ : m * ldd_;
  }
  if (test_.num_inputs() > 1) {
    s.a = side_by_side                     ? lda_
          : test_.a_major == DGRT_MN_MAJOR ? std::max<int64_t>(test_.k, 1) * lda_
                                           : m * lda_;
    s.a_scale = std::max<int64_t>(1, blocks_of_128(test_.k)) * ld_a_scale_;
  }
  if (test_.grouping != Grouping::none) s.b = std::max<int64_t>(b_rows, 1) * ldb_;
  if (test_.grouping != Grouping::none && b_scale_.bytes() != 0) {
    s.b_scale = b_scale_.bytes() / 4 / test_.num_groups;
  }
  return s;
}

Status GemmRun::allocate() {
  const GemmCase& t = test_;
  const int64_t inputs = std::max(1u, t.num_inputs()), extra = t.pad == 0 ? 0 : 1;
  const bool a_mn = t.a_major == DGRT_MN_MAJOR, b_mn = t.b_major == DGRT_MN_MAJOR;
  const uint32_t groups = t.grouping == Grouping::none ? 1 : std::max(1u, t.num_groups);
  lda_ = stride(a_mn ? rows_ : t.k, t.pad, t.dtype_ab);
  ldb_ = stride(b_mn ? t.n : t.k, t.pad + extra * 16, t.dtype_ab);
  const bool unaligned = t.has(DGRT_GEMM_UNALIGNED_D);
  ldd_ = unaligned ? t.d_columns() + t.pad : stride(t.d_columns(), t.pad, t.dtype_d);
  ldc_ = t.c != CMode::separate ? ldd_
         : unaligned            ? t.n + t.pad + 1
                                : stride(t.n, t.pad + extra * 8, t.dtype_d);
  DGRT_ASSIGN(a_, make_matrix(*gpu_, inputs * (a_mn ? std::max<int64_t>(t.k, 1) : rows_), lda_,
                              t.dtype_ab));
  DGRT_ASSIGN(
      b_, make_matrix(*gpu_, groups * std::max<int64_t>(b_mn ? t.k : t.n, 1), ldb_, t.dtype_ab));
  DGRT_ASSIGN(d_, make_d());
  DGRT_ASSIGN(d_again_, make_d());
  DGRT_TRY(refill(0));
  if (t.c != CMode::none) {
    DGRT_ASSIGN(
        c_, lab::DeviceBuffer::make(*gpu_->lab, (t.num_outputs() * rows_ * ldc_ + 1) * d_size()));
    DGRT_TRY(fill(*gpu_, c_, t.dtype_d, seed_c));
  }
  if (t.has(DGRT_GEMM_WITH_BIAS)) {
    DGRT_ASSIGN(bias_, lab::DeviceBuffer::make(*gpu_->lab, (t.n + 1) * d_size()));
    DGRT_TRY(fill(*gpu_, bias_, t.dtype_d, seed_bias));
  }
  if (t.grouping == Grouping::contiguous || t.grouping == Grouping::masked) {
    const uint64_t ids = std::max<uint64_t>(rows_, t.num_groups);
    DGRT_ASSIGN(groups_, lab::DeviceBuffer::make(*gpu_->lab, ids * sizeof(int32_t)));
  }
  if (t.has(DGRT_GEMM_SIGNAL)) {  // tiles have 8 rows at least
    const uint64_t counters = t.num_groups * static_cast<uint64_t>(rows_ / 8 + 1);
    DGRT_ASSIGN(signal_, lab::DeviceBuffer::make(*gpu_->lab, counters * sizeof(int32_t)));
  }
  if (t.scales() != DGRT_SCALE_NONE) DGRT_TRY(allocate_scales());
  DGRT_TRY(gpu_->lab->synchronize());
  return t.values == Values::extremes ? plant_extremes() : ok();
}

Status GemmRun::allocate_scales() {
  const GemmCase& t = test_;
  const int64_t k_blocks = std::max<int64_t>(1, blocks_of_128(t.k)), extra = t.pad == 0 ? 0 : 3;
  const uint32_t groups = t.grouping == Grouping::none ? 1 : t.num_groups;
  int64_t a_count = 0, b_count = 0;  // of one group
  if (t.scales() == DGRT_SCALE_CHANNEL) {
    ld_a_scale_ = ld_b_scale_ = t.one_scale ? 0 : 1;
    a_count = rows_, b_count = t.n;
  } else {
    ld_a_scale_ = round_up(rows_ + t.pad, 4);
    a_count = k_blocks * ld_a_scale_;
    const bool by_row = t.scales() == DGRT_SCALE_ROW;
    const bool k_major = !by_row && t.b_scale_major == DGRT_K_MAJOR;
    const int64_t n_blocks = by_row ? t.n : blocks_of_128(t.n);
    ld_b_scale_ = by_row ? round_up(t.n + t.pad, 4) : (k_major ? k_blocks : n_blocks) + extra;
    b_count = (k_major ? n_blocks : k_blocks) * ld_b_scale_;
  }
  DGRT_ASSIGN(a_scale_, make_matrix(*gpu_, t.num_inputs(), a_count, DGRT_FP32));
  DGRT_ASSIGN(b_scale_, make_matrix(*gpu_, groups, b_count, DGRT_FP32));
  DGRT_TRY(lab::fill_scales(*gpu_->lab, a_scale_.as<float>(), a_scale_.bytes() / 4, seed_a_scale));
  return lab::fill_scales(*gpu_->lab, b_scale_.as<float>(), b_scale_.bytes() / 4, seed_b_scale);
}

Status GemmRun::upload_bits(const lab::DeviceBuffer& to, int64_t at, uint16_t bits) const {
  const int64_t bytes = element_bytes(test_.dtype_ab);
  return to.upload(&bits, bytes, at * bytes);
}

// Of the first matrix: row 0 of a gets a NaN, row 1 an infinity (16 bits) or an infinite scale
// (e4m3), row 2 huge numbers; row 3 of b gets a NaN. Everything else must stay finite and right.
Status GemmRun::plant_extremes() const {
  const GemmCase& t = test_;
  const int64_t across = t.interleaved ? t.num_groups : 1;
  const auto at_a = [&](int64_t row, int64_t k) {
    return t.a_major == DGRT_MN_MAJOR ? k * lda_ + row : row * lda_ * across + k;
  };
  const auto at_b = [&](int64_t row, int64_t k) {
    return t.b_major == DGRT_MN_MAJOR ? k * ldb_ + row : row * ldb_ + k;
  };
  const bool fp16 = t.dtype_ab == DGRT_FP16;
  const uint16_t nan = t.is_fp8() ? 0x7f : fp16 ? 0x7e00 : 0x7fc0;
  DGRT_TRY(upload_bits(a_, at_a(0, t.k / 2), nan));
  DGRT_TRY(upload_bits(b_, at_b(3, t.k - 1), nan));
  if (rows_ < 3) return ok();
  if (!t.is_fp8()) {
    DGRT_TRY(upload_bits(a_, at_a(1, t.k - 1), fp16 ? 0x7c00 : 0x7f80));
    // 65504, or 2^127: its products with b stay in fp32's range
    return upload_bits(a_, at_a(2, 0), fp16 ? 0x7bff : 0x7f00);
  }
  DGRT_TRY(upload_bits(a_, at_a(2, 0), 0x7e));  // 448
  if (t.scales() == DGRT_SCALE_CHANNEL && t.one_scale) return ok();
  const float infinity = __builtin_inff(), huge = 1e30f;
  DGRT_TRY(a_scale_.upload(&infinity, sizeof(float), 1 * sizeof(float)));
  return a_scale_.upload(&huge, sizeof(float), 2 * sizeof(float));
}

Status GemmRun::refill(uint64_t seed) const {
  const dgrt_dtype type = test_.dtype_ab;
  if (test_.values == Values::denormals) {
    // The smallest numbers of a's type; b so large that d is normal: 2^127 of bf16.
    const uint32_t least = type == DGRT_E4M3 ? 0x01010101 : 0x00010001;
    DGRT_TRY(lab::fill_words(*gpu_->lab, a_.data(), a_.bytes() / 4, least));
    if (type == DGRT_BF16) {
      DGRT_TRY(lab::fill_words(*gpu_->lab, b_.data(), b_.bytes() / 4, 0x7f007f00));
      return gpu_->lab->synchronize();
    }
  } else {
    DGRT_TRY(fill(*gpu_, a_, type, seed_a + seed * 1000));
  }
  DGRT_TRY(fill(*gpu_, b_, type, seed_b + seed * 1000));
  return gpu_->lab->synchronize();
}

Result<lab::DeviceBuffer> GemmRun::make_d() const {
  return lab::DeviceBuffer::make(*gpu_->lab, (test_.num_outputs() * rows_ * ldd_ + 1) * d_size());
}

Status GemmRun::deal(int64_t m, uint32_t draw) {
  dealt_ = test_.rows(m, draw);
  const std::vector<int32_t>& groups = dealt_.groups;
  if (test_.grouping == Grouping::masked && m > 0 && plan_.get() != nullptr) {
    DGRT_ASSIGN(const dgrt_call_info info, plan_.query(op_of(args(m))));
    block_m_ = info.block_m;
  }
  return groups_.upload(groups.data(), groups.size() * sizeof(int32_t));
}

void* GemmRun::output(const lab::DeviceBuffer& buffer) const {
  const bool unaligned = test_.has(DGRT_GEMM_UNALIGNED_D);
  return buffer.as<std::byte>() + (unaligned ? d_size() : 0);
}

AnyGemmArgs GemmRun::args_into(const lab::DeviceBuffer& d, int64_t m) const {
  const GemmRows rows = test_.rows(m);
  const Strides s = strides(rows.m);
  const bool scaled = test_.scales() != DGRT_SCALE_NONE;
  const auto common = [&](auto x) {
    x.a = a_.data(), x.b = b_.data(), x.d = output(d);
    x.m = rows.m;
    x.lda = s.lda, x.ldb = s.ldb, x.ldd = s.ldd;
    if (scaled) {
      x.a_scale = a_scale_.as<float>(), x.b_scale = b_scale_.as<float>();
      x.ld_a_scale = ld_a_scale_, x.ld_b_scale = ld_b_scale_;
    }
    if constexpr (requires { x.c; })
      if (test_.c != CMode::none) x.c = output(test_.c == CMode::separate ? c_ : d), x.ldc = s.ldc;
    return x;
  };
  switch (test_.grouping) {
    case Grouping::contiguous: {
      auto x = common(dgrt_gemm_grouped_contiguous_args DGRT_GEMM_GROUPED_CONTIGUOUS_ARGS);
      x.groups = groups_.as<int32_t>();
      x.b_group_stride = s.b, x.b_scale_group_stride = s.b_scale;
      return x;
    }
    case Grouping::masked: {
      auto x = common(dgrt_gemm_grouped_masked_args DGRT_GEMM_GROUPED_MASKED_ARGS);
      x.masked_m = groups_.as<int32_t>();
      if (test_.has(DGRT_GEMM_SIGNAL)) x.signal = signal_.as<int32_t>();
      double sum = 0;
      for (const int64_t count : rows.counts) sum += static_cast<double>(count);
      x.expected_m = std::clamp<int64_t>(static_cast<int64_t>(sum / test_.num_groups * test_.hint),
                                         1, std::max<int64_t>(m, 1));
      x.a_group_stride = s.a, x.b_group_stride = s.b, x.d_group_stride = s.d;
      x.a_scale_group_stride = s.a_scale, x.b_scale_group_stride = s.b_scale;
      return x;
    }
    case Grouping::batched:
    case Grouping::batch_sum: {
      auto x = common(dgrt_gemm_batched_args DGRT_GEMM_BATCHED_ARGS);
      x.a_batch_stride = s.a, x.b_batch_stride = s.b, x.d_batch_stride = s.d;
      x.c_batch_stride = test_.c == CMode::none ? 0 : s.c;
      x.a_scale_batch_stride = s.a_scale, x.b_scale_batch_stride = s.b_scale;
      return x;
    }
    default: {
      auto x = common(dgrt_gemm_args DGRT_GEMM_ARGS);
      if (test_.has(DGRT_GEMM_WITH_BIAS)) x.bias = output(bias_);
      return x;
    }
  }
}

Status GemmRun::prepare_d(const lab::DeviceBuffer& d) const {
  DGRT_TRY(test_.c == CMode::in_place ? copy(*gpu_, d, c_) : d.poison());
  if (signal_.bytes() != 0)
    DGRT_TRY(lab::fill_words(*gpu_->lab, signal_.data(), signal_.bytes() / 4, 0));
  return gpu_->lab->synchronize();
}

std::vector<lab::GemmProduct> GemmRun::products(const lab::DeviceBuffer& d, int64_t m) const {
  const AnyGemmArgs args = args_into(d, m);
  std::vector<lab::GemmProduct> products;
  const auto groups = static_cast<uint32_t>(dealt_.counts.size());
  for (uint32_t g = 0; g < groups; ++g) {
    if (dealt_.counts[g] == 0 || is_skipped(g, groups)) continue;
    switch (test_.grouping) {
      case Grouping::contiguous:
        products.push_back(lab::product_of(std::get<1>(desc_), std::get<1>(args), g,
                                           dealt_.first[g], dealt_.counts[g]));
        break;
      case Grouping::masked:
        products.push_back(
            lab::product_of(std::get<2>(desc_), std::get<2>(args), g, dealt_.counts[g]));
        break;
      case Grouping::batched:
      case Grouping::batch_sum:
        products.push_back(lab::product_of(std::get<3>(desc_), std::get<3>(args), g));
        break;
      default:
        products.push_back(lab::product_of(std::get<0>(desc_), std::get<0>(args)));
    }
    // Where d was written in place: what it held before.
    if (test_.c == CMode::in_place) {
      lab::GemmProduct& p = products.back();
      const auto offset = static_cast<const std::byte*>(p.c) - d.as<std::byte>();
      p.c = c_.as<std::byte>() + offset;
    }
  }
  return products;
}

// Nothing between the rows, before the first and in the middle of heads may change.
Status GemmRun::check_columns(const lab::DeviceBuffer& d, int64_t m) const {
  const lab::Device& lab = *gpu_->lab;
  const auto* base = static_cast<const std::byte*>(output(d));
  const uint64_t rows = dealt_.m * test_.num_outputs(), row = ldd_ * d_size();
  const std::byte* before = nullptr;
  if (test_.c == CMode::in_place) before = static_cast<const std::byte*>(output(c_));
  const uint64_t lead = base - d.as<std::byte>();
  DGRT_TRY(lab::check_untouched(lab, {d.data(), 1, lead, 0, lead}, before ? c_.data() : nullptr));
  const uint64_t used = test_.d_columns() * d_size();
  DGRT_TRY(lab::check_untouched(lab, {base, rows, row, used, row}, before));
  if (test_.head_mid == 0 || m == 0) return ok();
  const int64_t width = test_.head_left + test_.head_mid + test_.head_right;
  for (int64_t start = 0; start < test_.d_columns(); start += width) {
    const uint64_t first = (start + test_.head_left) * d_size();
    DGRT_TRY(lab::check_untouched(lab, {base, rows, row, first, first + test_.head_mid * d_size()},
                                  before));
  }
  return ok();
}

// Neither may rows that no group has, but for the rest of a tile.
Status GemmRun::check_rows(const lab::DeviceBuffer& d, int64_t m) const {
  const int64_t across = d_across();
  const int64_t all = rows_ * test_.num_outputs() / across;
  std::vector<std::pair<int64_t, int64_t>> untouched;  // [first, end)
  int64_t end = dealt_.m * test_.num_outputs() / across;
  untouched.emplace_back(end, all);
  if (test_.grouping == Grouping::contiguous && dealt_.m > 0) {
    const int64_t live = round_up(dealt_.first.back() + dealt_.counts.back(), test_.alignment);
    if (live < end) untouched.emplace_back(live, end);
  }
  if (test_.grouping == Grouping::masked && m > 0) {
    for (uint32_t g = 0; g < test_.num_groups; ++g) {
      if (is_skipped(g, test_.num_groups)) continue;
      const int64_t used = round_up(dealt_.counts[g], block_m_);
      if (used < m) untouched.emplace_back(g * m + used, g * m + m);
    }
  }
  const uint64_t row = ldd_ * across * d_size();
  for (const auto& [first, last] : untouched) {
    const uint64_t skipped = first * row;
    const void* before = nullptr;
    if (test_.c == CMode::in_place) before = static_cast<const std::byte*>(output(c_)) + skipped;
    const uint64_t bytes = (last - first) * row;
    const Status status = lab::check_untouched(
        *gpu_->lab, {static_cast<const std::byte*>(output(d)) + skipped, 1, bytes, 0, bytes},
        before);
    if (!status.is_ok())
      return error(DGRT_INTERNAL, "rows {} to {} were written: {}", first, last, status.message());
  }
  return ok();
}

Status GemmRun::check_signal(int64_t m) const {
  if (signal_.bytes() == 0 || m == 0) return ok();
  DGRT_TRY(signal_.check_guards());
  DGRT_ASSIGN(const dgrt_call_info info, plan_.query(op_of(args(m))));
  DGRT_ASSIGN(const std::vector<int32_t> counters, signal_.download_all<int32_t>());
  const int64_t tiles = (m + info.block_m - 1) / info.block_m;
  for (int64_t i = 0; i < static_cast<int64_t>(counters.size()); ++i) {
    const bool exists = i < tiles * test_.num_groups;
    const bool is_live = exists && i % tiles * info.block_m < dealt_.counts[i / tiles];
    const int32_t want = is_live ? static_cast<int32_t>(info.completion_threshold) : 0;
    if (counters[i] != want)
      return error(DGRT_INTERNAL, "signal[{}]={}, want {}", i, counters[i], want);
  }
  return ok();
}

Status GemmRun::check_d(const lab::DeviceBuffer& d, int64_t m, std::string* summary) const {
  const lab::Device& lab = *gpu_->lab;
  DGRT_TRY(lab.synchronize());
  for (const lab::DeviceBuffer* buffer : {&d, &a_, &b_}) DGRT_TRY(buffer->check_guards());
  DGRT_TRY(plan_.check_guards());
  DGRT_TRY(check_columns(d, m));
  DGRT_TRY(check_rows(d, m));
  const std::vector<lab::GemmProduct> list = products(d, m);
  lab::GemmError worst;
  for (size_t i = 0; i < list.size() && m > 0; ++i) {
    const lab::GemmProduct& product = list[i];
    const size_t tiles = std::max<size_t>(8, max_checked_tiles / list.size());
    DGRT_ASSIGN(const lab::GemmError found,
                lab::check_gemm(lab, product,
                                lab::sample_tiles(product.m, product.n, tiles, product.k + i)));
    lab::GemmLimits limits = lab::gemm_limits(product);
    // The tensor core loses one bit more of fp16 denormals: 1.7 times the limit was seen on an H200.
    if (test_.values == Values::denormals && product.dtype_ab == DGRT_FP16)
      limits = {4 * limits.calc_diff, 2 * limits.worst_tile, 2 * limits.worst_element};
    const Status status = lab::check_limits(found, limits);
    if (!status.is_ok())
      return error(status.code(), "product {} of {}, {} rows: {}", i, list.size(), product.m,
                   status.message());
    worst.calc_diff = std::max(worst.calc_diff, found.calc_diff);
    worst.worst_tile = std::max(worst.worst_tile, found.worst_tile);
    worst.worst_element = std::max(worst.worst_element, found.worst_element);
  }
  *summary = fmt::format("calc_diff {:.2g}, tile {:.2g}, element {:.2g}", worst.calc_diff,
                         worst.worst_tile, worst.worst_element);
  return ok();
}

Result<std::string> GemmRun::check(int64_t m) {
  DGRT_TRY(deal(m));
  std::string kernel = "no kernel", summary;
  const AnyGemmArgs first = args_into(d_, m), again = args_into(d_again_, m);
  if (dealt_.m > 0) {
    DGRT_ASSIGN(kernel, plan_.kernel_name(op_of(first)));
  }
  const auto checked = [&]() -> Status {
    DGRT_TRY(prepare_d(d_));
    DGRT_TRY(plan_.launch(op_of(first), gpu_->lab->stream()));
    DGRT_TRY(check_d(d_, m, &summary));
    DGRT_TRY(check_signal(m));
    DGRT_TRY(prepare_d(d_again_));
    DGRT_TRY(plan_.launch(op_of(again), gpu_->lab->stream()));
    DGRT_ASSIGN(const int64_t at,
                lab::first_difference(*gpu_->lab, d_.data(), d_again_.data(), d_.bytes()));
    if (at < 0) return ok();
    return error(DGRT_INTERNAL, "the second run differs in row {}, byte {}", at / (ldd_ * d_size()),
                 at % (ldd_ * d_size()));
  };
  const Status status = checked();
  if (!status.is_ok()) return error(status.code(), "m={} {}: {}", m, kernel, status.message());
  return fmt::format("m={} {}: {}", m, kernel, summary);
}

void run_gemm_cases(Gpu& gpu, const std::vector<GemmCase>& cases) {
  std::vector<AnyGemmDesc> descs;
  for (const GemmCase& test : cases) {
    int64_t rows = 1;
    for (const int64_t m : test.m) rows = std::max(rows, test.rows(m).m);
    descs.push_back(test.desc(rows));
  }
  std::vector<const dgrt_desc*> pointers;
  for (const AnyGemmDesc& desc : descs) pointers.push_back(op_of(desc));
  // A failure comes again, in the case that it belongs to.
  (void)dgrt_prepare(gpu.context, pointers.data(), pointers.size(), nullptr, nullptr);
  for (const GemmCase& test : cases) {
    run_case(test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(GemmRun run, GemmRun::make(gpu, test));
      std::string details;
      for (const int64_t m : test.m) {
        DGRT_ASSIGN(const std::string detail, run.check(m));
        details += (details.empty() ? "" : "; ") + detail;
      }
      return details;
    });
  }
}

}  // namespace dgrt::test
