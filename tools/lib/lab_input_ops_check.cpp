#include "tools/lib/lab_input_ops_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "tools/lib/lab_quant_model.h"

namespace dgrt::lab {
namespace {

constexpr uint32_t unwritten = 0xffffffff;
constexpr int64_t block_k = 128;

int64_t ceil_div(int64_t x, int64_t y) { return (x + y - 1) / y; }

// A quant_fp8 call whose operands were copied to the host.
struct QuantCopy {
  const dgrt_quant_fp8_desc& desc;
  const dgrt_quant_fp8_args& args;
  std::span<const uint16_t> x;
  std::span<const uint8_t> q;
  std::span<const uint32_t> scale;

  int64_t block_m() const { return desc.block == DGRT_QUANT_1X128 ? 1 : 128; }
  int64_t num_m() const { return ceil_div(args.m, block_m()); }
  int64_t num_k() const { return ceil_div(desc.k, block_k); }
  bool is_k_major() const { return desc.scale_major == DGRT_K_MAJOR; }
};

Status check_block(const QuantCopy& call, int64_t m_block, int64_t k_block) {
  const int64_t row_begin = m_block * call.block_m(), col_begin = k_block * block_k;
  const int64_t row_end = std::min(call.args.m, row_begin + call.block_m());
  const int64_t col_end = std::min(call.desc.k, col_begin + block_k);
  QuantModel model;
  for (int64_t row = row_begin; row < row_end; ++row)
    for (int64_t col = col_begin; col < col_end; ++col)
      model.add(call.x[row * call.args.ldx + col]);

  const float want_scale = model.scale();
  const uint32_t scale_bits =
      call.scale[call.is_k_major() ? m_block * call.args.ld_scale + k_block
                                   : k_block * call.args.ld_scale + m_block];
  float scale;
  std::memcpy(&scale, &scale_bits, sizeof(scale));
  const bool both_nan = std::isnan(scale) && std::isnan(want_scale);
  // Memory that nothing wrote is NaN as well, but with all bits set.
  if (scale_bits == unwritten || (!both_nan && std::memcmp(&scale, &want_scale, 4) != 0))
    return error(DGRT_INTERNAL, "scale of block ({}, {}): got {:.9g} ({:#010x}), want {:.9g}",
                 row_begin, col_begin, scale, scale_bits, want_scale);

  const float reciprocal = 1.0f / want_scale;
  for (int64_t row = row_begin; row < row_end; ++row)
    for (int64_t col = col_begin; col < col_end; ++col) {
      const uint16_t x = call.x[row * call.args.ldx + col];
      const uint8_t got = call.q[row * call.args.ldq + col];
      const uint8_t want = QuantModel::quantise(x, reciprocal);
      if (got != want)
        return error(DGRT_INTERNAL, "q({}, {}): got {:#04x}, want {:#04x}; x={:.9g} scale={:.9g}",
                     row, col, got, want, bf16_to_float(x), want_scale);
    }
  return ok();
}

Status check_unwritten(const QuantCopy& call) {
  const int64_t ld_scale = call.args.ld_scale, ldq = call.args.ldq;
  const int64_t rows = call.is_k_major() ? call.num_m() : call.num_k();
  const int64_t cols = call.is_k_major() ? call.num_k() : call.num_m();
  for (int64_t i = 0; i < std::ssize(call.scale); ++i)
    if ((i / ld_scale >= rows || i % ld_scale >= cols) && call.scale[i] != unwritten)
      return error(DGRT_INTERNAL, "scale[{}] is outside the shape and was written", i);
  const int64_t num_rows = ceil_div(std::ssize(call.q), ldq);
  for (int64_t row = 0; row < num_rows; ++row) {
    const int64_t end = std::min<int64_t>(std::ssize(call.q), (row + 1) * ldq);
    for (int64_t i = row * ldq + (row < call.args.m ? call.desc.k : 0); i < end; ++i)
      if (call.q[i] != 0xff)
        return error(DGRT_INTERNAL, "q({}, {}) is outside the shape and was written", row,
                     i - row * ldq);
  }
  return ok();
}

// src of a scale op, as bits.
struct SourceScales {
  std::span<const uint32_t> bits;
  dgrt_major major;
  int64_t ld, group_stride;

  uint32_t at(int64_t group, int64_t row, int64_t k_block) const {
    return bits[group * group_stride +
                (major == DGRT_K_MAJOR ? row * ld + k_block : k_block * ld + row)];
  }
  float value(int64_t group, int64_t row, int64_t k_block) const {
    const uint32_t word = at(group, row, k_block);
    float result;
    std::memcpy(&result, &word, sizeof(result));
    return result;
  }
};

// The k blocks of src that one word of a packed tensor holds.
struct Word {
  int64_t begin, end;
};

void add_words(int64_t begin, int64_t end, std::vector<Word>* words) {
  for (; begin < end; begin += 4) words->push_back({begin, std::min(begin + 4, end)});
}

std::vector<Word> plain_words(int64_t k_blocks) {
  std::vector<Word> words;
  add_words(0, k_blocks, &words);
  return words;
}

std::vector<Word> grouped_words(std::span<const int32_t> ks, int64_t gran_k, int64_t k_blocks) {
  std::vector<Word> words;
  int64_t begin = 0;
  for (const int64_t k : ks) {
    const int64_t end = std::min(begin + ceil_div(std::max<int64_t>(k, 0), gran_k), k_blocks);
    add_words(begin, end, &words);
    begin = end;
  }
  return words;
}

}  // namespace

Status check_quant_fp8(const dgrt_quant_fp8_desc& desc, const dgrt_quant_fp8_args& args,
                       std::span<const uint16_t> x, std::span<const uint8_t> q,
                       std::span<const uint32_t> scale) {
  const QuantCopy call{desc, args, x, q, scale};
  for (int64_t m_block = 0; m_block < call.num_m(); ++m_block)
    for (int64_t k_block = 0; k_block < call.num_k(); ++k_block)
      DGRT_TRY(check_block(call, m_block, k_block));
  return check_unwritten(call);
}

Status check_scale_layout(const dgrt_scale_layout_desc& desc, const dgrt_scale_layout_args& args,
                          std::span<const uint32_t> src, std::span<const uint32_t> dst) {
  const SourceScales source{src, desc.src_major, args.ld_src, args.group_stride_src};
  const int64_t groups = std::max<int64_t>(desc.num_groups, 1);
  const int64_t written = ceil_div(args.m, 4) * 4;
  for (int64_t i = 0; i < std::ssize(dst); ++i) {
    const int64_t group = groups > 1 ? std::min(i / args.group_stride_dst, groups - 1) : 0;
    const int64_t in_group = i - group * args.group_stride_dst;
    const int64_t k_block = in_group / args.ld_dst, row = in_group % args.ld_dst;
    const bool is_outside = k_block >= desc.k_blocks || row >= written;
    const uint32_t want = is_outside     ? unwritten
                          : row < args.m ? source.at(group, row, k_block)
                                         : 0;
    if (dst[i] != want)
      return error(DGRT_INTERNAL, "dst[{} * ld_dst + {}] of group {}: got {:#010x}, want {:#010x}",
                   k_block, row, group, dst[i], want);
  }
  return ok();
}

uint32_t ue8m0_of(float value, bool round_up) {
  if (std::signbit(value) || !std::isfinite(value)) return 0xff;
  if (value == 0) return 0;
  int exponent = 0;  // value = fraction * 2^exponent, fraction in [0.5, 1)
  const double fraction = std::frexp(static_cast<double>(value), &exponent);
  const int power = fraction == 0.5 ? exponent - 1 : exponent;  // least with value <= 2^power
  if (!round_up && (fraction != 0.5 || power < -127)) return 0xff;
  return static_cast<uint32_t>(std::max(power, -127) + 127);
}

Status check_scale_pack(const dgrt_scale_pack_ue8m0_desc& desc,
                        const dgrt_scale_pack_ue8m0_args& args, std::span<const int32_t> ks,
                        std::span<const uint32_t> src, std::span<const uint32_t> dst) {
  const bool k_grouped = (desc.flags & DGRT_SCALE_K_GROUPED) != 0;
  const SourceScales source{src, desc.src_major, args.ld_src, args.group_stride_src};
  const std::vector<Word> words =
      k_grouped ? grouped_words(ks, desc.gran_k, args.k_blocks) : plain_words(desc.k_blocks);
  const int64_t groups = k_grouped ? 1 : std::max<int64_t>(desc.num_groups, 1);
  const int64_t written = ceil_div(args.m, 4) * 4;
  for (int64_t i = 0; i < std::ssize(dst); ++i) {
    const int64_t group = groups > 1 ? std::min(i / args.group_stride_dst, groups - 1) : 0;
    const int64_t in_group = i - group * args.group_stride_dst;
    const int64_t word = in_group / args.ld_dst, row = in_group % args.ld_dst;
    uint32_t want = 0;
    if (word >= std::ssize(words) || row >= written) {
      want = unwritten;
    } else if (row < args.m) {
      for (int64_t k = words[word].begin; k < words[word].end; ++k)
        want |= ue8m0_of(source.value(group, row, k), (desc.flags & DGRT_SCALE_CEIL) != 0)
                << (8 * (k - words[word].begin));
    }
    if (dst[i] != want)
      return error(DGRT_INTERNAL, "dst[{} * ld_dst + {}] of group {}: got {:#010x}, want {:#010x}",
                   word, row, group, dst[i], want);
  }
  return ok();
}

}  // namespace dgrt::lab
