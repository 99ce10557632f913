#include "tools/lib/lab_attn_memory_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tools/lib/lab_quant_model.h"

namespace dgrt::lab {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

float fp16_to_float(uint16_t bits) {
  const float sign = bits >> 15 ? -1.0f : 1.0f;
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  if (exponent == 31)
    return mantissa == 0 ? sign * std::numeric_limits<float>::infinity()
                         : std::numeric_limits<float>::quiet_NaN();
  const int significand = exponent == 0 ? mantissa : mantissa + 1024;
  return sign * std::ldexp(static_cast<float>(significand), std::max(exponent, 1) - 25);
}

// Of a number of this size, half a unit of the last place.
double rounding(double value, dgrt_dtype dtype) {
  if (dtype == DGRT_FP32) return std::fabs(value) * 0x1p-24;
  if (dtype == DGRT_BF16) return std::fabs(value) * 0x1p-8;
  return std::max(std::fabs(value) * 0x1p-11, 0x1p-25);
}

// Weights of the parts of one row, which add up to the share that the sink leaves, and its lse.
struct RowWeights {
  std::vector<double> of_part;
  double lse = -infinity;
};

RowWeights weigh(const dgrt_attn_merge_desc& desc, const std::vector<double>& part_lse,
                 double sink) {
  const double unit = (desc.flags & DGRT_ATTN_LSE_BASE2) != 0 ? std::log(2.0) : 1.0;
  const double most = *std::max_element(part_lse.begin(), part_lse.end()) * unit;
  RowWeights row{std::vector<double>(part_lse.size()), -infinity};
  const double top = std::max(most, sink);
  if (top == -infinity) return row;
  double sum = 0;
  for (size_t i = 0; i < part_lse.size(); ++i)
    sum += row.of_part[i] = std::exp(part_lse[i] * unit - top);
  const double all = sum + std::exp(sink - top);
  for (double& weight : row.of_part) weight /= all;
  const bool with_sink = (desc.flags & DGRT_ATTN_LSE_WITH_SINK) != 0;
  // Relative to the largest part: beside a much larger sink the sum is 0.
  double own = 0;
  if (most > -infinity)
    for (const double lse : part_lse) own += std::exp(lse * unit - most);
  row.lse = (with_sink ? top + std::log(all) : most + std::log(own)) / unit;
  return row;
}

}  // namespace

float element_at(const Bytes& tensor, dgrt_dtype dtype, int64_t index) {
  if (dtype == DGRT_FP32) {
    float value;
    std::memcpy(&value, tensor.data() + index * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, tensor.data() + index * 2, 2);
  return dtype == DGRT_BF16 ? bf16_to_float(bits) : fp16_to_float(bits);
}

namespace {

class MergeCheck {
 public:
  MergeCheck(const dgrt_attn_merge_desc& desc, const dgrt_attn_merge_args& args,
             const MergeImages& images)
      : desc_(desc), args_(args), images_(images) {}

  Status check_row(int64_t token, int64_t head) {
    std::vector<double> part_lse;
    const int64_t lse_at = token * args_.part_lse_token_stride + head * args_.part_lse_head_stride;
    for (int64_t part = 0; part < args_.num_parts; ++part)
      part_lse.push_back(images_.part_lse[lse_at + part * args_.part_lse_part_stride]);
    const RowWeights row =
        weigh(desc_, part_lse, images_.sinks.empty() ? -infinity : images_.sinks[head]);
    for (int64_t column = 0; column < desc_.head_dim; ++column)
      DGRT_TRY(check_element(row, token, head, column));
    ++error_.rows;
    if (images_.lse.empty()) return ok();
    const double got = images_.lse[token * args_.lse_token_stride + head * args_.lse_head_stride];
    if (got == row.lse) return ok();
    return note(got, row.lse, 4e-6 * (1 + std::fabs(row.lse)), "lse", token, head, 0);
  }
  const MergeError& result() const { return error_; }

 private:
  Status check_element(const RowWeights& row, int64_t token, int64_t head, int64_t column) {
    const int64_t at = token * args_.part_o_token_stride + head * args_.part_o_head_stride + column;
    double sum = 0, size = 0;
    for (int64_t part = 0; part < args_.num_parts; ++part) {
      const double weight = row.of_part[part];
      if (weight < 0x1p-126) continue;  // 0 in fp32: not read
      const double term = weight * element_at(images_.part_o, desc_.dtype_part,
                                              at + part * args_.part_o_part_stride);
      sum += term, size += std::fabs(term);
    }
    const int64_t to = token * args_.o_token_stride + head * args_.o_head_stride + column;
    return note(element_at(images_.o, desc_.dtype_o, to), sum,
                rounding(sum, desc_.dtype_o) + 1e-5 * size, "o", token, head, column);
  }
  Status note(double got, double want, double allowed, const char* what, int64_t token,
              int64_t head, int64_t column) {
    const double difference = std::fabs(got - want);
    if (difference > 0) error_.worst = std::max(error_.worst, difference / allowed);
    if (difference <= allowed) return ok();
    return error(DGRT_INTERNAL, "{}[{}, {}, {}] is {}, must be {}", what, token, head, column, got,
                 want);
  }

  const dgrt_attn_merge_desc& desc_;
  const dgrt_attn_merge_args& args_;
  const MergeImages& images_;
  MergeError error_;
};

}  // namespace

Result<MergeError> check_attn_merge(const dgrt_attn_merge_desc& desc,
                                    const dgrt_attn_merge_args& args, const MergeImages& images,
                                    int64_t most_rows) {
  MergeCheck check(desc, args, images);
  const int64_t rows = args.tokens * desc.num_heads;
  // Odd, so that all heads and all places in a block have their turn.
  const int64_t step = rows <= most_rows ? 1 : (rows / most_rows) | 1;
  for (int64_t row = 0; row < rows; row += step)
    DGRT_TRY(check.check_row(row / desc.num_heads, row % desc.num_heads));
  return check.result();
}

namespace {

// Keys or values of a call.
struct Appended {
  const char* name;
  const Bytes &from, &cache;
  const std::vector<float>& scale;
  int64_t head_dim, from_token, from_head, page, slot, head, scale_head;
};

Status check_cache(const dgrt_kv_append_desc& desc, const dgrt_kv_append_args& args,
                   const std::vector<int64_t>& slots, const Appended& a) {
  const bool quantised = desc.dtype_cache == DGRT_E4M3;
  Bytes want(a.cache.size(), std::byte{0xff});
  for (int64_t token = 0; token < args.tokens; ++token) {
    const int64_t slot = slots[token];
    if (slot < 0 || slot >= args.num_pages * args.page_size) continue;
    for (int64_t head = 0; head < desc.num_kv_heads; ++head) {
      const int64_t from = token * a.from_token + head * a.from_head;
      const int64_t to =
          slot / args.page_size * a.page + slot % args.page_size * a.slot + head * a.head;
      const float scale = a.scale.empty() ? 1.0f : a.scale[head * a.scale_head];
      if (!quantised) std::memcpy(want.data() + to * 2, a.from.data() + from * 2, a.head_dim * 2);
      for (int64_t column = 0; quantised && column < a.head_dim; ++column)
        want[to + column] =
            std::byte{float_to_e4m3(element_at(a.from, desc.dtype, from + column) / scale)};
    }
  }
  const auto [wrong, right] = std::mismatch(a.cache.begin(), a.cache.end(), want.begin());
  if (wrong == a.cache.end()) return ok();
  return error(DGRT_INTERNAL, "{}: byte {} is {:#x}, must be {:#x}", a.name,
               wrong - a.cache.begin(), std::to_integer<int>(*wrong), std::to_integer<int>(*right));
}

}  // namespace

Status check_kv_append(const dgrt_kv_append_desc& desc, const dgrt_kv_append_args& args,
                       const AppendImages& images) {
  DGRT_TRY(
      check_cache(desc, args, images.slots,
                  {"k_cache", images.k, images.k_cache, images.k_scale, desc.head_dim_qk,
                   args.k_token_stride, args.k_head_stride, args.k_cache_page_stride,
                   args.k_cache_token_stride, args.k_cache_head_stride, args.k_scale_head_stride}));
  return check_cache(
      desc, args, images.slots,
      {"v_cache", images.v, images.v_cache, images.v_scale, desc.head_dim_v, args.v_token_stride,
       args.v_head_stride, args.v_cache_page_stride, args.v_cache_token_stride,
       args.v_cache_head_stride, args.v_scale_head_stride});
}

}  // namespace dgrt::lab
