// Did the helper ops around sparse MLA, topk_transform aside, do what dgrt/mla.h says? On the CPU, from copies of
// all that a call read and wrote. INTERNAL names the first wrong place.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "dgrt/mla.h"
#include "runtime/base/status.h"

namespace dgrt::lab {

struct LatentCache {
  const std::byte* bytes;
  int64_t page_size, page_stride;
};
// A slot's row as bf16: 576 columns with V32, 512 with V4. NaN is 0x7fff.
void dequantise_row(dgrt_mla_kv_format format, const LatentCache& cache, int64_t slot, uint16_t* to);

// Each begins where the pointer of args points.
struct LatentAppendImages {
  std::vector<uint16_t> latent, rotary;
  std::vector<std::byte> cache;
  std::vector<int64_t> slots;
};

// Byte for byte, what no token goes to included: it holds 0xff.
Status check_mla_kv_append(const dgrt_mla_kv_append_desc& desc, const dgrt_mla_kv_append_args& args,
                           const LatentAppendImages& images);

struct DequantImages {
  std::vector<std::byte> cache;
  std::vector<uint16_t> out;
  std::vector<int64_t> slots;                              // by slot
  std::vector<int32_t> seq_lens, gather_lens, page_table;  // by sequence; gather_lens: empty where NULL
};

// Bit for bit but for NaN, which may be any; what no row goes to holds 0xffff.
Status check_kv_dequant_paged(const dgrt_kv_dequant_paged_desc& desc, const dgrt_kv_dequant_paged_args& args,
                              const DequantImages& images);

struct SwaIdsImages {
  std::vector<int32_t> seq_lens, extend_lens, request_rows, req_to_token;
  std::vector<int64_t> full_to_swa;
  std::vector<int32_t> token_ids, first, gather_lens, offsets;
};

Status check_build_swa_token_ids(const dgrt_build_swa_token_ids_desc& desc,
                                 const dgrt_build_swa_token_ids_args& args, const SwaIdsImages& images);

struct CombineImages {
  std::vector<int32_t> topk_indices, query_start_loc, seq_lens, gather_lens, compressed_base, swa_base;
  std::vector<int32_t> query_pos;  // empty where NULL, as topk_indices
  std::vector<int32_t> indices, lengths;
};

// What lies between rows holds -1, as whatever is poisoned.
Status check_combine_topk_swa_indices(const dgrt_combine_topk_swa_indices_desc& desc,
                                      const dgrt_combine_topk_swa_indices_args& args,
                                      const CombineImages& images);

}  // namespace dgrt::lab
