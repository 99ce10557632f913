#include "tools/lib/lab_hc_check.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "tools/lib/lab_hc_reference.cuh"
#include "tools/lib/lab_quant_model.h"

namespace dgrt::lab {
namespace {

constexpr int64_t tile_rows = 64;

// Sums over pairs of one tile, or of all.
struct Products {
  double xy = 0, xx = 0, yy = 0;
  void add(double x, double y) { xy += x * y, xx += x * x, yy += y * y; }
  void add(const Products& other) { xy += other.xy, xx += other.xx, yy += other.yy; }
  double calc_diff() const { return xx + yy == 0 ? 0 : 1 - 2 * xy / (xx + yy); }
};

// Strides of one call's outputs and reference.
struct Outputs {
  int64_t splits, m, n, ldz, z_split, q_split;

  Outputs(const dgrt_hc_prenorm_desc& desc, const dgrt_hc_prenorm_args& args)
      : splits(std::max<int64_t>(args.num_splits, 1)),
        m(args.m),
        n(desc.n),
        ldz(args.ldz),
        z_split(splits > 1 ? args.z_split_stride : args.m * args.ldz),
        q_split(splits > 1 ? args.q_split_stride : args.m) {}

  const double* want(std::span<const double> reference, int64_t split, int64_t row) const {
    return reference.data() + (split * m + row) * (n + 1);
  }
};

bool is_unwritten(float value) { return std::bit_cast<uint32_t>(value) == 0xffffffff; }

Status check_unwritten(const Outputs& out, std::span<const float> z, std::span<const float> q) {
  for (int64_t i = 0; i < std::ssize(z); ++i) {
    const int64_t row = i % out.z_split / out.ldz, column = i % out.z_split % out.ldz;
    if (i / out.z_split < out.splits && row < out.m && column < out.n) continue;
    if (!is_unwritten(z[i]))
      return error(DGRT_INTERNAL, "z[{}] is outside the shape and was written", i);
  }
  for (int64_t i = 0; i < std::ssize(q); ++i) {
    if (i / out.q_split < out.splits && i % out.q_split < out.m) continue;
    if (!is_unwritten(q[i]))
      return error(DGRT_INTERNAL, "q[{}] is outside the shape and was written", i);
  }
  return ok();
}

// What is not finite must stay so; only an infinity of z may have become NaN.
Status check_class(const char* name, int64_t split, int64_t row, int64_t column, float got,
                   double want) {
  const bool is_written = !is_unwritten(got);
  const bool alike = std::isfinite(want) ? std::isfinite(got)
                     : *name == 'q' ? std::isnan(got) == std::isnan(want) && !std::isfinite(got)
                                    : !std::isfinite(got);
  if (is_written && alike) return ok();
  return error(DGRT_INTERNAL, "{}: split {}, row {}, column {}: got {}, want {}", name, split, row,
               column, got, want);
}

Status add_row(const Outputs& out, const double* want, const float* z, float q, int64_t split,
               int64_t row, Products* tile, HcError* e) {
  for (int64_t j = 0; j < out.n; ++j) {
    DGRT_TRY(check_class("z", split, row, j, z[j], want[j]));
    if (std::isfinite(want[j])) tile->add(z[j], want[j]);
  }
  DGRT_TRY(check_class("q", split, row, 0, q, want[out.n]));
  e->checked += static_cast<uint64_t>(out.n) + 1;
  if (!std::isfinite(want[out.n])) return ok();
  const double off = std::abs(q - want[out.n]);
  e->worst_q = std::max(e->worst_q, off == 0 ? 0 : off / want[out.n]);
  return ok();
}

uint16_t high_part(float f) {
  if (std::isnan(f)) return 0x7fff;
  if (std::isinf(f)) return f > 0 ? 0x7f80 : 0xff80;
  const uint16_t nearest = float_to_bf16(f);
  return std::isfinite(bf16_to_float(nearest)) ? nearest : static_cast<uint16_t>(nearest - 1);
}

bool is_nan(uint16_t bits) { return (bits & 0x7fff) > 0x7f80; }

}  // namespace

std::string HcError::to_string() const {
  return fmt::format("calc_diff {:.2g}, tile {:.2g}, q {:.2g}", calc_diff, worst_tile, worst_q);
}

Result<std::vector<double>> reference_sums(const Device& device, const dgrt_hc_prenorm_desc& desc,
                                           const dgrt_hc_prenorm_args& args, const float* f,
                                           int64_t ldf) {
  const int64_t splits = std::max<int64_t>(args.num_splits, 1);
  if (args.m == 0) return std::vector<double>();
  DGRT_TRY(device.synchronize());
  DGRT_ASSIGN(const DeviceBuffer sums,
              DeviceBuffer::make(device, splits * args.m * (desc.n + 1) * sizeof(double)));
  const hc_reference::Params params{args.x,
                                    f,
                                    sums.as<double>(),
                                    args.ldx,
                                    ldf,
                                    static_cast<uint32_t>(desc.n),
                                    static_cast<uint32_t>(desc.k / 64)};
  const LabKernel kernel{"hc_reference", 0, hc_reference::num_threads, sizeof(params)};
  DGRT_TRY(device.launch(kernel, &params, static_cast<uint32_t>(args.m),
                         static_cast<uint32_t>(splits), device.stream()));
  return sums.download_all<double>();
}

Result<HcError> check_hc_prenorm(const dgrt_hc_prenorm_desc& desc, const dgrt_hc_prenorm_args& args,
                                 std::span<const double> reference, std::span<const float> z,
                                 std::span<const float> q) {
  HcError e;
  const Outputs out(desc, args);
  Products all;
  for (int64_t split = 0; split < out.splits && out.m > 0; ++split) {
    Products tile;
    for (int64_t row = 0; row < out.m; ++row) {
      DGRT_TRY(add_row(out, out.want(reference, split, row),
                       z.data() + split * out.z_split + row * out.ldz, q[split * out.q_split + row],
                       split, row, &tile, &e));
      if (row % tile_rows != tile_rows - 1 && row != out.m - 1) continue;
      e.worst_tile = std::max(e.worst_tile, tile.calc_diff());
      all.add(tile);
      tile = {};
    }
  }
  e.calc_diff = all.calc_diff();
  if (out.m > 0) DGRT_TRY(check_unwritten(out, z, q));
  if (!(e.calc_diff <= hc_z_limit && e.worst_tile <= hc_z_limit && e.worst_q <= hc_q_limit))
    return error(DGRT_INTERNAL, "limits {:.2g} of z, {:.2g} of q: {}", hc_z_limit, hc_q_limit,
                 e.to_string());
  return e;
}

Status check_hc_prenorm_weights(const dgrt_hc_prenorm_weights_desc& desc, int64_t ldf,
                                std::span<const float> f, std::span<const uint16_t> w) {
  const int64_t padded = (desc.n + 7) / 8 * 8;
  for (int64_t row = 0; row < padded; ++row)
    for (int64_t k = 0; k < desc.k; ++k) {
      uint16_t high = 0, low = 0;
      if (row < desc.n) {
        const float value = f[row * ldf + k];
        high = high_part(value);
        if (std::isfinite(value)) low = float_to_bf16(value - bf16_to_float(high));
      }
      for (const auto& [at, want] : {std::pair{row, high}, {padded + row, low}}) {
        const uint16_t got = w[at * desc.k + k];
        if (got == want || (is_nan(got) && is_nan(want) && got != 0xffff)) continue;
        return error(DGRT_INTERNAL, "w({}, {}): got {:#06x}, want {:#06x}", at, k, got, want);
      }
    }
  return ok();
}

}  // namespace dgrt::lab
