// The shapes that `dgrt bench` runs, read from bench/shapes/<stem>.json: which layers of which
// models, with how many rows. The files travel inside the program; --shapes takes another one.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "dgrt/attention.h"
#include "dgrt/gemm.h"
#include "dgrt/hyper.h"
#include "dgrt/indexer.h"
#include "dgrt/mla.h"
#include "runtime/base/status.h"

namespace dgrt {

// An attention shape's desc, and what is not the desc's to say. Its max_batch is the number of sequences,
// or, with `tokens`, the most.
struct AttnBenchDesc : dgrt_attn_prefill_desc {
  int64_t tokens = 0;  // of all sequences together; 0: the number of sequences is fixed
  int64_t prefix = 0;  // keys of each before its queries
  int64_t window_left = -1, window_right = 0;

  int64_t batch(int64_t m) const {
    return tokens == 0 ? max_batch : std::max<int64_t>(tokens / m, 1);
  }
};

// The same of the ops over a paged cache, whose sequences are max_batch.
template <class Desc>
struct PagedBenchDesc : Desc {
  int64_t prefix = 0, page_size = 0;
  int64_t window_left = -1, window_right = 0;
};
using DecodeBenchDesc = PagedBenchDesc<dgrt_attn_decode_desc>;
using ExtendBenchDesc = PagedBenchDesc<dgrt_attn_extend_desc>;
using MlaBenchDesc = PagedBenchDesc<dgrt_mla_decode_desc>;

struct SparseMlaBenchDesc : dgrt_mla_sparse_prefill_desc {
  int64_t kv_rows = 0;
};

// Its max_keys are the entries of both lists together, max_tokens those of a call of batch requests with m tokens each.
struct SparseDecodeBenchDesc : dgrt_mla_sparse_decode_desc {
  int64_t batch = 0, kv_len = 0, extra_top_k = 0, page_size = 0, extra_page_size = 0;
};

struct CombineBenchDesc : dgrt_combine_topk_swa_indices_desc {
  int64_t top_k = 0;
};
// See IndexerSizes.
struct LogitsBenchDesc : dgrt_mqa_logits_desc {
  bool split = false;
};
using PagedLogitsBenchDesc = dgrt_paged_mqa_logits_desc;

// Complete but for what a BenchShape adds.
using BenchDesc =
    std::variant<dgrt_gemm_desc, dgrt_gemm_grouped_contiguous_desc, dgrt_gemm_grouped_masked_desc,
                 dgrt_gemm_batched_desc, dgrt_quant_fp8_desc, dgrt_scale_layout_desc,
                 dgrt_scale_pack_ue8m0_desc, dgrt_hc_prenorm_desc, dgrt_hc_prenorm_weights_desc,
                 dgrt_gemm_grouped_k_desc, dgrt_gemm_fused_linear_desc, AttnBenchDesc,
                 DecodeBenchDesc, ExtendBenchDesc, dgrt_attn_merge_desc, dgrt_kv_append_desc, MlaBenchDesc,
                 SparseMlaBenchDesc,
                 dgrt_topk_transform_desc, dgrt_mla_kv_append_desc, dgrt_kv_dequant_paged_desc,
                 dgrt_build_swa_token_ids_desc, CombineBenchDesc, LogitsBenchDesc, PagedLogitsBenchDesc,
                 SparseDecodeBenchDesc>;

// Sequences of an attention shape; no heads: another op.
struct AttnSizes {
  int64_t num_q_heads = 0, num_kv_heads = 0, head_dim_qk = 0, head_dim_v = 0;
  int64_t batch = 0, tokens = 0;  // one of them, see AttnBenchDesc
  int64_t prefix = 0, window_left = -1;
  int64_t page_size = 0;  // 0: keys are contiguous
  bool full = false;      // not causal
  uint32_t mask = 0;      // flags of a mask: a tree of draft tokens
  bool new_keys = false;  // attn_extend: the queries' own keys are not in the cache
  friend bool operator==(const AttnSizes&, const AttnSizes&) = default;
};

// Of mla_sparse_decode, whose n is query heads, k columns of a row; no batch: another op.
struct SparseSizes {
  int64_t batch = 0, kv_len = 0;  // kv_len: slots that a request's lists are taken from
  int64_t top_k = 0, extra_top_k = 0;
  int64_t page_size = 0, extra_page_size = 0;
  friend bool operator==(const SparseSizes&, const SparseSizes&) = default;
};

// Of the indexer's ops, and of those that attend to what it chose; no keys: another op.
struct IndexerSizes {
  int64_t keys = 0;                   // of all tokens; of each request, about
  int64_t next_n = 0, page_size = 0;  // paged
  bool split = false;  // tokens of one rank of those that split a prompt; else the last of the keys'
  bool clean = false;
  friend bool operator==(const IndexerSizes&, const IndexerSizes&) = default;
};

struct BenchShape {
  std::string model;       // of the first layer with these sizes: "DeepSeek-V3"
  std::string layer;       // "self_attn.o_proj"
  int64_t n = 0;           // of ops that have one, else 0
  int64_t k = 0;           // scale ops: of the matrix whose scales these are, 128 * k_blocks
  int64_t num_groups = 0;  // grouped products: groups or batches; attn_merge: parts; indexer: keys;
                           // mla_sparse_prefill: top_k; else 0
  bool b_mn = false;       // gemm_batched: b is MN-major
  int64_t rows = 0;        // gemm_grouped_k: m, for there k varies; else 0
  std::vector<int64_t> widths = {};  // gemm_fused_linear: what n is made of
  bool sum_batches = false;          // gemm_batched
  bool fp8_cache = false;            // attention: of k and v; kv_append, whose n is heads, k head_dim
  AttnSizes attn = {};               // attention, whose n is query heads, k head_dim_qk
  IndexerSizes indexer = {};         // indexer, whose n is heads, k head_dim
  SparseSizes sparse = {};           // mla_sparse_decode
  std::vector<int64_t> m = {};       // where a shape has rows of its own
};

struct BenchShapes {
  std::string stem;  // "gemm_fp8"
  BenchDesc desc;    // types and layouts; sizes are 0
  // Rows; of grouped products, of each group, about; of gemm_grouped_k: k of all groups together; of
  // attention, queries of each sequence; of paged_mqa_logits, requests.
  std::vector<int64_t> m;
  std::vector<BenchShape> shapes;  // distinct in their sizes, in the file's order

  const std::vector<int64_t>& rows_of(const BenchShape& shape) const {
    return shape.m.empty() ? m : shape.m;
  }
};

// INVALID_ARGUMENT names the field. UNSUPPORTED: shapes of an op that bench does not run.
Result<BenchShapes> parse_bench_shapes(std::string_view json);

// The file that is embedded for a stem.
Result<BenchShapes> builtin_bench_shapes(std::string_view stem);

// "7168x2048" as a shape of the op: n and k; with `num_groups` groups or batches, 0 for ops without any.
// INVALID_ARGUMENT: not of that form, or the op's sizes are others.
Result<BenchShape> parse_nk(const BenchShapes& shapes, std::string_view nk, int64_t num_groups);

// For one of the shapes and every m.
BenchDesc complete_desc(const BenchShapes& shapes, const BenchShape& shape);

}  // namespace dgrt
