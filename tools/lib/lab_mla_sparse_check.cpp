#include "tools/lib/lab_mla_sparse_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/base/format.h"
#include "tools/lib/lab_quant_model.h"
#include "tools/lib/lab_sparse_check.h"

namespace dgrt::lab {
namespace {

constexpr int64_t dv = 512;
constexpr double infinity = std::numeric_limits<double>::infinity();

class SparseDecodeCheck {
 public:
  SparseDecodeCheck(const dgrt_mla_sparse_decode_desc& desc, const dgrt_mla_sparse_decode_args& args,
                    const SparseDecodeImages& images)
      : desc_(desc), args_(args), images_(images), columns_(desc.format == DGRT_MLA_KV_V32 ? 576 : 512) {}

  Status check_token(int64_t token) {
    gather(token);
    o_diff_[0] = o_diff_[1] = 0;
    for (int64_t head = 0; head < desc_.num_q_heads; ++head) DGRT_TRY(check_head(token, head));
    const double diff = o_diff_[1] < 1e-12 ? 0 : 1 - 2 * o_diff_[0] / o_diff_[1];
    error_.worst_diff = std::max(error_.worst_diff, diff / 5e-6);
    if (!(diff <= 5e-6)) return error(DGRT_INTERNAL, "o of token {} differs by {:.3g}", token, diff);
    return ok();
  }
  const SparseDecodeError& found() const { return error_; }

 private:
  int64_t length(const std::vector<int32_t>& lengths, int64_t token, int64_t top_k) const {
    if (lengths.empty()) return top_k;
    const int64_t given = lengths[args_.lengths_per_token != 0 ? token : token / args_.q_len];
    return std::clamp<int64_t>(given, 0, top_k);
  }

  void add_row(const LatentCache& cache, int64_t num_pages, int64_t slot) {
    if (slot < 0 || slot >= num_pages * cache.page_size) return;
    std::vector<uint16_t> row(static_cast<size_t>(columns_));
    dequantise_row(desc_.format, cache, slot, row.data());
    for (const uint16_t bits : row) rows_.push_back(bf16_to_float(bits));
  }
  void gather(int64_t token) {
    const dgrt_mla_sparse_decode_args& x = args_;
    rows_.clear();
    for (int64_t i = 0; i < length(images_.lengths, token, x.top_k); ++i)
      add_row({images_.cache.data(), x.page_size, x.cache_page_stride}, x.num_pages,
              images_.indices[token * x.indices_token_stride + i]);
    for (int64_t i = 0; i < length(images_.extra_lengths, token, x.extra_top_k); ++i)
      add_row({images_.extra_cache.data(), x.extra_page_size, x.extra_cache_page_stride}, x.extra_num_pages,
              images_.extra_indices[token * x.extra_indices_token_stride + i]);
  }

  Status check_head(int64_t token, int64_t head) {
    const int64_t keys = static_cast<int64_t>(rows_.size()) / columns_;
    const uint16_t* const q = images_.q.data() + token * args_.q_token_stride + head * args_.q_head_stride;
    std::vector<double> scores(static_cast<size_t>(keys)), want(dv);
    double most = -infinity, sum = 0;
    for (int64_t j = 0; j < keys; ++j) {
      double dot = 0;
      for (int64_t i = 0; i < columns_; ++i) dot += double{bf16_to_float(q[i])} * double{rows_[j * columns_ + i]};
      scores[j] = dot * double{args_.scale};
      most = std::max(most, scores[j]);
    }
    for (int64_t j = 0; j < keys; ++j) {
      const double weight = std::exp(scores[j] - most);
      sum += weight;
      for (int64_t i = 0; i < dv; ++i) want[i] += weight * double{rows_[j * columns_ + i]};
    }
    const double lse = keys == 0 ? -infinity : most + std::log(sum);
    const double sink = images_.sinks.empty() ? -infinity : double{images_.sinks[head]};
    const double share = keys == 0 ? 0 : 1 / (1 + std::exp(sink - lse));
    for (double& value : want) value *= keys == 0 ? 0 : share / sum;
    DGRT_TRY(check_o(token, head, want));
    return check_lse(token, head, lse);
  }

  Status check_o(int64_t token, int64_t head, const std::vector<double>& want) {
    const uint16_t* const got = images_.o.data() + token * args_.o_token_stride + head * args_.o_head_stride;
    for (int64_t i = 0; i < dv; ++i) {
      const double is = bf16_to_float(got[i]), must = bf16_to_float(float_to_bf16(static_cast<float>(want[i])));
      const double wrong = std::fabs(is - must);
      const double over = std::min(wrong / 1e-3, wrong / (std::fabs(must) + 1e-6) / (2.01 / 128));
      if (!(over <= 1))
        return error(DGRT_INTERNAL, "o[{}, {}, {}] is {:.6g}, must be {:.6g}", token, head, i, is, must);
      error_.worst_element = std::max(error_.worst_element, over);
      o_diff_[0] += is * must, o_diff_[1] += is * is + must * must;
    }
    error_.checked += dv;
    return ok();
  }

  Status check_lse(int64_t token, int64_t head, double want) {
    if (images_.lse.empty()) return ok();
    if ((desc_.flags & DGRT_MLA_LSE_EMPTY_INF) != 0 && want == -infinity) want = infinity;
    if ((desc_.flags & DGRT_MLA_LSE_BASE2) != 0) want /= std::log(2.0);
    const double got = images_.lse[token * args_.lse_token_stride + head * args_.lse_head_stride];
    const double over = got == want ? 0 : std::fabs(got - want) / (1e-5 + std::fabs(want) * 8.01 / 65536);
    if (!(over <= 1)) return error(DGRT_INTERNAL, "lse[{}, {}] is {:.8g}, must be {:.8g}", token, head, got, want);
    error_.worst_lse = std::max(error_.worst_lse, over);
    return ok();
  }

  const dgrt_mla_sparse_decode_desc& desc_;
  const dgrt_mla_sparse_decode_args& args_;
  const SparseDecodeImages& images_;
  const int64_t columns_;
  std::vector<float> rows_;  // of the token's lists, those that exist
  double o_diff_[2] = {};    // <got, want>, and the sum of the squares
  SparseDecodeError error_;
};

}  // namespace

std::string SparseDecodeError::to_string() const {
  return fmt::format("{} elements, worst element {:.3f}, lse {:.3f}, diff {:.3f} of what is allowed", checked,
                     worst_element, worst_lse, worst_diff);
}

Result<SparseDecodeError> check_mla_sparse_decode(const dgrt_mla_sparse_decode_desc& desc,
                                                  const dgrt_mla_sparse_decode_args& args,
                                                  const SparseDecodeImages& images, int64_t most) {
  SparseDecodeCheck check(desc, args, images);
  const int64_t tokens = args.batch * args.q_len;
  for (int64_t token = 0; token < tokens; token += tokens / most + 1) DGRT_TRY(check.check_token(token));
  return check.found();
}

Status check_mla_sparse_untouched(const dgrt_mla_sparse_decode_desc& desc, const dgrt_mla_sparse_decode_args& args,
                                  SparseDecodeImages images) {
  static constexpr uint32_t poison = 0xffffffff;
  const auto is_poison = [](float value) { return std::memcmp(&value, &poison, 4) == 0; };
  for (int64_t token = 0; token < args.batch * args.q_len; ++token)
    for (int64_t head = 0; head < desc.num_q_heads; ++head) {
      std::fill_n(images.o.begin() + token * args.o_token_stride + head * args.o_head_stride, dv, uint16_t{0xffff});
      if (!images.lse.empty())
        std::memcpy(&images.lse[token * args.lse_token_stride + head * args.lse_head_stride], &poison, 4);
    }
  const auto o = std::find_if(images.o.begin(), images.o.end(), [](uint16_t v) { return v != 0xffff; });
  if (o != images.o.end()) return error(DGRT_INTERNAL, "element {} of o was written", o - images.o.begin());
  const auto lse = std::find_if_not(images.lse.begin(), images.lse.end(), is_poison);
  if (lse != images.lse.end()) return error(DGRT_INTERNAL, "element {} of lse was written", lse - images.lse.begin());
  return ok();
}

}  // namespace dgrt::lab
