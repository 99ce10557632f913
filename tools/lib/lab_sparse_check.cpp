#include "tools/lib/lab_sparse_check.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "tools/lib/lab_quant_model.h"

namespace dgrt::lab {
namespace {

// The sizes of a format, as dgrt/mla.h has them.
struct Format {
  bool is_v4;
  int64_t columns, quantised, group, rotary_at, data_bytes;

  explicit Format(dgrt_mla_kv_format format) : is_v4(format == DGRT_MLA_KV_V4) {
    columns = is_v4 ? 512 : 576, quantised = columns - 64, group = is_v4 ? 64 : 128;
    rotary_at = is_v4 ? 448 : 528, data_bytes = is_v4 ? 576 : 656;
  }
  int64_t row_at(int64_t slot, int64_t page_size, int64_t page_bytes) const {
    return slot / page_size * page_bytes + slot % page_size * data_bytes;
  }
  int64_t scales_at(int64_t slot, int64_t page_size, int64_t page_bytes) const {
    if (!is_v4) return row_at(slot, page_size, page_bytes) + 512;
    return slot / page_size * page_bytes + page_size * 576 + slot % page_size * 8;
  }
};

template <class T>
Status compare(const char* what, const std::vector<T>& got, const std::vector<T>& want) {
  if (got.size() != want.size())
    return error(DGRT_INTERNAL, "{} has {} elements, must have {}", what, got.size(), want.size());
  const auto [wrong, right] = std::mismatch(got.begin(), got.end(), want.begin());
  if (wrong == got.end()) return ok();
  return error(DGRT_INTERNAL, "{}[{}] is {}, must be {}", what, wrong - got.begin(), static_cast<int64_t>(*wrong),
               static_cast<int64_t>(*right));
}

void append_group(const Format& format, const uint16_t* from, int64_t group, std::byte* row, std::byte* scales) {
  float amax = 1e-4f;
  for (int64_t i = 0; i < format.group; ++i) {
    const float size = std::fabs(bf16_to_float(from[i]));
    if (size > amax) amax = size;  // false for NaN
  }
  const float quotient = std::min(amax, FLT_MAX) / 448.0f;
  float factor = 1.0f / quotient;
  if (format.is_v4) {
    int exponent;  // of the next power of two
    const float fraction = std::frexp(quotient, &exponent);
    if (fraction == 0.5f) --exponent;
    factor = std::ldexp(1.0f, -exponent);
    scales[group] = static_cast<std::byte>(exponent + 127);
  } else {
    std::memcpy(scales + group * 4, &quotient, 4);
  }
  for (int64_t i = 0; i < format.group; ++i)
    row[group * format.group + i] = std::byte{float_to_e4m3(bf16_to_float(from[i]) * factor)};
}

float e4m3_to_float(uint32_t code) {
  const float sign = code & 0x80 ? -1.0f : 1.0f;
  const int exponent = static_cast<int>(code >> 3 & 15), mantissa = static_cast<int>(code & 7);
  if ((code & 0x7f) == 0x7f) return std::numeric_limits<float>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -9);
  return sign * std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
}

bool is_nan(uint16_t bf16) { return (bf16 & 0x7fff) > 0x7f80; }

void dequantise_row(const Format& format, const LatentCache& cache, int64_t slot, uint16_t* to) {
  const std::byte* const row = cache.bytes + format.row_at(slot, cache.page_size, cache.page_stride);
  const std::byte* const scales = cache.bytes + format.scales_at(slot, cache.page_size, cache.page_stride);
  for (int64_t i = 0; i < format.quantised; ++i) {
    const int64_t group = i / format.group;
    float scale;
    if (format.is_v4)
      scale = std::ldexp(1.0f, std::to_integer<int>(scales[group]) - 127);
    else
      std::memcpy(&scale, scales + group * 4, 4);
    const float value = e4m3_to_float(std::to_integer<uint32_t>(row[i])) * scale;
    to[i] = std::isnan(value) ? uint16_t{0x7fff} : float_to_bf16(value);
  }
  std::memcpy(to + format.quantised, row + format.rotary_at, 128);
}

class DequantCheck {
 public:
  DequantCheck(const dgrt_kv_dequant_paged_desc& desc, const dgrt_kv_dequant_paged_args& args,
               const DequantImages& images)
      : format_(desc.format), args_(args), images_(images), want_(images.out.size(), 0xffff) {}

  // slot < 0: zeros.
  void add_row(int64_t at, int64_t slot) {
    uint16_t* const to = want_.data() + at;
    if (slot < 0) {
      std::fill_n(to, format_.columns, uint16_t{0});
      return;
    }
    dequantise_row(format_, {images_.cache.data(), args_.page_size, args_.cache_page_stride}, slot, to);
  }
  Status result() const {
    for (size_t i = 0; i < want_.size(); ++i)
      if (images_.out[i] != want_[i] && !(is_nan(images_.out[i]) && is_nan(want_[i])))
        return error(DGRT_INTERNAL, "out[{}] is {:#x}, must be {:#x}", i, images_.out[i], want_[i]);
    return ok();
  }

 private:
  Format format_;
  const dgrt_kv_dequant_paged_args& args_;
  const DequantImages& images_;
  std::vector<uint16_t> want_;
};

}  // namespace

void dequantise_row(dgrt_mla_kv_format format, const LatentCache& cache, int64_t slot, uint16_t* to) {
  dequantise_row(Format(format), cache, slot, to);
}

Status check_mla_kv_append(const dgrt_mla_kv_append_desc& desc, const dgrt_mla_kv_append_args& args,
                           const LatentAppendImages& images) {
  const Format format(desc.format);
  std::vector<std::byte> want(images.cache.size(), std::byte{0xff});
  for (int64_t token = 0; token < args.tokens; ++token) {
    const int64_t slot = images.slots[token];
    if (slot < 0 || slot >= args.num_pages * args.page_size) continue;
    std::byte* const row = want.data() + format.row_at(slot, args.page_size, args.cache_page_stride);
    std::byte* const scales = want.data() + format.scales_at(slot, args.page_size, args.cache_page_stride);
    const uint16_t* const latent = images.latent.data() + token * args.latent_token_stride;
    for (int64_t group = 0; group < format.quantised / format.group; ++group)
      append_group(format, latent + group * format.group, group, row, scales);
    if (format.is_v4) scales[7] = std::byte{0};
    std::memcpy(row + format.rotary_at, images.rotary.data() + token * args.rotary_token_stride, 128);
  }
  return compare("cache", images.cache, want);
}

Status check_kv_dequant_paged(const dgrt_kv_dequant_paged_desc& desc, const dgrt_kv_dequant_paged_args& args,
                              const DequantImages& images) {
  DequantCheck check(desc, args, images);
  const int64_t num_slots = args.num_pages * args.page_size;
  if (desc.max_batch == 0) {
    for (int64_t row = 0; row < args.rows; ++row)
      check.add_row(row * args.out_row_stride, images.slots[row] < num_slots ? images.slots[row] : -1);
    return check.result();
  }
  for (int64_t b = 0; b < args.batch; ++b) {
    const int64_t length = std::max(images.seq_lens[b], 0);
    const int64_t wanted = images.gather_lens.empty() ? length : std::max(images.gather_lens[b], 0);
    const int64_t rows = std::min({wanted, length, args.rows});
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t position = length - rows + row, index = position / args.page_size;
      const int64_t page =
          index < args.max_pages ? images.page_table[b * args.page_table_row_stride + index] : -1;
      const bool exists = page >= 0 && page < args.num_pages;
      check.add_row(b * args.out_sequence_stride + row * args.out_row_stride,
                    exists ? page * args.page_size + position % args.page_size : -1);
    }
  }
  return check.result();
}

Status check_build_swa_token_ids(const dgrt_build_swa_token_ids_desc& desc,
                                 const dgrt_build_swa_token_ids_args& args, const SwaIdsImages& images) {
  std::vector<int32_t> ids, first, gather_lens, offsets = {0};
  for (int64_t b = 0; b < args.batch; ++b) {
    const int64_t length = std::max(images.seq_lens[b], 0), extend = std::max(images.extend_lens[b], 0);
    const int64_t gathered = std::min(length, extend + desc.window - 1), row = images.request_rows[b];
    first.push_back(static_cast<int32_t>(length - gathered));
    gather_lens.push_back(static_cast<int32_t>(gathered));
    for (int64_t position = first.back(); position < length; ++position) {
      int64_t id = -1;
      if (row >= 0 && row < args.num_request_rows && position < args.max_tokens) {
        const int64_t token = images.req_to_token[row * args.req_to_token_row_stride + position];
        if (token >= 0 && token < args.num_full) id = images.full_to_swa[token];
      }
      ids.push_back(id < 0 || id > INT32_MAX ? -1 : static_cast<int32_t>(id));
    }
    offsets.push_back(static_cast<int32_t>(ids.size()));
  }
  ids.resize(args.capacity, -1);
  DGRT_TRY(compare("offsets", images.offsets, offsets));
  DGRT_TRY(compare("first", images.first, first));
  DGRT_TRY(compare("gather_lens", images.gather_lens, gather_lens));
  return compare("token_ids", images.token_ids, ids);
}

Status check_combine_topk_swa_indices(const dgrt_combine_topk_swa_indices_desc& desc,
                                      const dgrt_combine_topk_swa_indices_args& args,
                                      const CombineImages& images) {
  std::vector<int32_t> indices(images.indices.size(), -1), lengths(args.tokens, 0);
  const auto to_index = [](int64_t index) {
    return index < 0 || index > INT32_MAX ? -1 : static_cast<int32_t>(index);
  };
  for (int64_t b = 0; b < args.batch; ++b) {
    const int64_t origin = images.query_start_loc[0];
    const int64_t begin = images.query_start_loc[b] - origin, end = images.query_start_loc[b + 1] - origin;
    for (int64_t t = begin; t < std::min(end, args.tokens); ++t) {
      const int64_t p = images.query_pos.empty() ? images.seq_lens[b] - end + t : images.query_pos[t];
      if (p < 0) continue;
      const int64_t seen = (p + 1) / desc.ratio, n = std::min(seen, args.top_k), w = std::min(p + 1, desc.window);
      int32_t* const row = indices.data() + t * args.indices_row_stride;
      for (int64_t i = 0; i < n; ++i) {
        const int64_t picked = images.topk_indices.empty() ? i : images.topk_indices[t * args.topk_row_stride + i];
        row[i] = picked >= 0 && picked < seen ? to_index(images.compressed_base[b] + picked) : -1;
      }
      for (int64_t i = 0; i < w; ++i) {
        const int64_t place = p - w + 1 - (images.seq_lens[b] - images.gather_lens[b]) + i;
        const bool exists = place >= 0 && place < images.gather_lens[b];
        row[n + i] = exists ? to_index(images.swa_base[b] + place) : -1;
      }
      lengths[t] = static_cast<int32_t>(n + w);
    }
  }
  DGRT_TRY(compare("lengths", images.lengths, lengths));
  return compare("indices", images.indices, indices);
}

}  // namespace dgrt::lab
