#include "tools/bench_shapes.h"

#include <algorithm>
#include <charconv>
#include <climits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "runtime/compile/sources.h"

namespace dgrt {
namespace {

using Json = nlohmann::json;

constexpr int64_t block_k = 128;  // columns under one scale

Result<int64_t> read_size(const Json& json, const char* field) {
  const int64_t value = json.at(field).get<int64_t>();
  if (value < 1 || value > INT32_MAX)
    return invalid("{}={}: must be from 1 to {}", field, value, INT32_MAX);
  return value;
}

// The types of any product.
template <class Desc>
Result<BenchDesc> read_product_desc(const Json& json, Desc desc) {
  const std::string ab = json.at("dtype_ab").get<std::string>();
  const std::string d = json.at("dtype_d").get<std::string>();
  if (ab != "e4m3" && ab != "bf16") return invalid("dtype_ab={}: must be e4m3 or bf16", ab);
  if (d != "bf16" && d != "fp32") return invalid("dtype_d={}: must be bf16 or fp32", d);
  desc.dtype_ab = ab == "e4m3" ? DGRT_E4M3 : DGRT_BF16;
  desc.dtype_d = d == "bf16" ? DGRT_BF16 : DGRT_FP32;
  desc.scale_mode = ab == "e4m3" ? DGRT_SCALE_BLOCK : DGRT_SCALE_NONE;
  if constexpr (requires { desc.alignment; }) {
    const std::string layout = json.at("group_layout").get<std::string>();
    if (layout != "rows" && layout != "ends")
      return invalid("group_layout={}: must be rows or ends", layout);
    desc.group_layout = layout == "ends" ? DGRT_GROUP_END_ROW : DGRT_GROUP_OF_ROW;
    desc.alignment = json.at("alignment").get<uint32_t>();
  }
  return BenchDesc(desc);
}

Result<dgrt_quant_fp8_desc> read_quant_fp8_desc(const Json& json) {
  dgrt_quant_fp8_desc desc = DGRT_QUANT_FP8_DESC;
  const std::string block = json.at("block").get<std::string>();
  const std::string major = json.at("scale_major").get<std::string>();
  if (block != "1x128" && block != "128x128")
    return invalid("block={}: must be 1x128 or 128x128", block);
  if (major != "k" && major != "mn") return invalid("scale_major={}: must be k or mn", major);
  desc.block = block == "1x128" ? DGRT_QUANT_1X128 : DGRT_QUANT_128X128;
  desc.scale_major = major == "k" ? DGRT_K_MAJOR : DGRT_MN_MAJOR;
  return desc;
}

// Source order and groups of a scale op.
template <class Desc>
Status read_scales(const Json& json, Desc* desc) {
  const std::string major = json.at("src_major").get<std::string>();
  if (major != "k" && major != "mn") return invalid("src_major={}: must be k or mn", major);
  desc->src_major = major == "k" ? DGRT_K_MAJOR : DGRT_MN_MAJOR;
  DGRT_ASSIGN(desc->num_groups, read_size(json, "num_groups"));
  return ok();
}

Result<dgrt_scale_pack_ue8m0_desc> read_scale_pack_desc(const Json& json) {
  dgrt_scale_pack_ue8m0_desc desc = DGRT_SCALE_PACK_UE8M0_DESC;
  DGRT_TRY(read_scales(json, &desc));
  const std::string round = json.at("round").get<std::string>();
  if (round != "up" && round != "exact") return invalid("round={}: must be up or exact", round);
  desc.flags = round == "up" ? DGRT_SCALE_CEIL : 0;
  return desc;
}

Result<dgrt_dtype> read_float_dtype(const Json& json, const char* field) {
  const std::string name = json.at(field).get<std::string>();
  if (name == "bf16") return dgrt_dtype{DGRT_BF16};
  if (name == "fp16") return dgrt_dtype{DGRT_FP16};
  if (name == "fp32") return dgrt_dtype{DGRT_FP32};
  return invalid("{}={}: must be bf16, fp16 or fp32", field, name);
}

Result<BenchDesc> read_desc(const std::string& op, const Json& json) {
  if (op == "gemm") return read_product_desc<dgrt_gemm_desc>(json.at("desc"), DGRT_GEMM_DESC);
  if (op == "gemm_grouped_contiguous")
    return read_product_desc<dgrt_gemm_grouped_contiguous_desc>(json.at("desc"),
                                                                DGRT_GEMM_GROUPED_CONTIGUOUS_DESC);
  if (op == "gemm_grouped_masked")
    return read_product_desc<dgrt_gemm_grouped_masked_desc>(json.at("desc"),
                                                            DGRT_GEMM_GROUPED_MASKED_DESC);
  if (op == "gemm_batched")
    return read_product_desc<dgrt_gemm_batched_desc>(json.at("desc"), DGRT_GEMM_BATCHED_DESC);
  if (op == "gemm_grouped_k") {
    dgrt_gemm_grouped_k_desc desc = DGRT_GEMM_GROUPED_K_DESC;
    const bool fp8 = json.at("desc").at("dtype_ab").get<std::string>() == "e4m3";
    desc.dtype_ab = fp8 ? DGRT_E4M3 : DGRT_BF16;
    desc.dtype_d = DGRT_FP32;
    desc.scale_mode = fp8 ? DGRT_SCALE_ROW : DGRT_SCALE_NONE;
    desc.flags = DGRT_GEMM_WITH_C;
    return BenchDesc(desc);
  }
  if (op == "gemm_fused_linear") {
    dgrt_gemm_fused_linear_desc desc = DGRT_GEMM_FUSED_LINEAR_DESC;
    const std::string d = json.at("desc").at("dtype_d").get<std::string>();
    if (d != "bf16" && d != "fp32") return invalid("dtype_d={}: must be bf16 or fp32", d);
    desc.dtype_ab = DGRT_BF16;
    desc.dtype_d = d == "bf16" ? DGRT_BF16 : DGRT_FP32;
    return BenchDesc(desc);
  }
  if (op == "quant_fp8") {
    DGRT_ASSIGN(const dgrt_quant_fp8_desc desc, read_quant_fp8_desc(json.at("desc")));
    return BenchDesc(desc);
  }
  if (op == "scale_layout") {
    dgrt_scale_layout_desc desc = DGRT_SCALE_LAYOUT_DESC;
    DGRT_TRY(read_scales(json.at("desc"), &desc));
    return BenchDesc(desc);
  }
  if (op == "scale_pack_ue8m0") {
    DGRT_ASSIGN(const dgrt_scale_pack_ue8m0_desc desc, read_scale_pack_desc(json.at("desc")));
    return BenchDesc(desc);
  }
  if (op == "hc_prenorm") return BenchDesc(dgrt_hc_prenorm_desc DGRT_HC_PRENORM_DESC);
  if (op == "hc_prenorm_weights")
    return BenchDesc(dgrt_hc_prenorm_weights_desc DGRT_HC_PRENORM_WEIGHTS_DESC);
  if (op == "attn_prefill" || op == "attn_decode" || op == "attn_extend" || op == "mla_decode") {
    const std::string dtype = json.at("desc").at("dtype").get<std::string>();
    if (dtype != "bf16" && dtype != "fp16") return invalid("dtype={}: must be bf16 or fp16", dtype);
    AttnBenchDesc prefill{DGRT_ATTN_PREFILL_DESC};
    DecodeBenchDesc decode{DGRT_ATTN_DECODE_DESC};
    ExtendBenchDesc extend{DGRT_ATTN_EXTEND_DESC};
    MlaBenchDesc mla{DGRT_MLA_DECODE_DESC};
    prefill.dtype = decode.dtype = extend.dtype = mla.dtype = dtype == "bf16" ? DGRT_BF16 : DGRT_FP16;
    if (op == "attn_prefill") return BenchDesc(prefill);
    if (op == "mla_decode") return BenchDesc(mla);
    return op == "attn_decode" ? BenchDesc(decode) : BenchDesc(extend);
  }
  if (op == "mla_sparse_prefill") {
    SparseMlaBenchDesc desc{DGRT_MLA_SPARSE_PREFILL_DESC};
    DGRT_ASSIGN(desc.dtype, read_float_dtype(json.at("desc"), "dtype"));
    return BenchDesc(desc);
  }
  if (op == "attn_merge") {
    dgrt_attn_merge_desc desc = DGRT_ATTN_MERGE_DESC;
    DGRT_ASSIGN(desc.dtype_part, read_float_dtype(json.at("desc"), "dtype_part"));
    DGRT_ASSIGN(desc.dtype_o, read_float_dtype(json.at("desc"), "dtype_o"));
    return BenchDesc(desc);
  }
  if (op == "kv_append") {
    dgrt_kv_append_desc desc = DGRT_KV_APPEND_DESC;
    DGRT_ASSIGN(desc.dtype, read_float_dtype(json.at("desc"), "dtype"));
    return BenchDesc(desc);
  }
  if (op == "mla_kv_append") return BenchDesc(dgrt_mla_kv_append_desc DGRT_MLA_KV_APPEND_DESC);
  if (op == "kv_dequant_paged") return BenchDesc(dgrt_kv_dequant_paged_desc DGRT_KV_DEQUANT_PAGED_DESC);
  if (op == "build_swa_token_ids")
    return BenchDesc(dgrt_build_swa_token_ids_desc DGRT_BUILD_SWA_TOKEN_IDS_DESC);
  if (op == "combine_topk_swa_indices") {
    CombineBenchDesc desc{DGRT_COMBINE_TOPK_SWA_INDICES_DESC};
    DGRT_ASSIGN(desc.ratio, read_size(json.at("desc"), "ratio"));
    return BenchDesc(desc);
  }
  if (op == "mla_sparse_decode") return BenchDesc(SparseDecodeBenchDesc{DGRT_MLA_SPARSE_DECODE_DESC});
  if (op == "topk_transform") return BenchDesc(dgrt_topk_transform_desc DGRT_TOPK_TRANSFORM_DESC);
  if (op == "mqa_logits" || op == "paged_mqa_logits") {
    LogitsBenchDesc logits{DGRT_MQA_LOGITS_DESC};
    PagedLogitsBenchDesc paged = DGRT_PAGED_MQA_LOGITS_DESC;
    DGRT_ASSIGN(logits.dtype_out, read_float_dtype(json.at("desc"), "dtype_out"));
    paged.dtype_out = logits.dtype_out;
    return op == "mqa_logits" ? BenchDesc(logits) : BenchDesc(paged);
  }
  return error(DGRT_UNSUPPORTED, "op={}: bench does not run this op", op);
}

// "bytes" or "bits", and whether the prefix is read too.
Result<uint32_t> read_mask(const Json& layer) {
  if (!layer.contains("mask")) return 0;
  const std::string form = layer.at("mask").get<std::string>();
  if (form != "bytes" && form != "bits") return invalid("mask={}: must be bytes or bits", form);
  return uint32_t{form == "bytes" ? DGRT_ATTN_MASK_BYTES : DGRT_ATTN_MASK_BITS} |
         (layer.value("mask_prefix", false) ? 0 : DGRT_ATTN_MASK_SKIP_PREFIX);
}

// `head_dim` is of both where head_dim_v is not given.
Status read_attn_sizes(const Json& layer, bool paged, BenchShape* shape) {
  AttnSizes& sizes = shape->attn;
  DGRT_ASSIGN(sizes.num_q_heads, read_size(layer, "num_q_heads"));
  DGRT_ASSIGN(sizes.num_kv_heads, read_size(layer, "num_kv_heads"));
  DGRT_ASSIGN(sizes.head_dim_qk, read_size(layer, "head_dim"));
  sizes.head_dim_v = sizes.head_dim_qk;
  if (layer.contains("head_dim_v")) {
    DGRT_ASSIGN(sizes.head_dim_v, read_size(layer, "head_dim_v"));
  }
  if (layer.contains("batch") == layer.contains("tokens"))
    return invalid("batch, tokens: one of them, not both");
  if (paged && layer.contains("tokens")) return invalid("tokens: ops over a paged cache have a batch");
  if (paged) {
    DGRT_ASSIGN(sizes.page_size, read_size(layer, "page_size"));
  }
  if (layer.contains("batch")) {
    DGRT_ASSIGN(sizes.batch, read_size(layer, "batch"));
  } else {
    DGRT_ASSIGN(sizes.tokens, read_size(layer, "tokens"));
  }
  sizes.prefix = layer.value("prefix", int64_t{0});
  sizes.window_left = layer.value("window_left", int64_t{-1});
  sizes.full = layer.value("full", false);
  DGRT_ASSIGN(sizes.mask, read_mask(layer));
  if (sizes.mask != 0 && !paged) return invalid("mask: ops over a paged cache have one");
  sizes.new_keys = layer.value("new_keys", false);
  shape->fp8_cache = layer.value("dtype_kv", "") == "e4m3";
  shape->num_groups = sizes.batch;
  shape->n = sizes.num_q_heads;
  shape->k = sizes.head_dim_qk;
  return ok();
}

Status read_indexer_sizes(const Json& layer, bool paged, BenchShape* shape) {
  DGRT_ASSIGN(shape->n, read_size(layer, "num_heads"));
  DGRT_ASSIGN(shape->k, read_size(layer, "head_dim"));
  DGRT_ASSIGN(shape->indexer.keys, read_size(layer, "keys"));
  shape->num_groups = shape->indexer.keys;
  shape->indexer.split = layer.value("split", false), shape->indexer.clean = layer.value("clean", false);
  if (!paged) return ok();
  DGRT_ASSIGN(shape->indexer.next_n, read_size(layer, "next_n"));
  DGRT_ASSIGN(shape->indexer.page_size, read_size(layer, "page_size"));
  return ok();
}

Status read_sparse_sizes(const Json& layer, BenchShape* shape) {
  SparseSizes& sizes = shape->sparse;
  DGRT_ASSIGN(shape->n, read_size(layer, "num_q_heads"));
  DGRT_ASSIGN(shape->k, read_size(layer, "k"));
  DGRT_ASSIGN(sizes.batch, read_size(layer, "batch"));
  DGRT_ASSIGN(sizes.kv_len, read_size(layer, "kv_len"));
  DGRT_ASSIGN(sizes.top_k, read_size(layer, "top_k"));
  DGRT_ASSIGN(sizes.page_size, read_size(layer, "page_size"));
  shape->num_groups = sizes.batch;
  if (!layer.contains("extra_top_k")) return ok();
  DGRT_ASSIGN(sizes.extra_top_k, read_size(layer, "extra_top_k"));
  DGRT_ASSIGN(sizes.extra_page_size, read_size(layer, "extra_page_size"));
  return ok();
}

Status read_sizes(const Json& layer, const BenchDesc& desc, BenchShape* shape) {
  if (std::holds_alternative<dgrt_scale_layout_desc>(desc) ||
      std::holds_alternative<dgrt_scale_pack_ue8m0_desc>(desc)) {
    DGRT_ASSIGN(const int64_t k_blocks, read_size(layer, "k_blocks"));
    shape->k = block_k * k_blocks;
    return ok();
  }
  const bool paged = std::holds_alternative<DecodeBenchDesc>(desc) ||
                     std::holds_alternative<ExtendBenchDesc>(desc) ||
                     std::holds_alternative<MlaBenchDesc>(desc);
  if (paged || std::holds_alternative<AttnBenchDesc>(desc))
    return read_attn_sizes(layer, paged, shape);
  const bool paged_logits = std::holds_alternative<PagedLogitsBenchDesc>(desc);
  if (paged_logits || std::holds_alternative<LogitsBenchDesc>(desc))
    return read_indexer_sizes(layer, paged_logits, shape);
  if (std::holds_alternative<SparseDecodeBenchDesc>(desc)) return read_sparse_sizes(layer, shape);
  if (std::holds_alternative<SparseMlaBenchDesc>(desc)) {
    DGRT_ASSIGN(shape->n, read_size(layer, "num_heads"));
    DGRT_ASSIGN(shape->k, read_size(layer, "head_dim"));
    DGRT_ASSIGN(shape->num_groups, read_size(layer, "top_k"));
    DGRT_ASSIGN(shape->indexer.keys, read_size(layer, "keys"));
    return ok();
  }
  if (std::holds_alternative<dgrt_attn_merge_desc>(desc)) {
    DGRT_ASSIGN(shape->num_groups, read_size(layer, "num_parts"));
  }
  if (std::holds_alternative<dgrt_kv_append_desc>(desc))
    shape->fp8_cache = layer.value("dtype_cache", "") == "e4m3";
  if (std::holds_alternative<dgrt_gemm_grouped_k_desc>(desc)) {
    DGRT_ASSIGN(shape->num_groups, read_size(layer, "num_groups"));
    DGRT_ASSIGN(shape->rows, read_size(layer, "m"));
    DGRT_ASSIGN(shape->n, read_size(layer, "n"));
    return ok();
  }
  if (std::holds_alternative<dgrt_gemm_fused_linear_desc>(desc)) {
    shape->widths = layer.at("n").get<std::vector<int64_t>>();
    if (shape->widths.empty() || shape->widths.size() > DGRT_MAX_SEGMENTS)
      return invalid("n={} widths: must be 1 to {}", shape->widths.size(), DGRT_MAX_SEGMENTS);
    shape->n = std::accumulate(shape->widths.begin(), shape->widths.end(), int64_t{0});
    DGRT_ASSIGN(shape->k, read_size(layer, "k"));
    return ok();
  }
  const bool has_n = !std::holds_alternative<dgrt_quant_fp8_desc>(desc) &&
                     !std::holds_alternative<dgrt_mla_kv_append_desc>(desc);
  if (has_n && (layer.contains("n") || !std::holds_alternative<dgrt_kv_dequant_paged_desc>(desc))) {
    DGRT_ASSIGN(shape->n, read_size(layer, "n"));
  }
  const bool is_grouped = std::visit(
      [](const auto& d) {
        return requires { d.num_groups; }
        || requires { d.num_batches; };
      },
      desc);
  if (is_grouped) {
    DGRT_ASSIGN(shape->num_groups, read_size(layer, "num_groups"));
    shape->b_mn = layer.value("b_major", "k") == "mn";
    shape->sum_batches = layer.value("sum_batches", false);
  }
  DGRT_ASSIGN(shape->k, read_size(layer, "k"));
  return ok();
}

Result<std::vector<int64_t>> read_rows(const Json& json) {
  std::vector<int64_t> rows;
  for (const Json& m : json) {
    rows.push_back(m.get<int64_t>());
    if (rows.back() < 1 || rows.back() > INT32_MAX)
      return invalid("m={}: must be from 1 to {}", rows.back(), INT32_MAX);
  }
  return rows;
}

// varies: the name of what calls of a layer differ in.
Status read_model(const Json& json, const char* varies, BenchShapes* result) {
  const std::string model = json.at("model").get<std::string>();
  std::vector<BenchShape>& shapes = result->shapes;
  for (const Json& layer : json.at("layers")) {
    BenchShape shape{model, layer.at("name").get<std::string>()};
    DGRT_TRY(read_sizes(layer, result->desc, &shape));
    if (layer.contains(varies)) {
      DGRT_ASSIGN(shape.m, read_rows(layer.at(varies)));
    }
    const bool known = std::any_of(shapes.begin(), shapes.end(), [&](const BenchShape& other) {
      return other.n == shape.n && other.k == shape.k && other.num_groups == shape.num_groups &&
             other.b_mn == shape.b_mn && other.rows == shape.rows && other.widths == shape.widths &&
             other.sum_batches == shape.sum_batches && other.fp8_cache == shape.fp8_cache &&
             other.attn == shape.attn && other.indexer == shape.indexer && other.sparse == shape.sparse &&
             other.m == shape.m;
    });
    if (!known) shapes.push_back(std::move(shape));
  }
  return ok();
}

// May throw json exceptions on missing fields and wrong types.
Result<BenchShapes> read_shapes(const Json& json) {
  BenchShapes result;
  DGRT_ASSIGN(result.desc, read_desc(json.at("op").get<std::string>(), json));
  result.stem = json.at("stem").get<std::string>();
  const bool k_varies = std::holds_alternative<dgrt_gemm_grouped_k_desc>(result.desc);
  const char* varies = k_varies ? "k" : "m";
  DGRT_ASSIGN(result.m, read_rows(json.at(varies)));
  for (const Json& model : json.at("models")) DGRT_TRY(read_model(model, varies, &result));
  if (result.m.empty() || result.shapes.empty()) return invalid("no m or no layers");
  return result;
}

int64_t align(int64_t rows, int64_t to) { return (rows + to - 1) / to * to; }

// `m`: the largest of the shapes.
template <class Desc>
void set_sizes(const BenchShape& shape, int64_t m, Desc* desc) {
  desc->n = shape.n, desc->k = shape.k;
  if constexpr (requires { desc->max_m; }) desc->max_m = m;
}
// Groups hold up to 1.3 m rows.
void set_sizes(const BenchShape& shape, int64_t m, dgrt_gemm_grouped_contiguous_desc* desc) {
  desc->n = shape.n, desc->k = shape.k;
  desc->num_groups = static_cast<uint32_t>(shape.num_groups);
  desc->max_m = shape.num_groups * align(m * 13 / 10, desc->alignment);
}
void set_sizes(const BenchShape& shape, int64_t m, dgrt_gemm_grouped_masked_desc* desc) {
  desc->n = shape.n, desc->k = shape.k;
  desc->num_groups = static_cast<uint32_t>(shape.num_groups);
  desc->max_m = align(m * 13 / 10, 128);
}
void set_sizes(const BenchShape& shape, int64_t m, dgrt_gemm_batched_desc* desc) {
  desc->n = shape.n, desc->k = shape.k, desc->max_m = m;
  desc->num_batches = static_cast<uint32_t>(shape.num_groups);
  desc->b_major = shape.b_mn ? DGRT_MN_MAJOR : DGRT_K_MAJOR;
  if (shape.sum_batches) desc->flags |= DGRT_GEMM_SUM_BATCHES;
}
void set_sizes(const BenchShape& shape, int64_t m, dgrt_quant_fp8_desc* desc) {
  desc->k = shape.k, desc->max_m = m;
}
void set_sizes(const BenchShape& shape, int64_t m, dgrt_scale_layout_desc* desc) {
  desc->k_blocks = shape.k / block_k, desc->max_m = m;
}
void set_sizes(const BenchShape& shape, int64_t m, dgrt_scale_pack_ue8m0_desc* desc) {
  desc->k_blocks = shape.k / block_k, desc->max_m = m;
}

// Groups may have up to 1.3 of their share of k, 128 at the least.
void set_sizes(const BenchShape& shape, int64_t k, dgrt_gemm_grouped_k_desc* desc) {
  desc->m = shape.rows, desc->n = shape.n;
  desc->num_groups = static_cast<uint32_t>(shape.num_groups);
  desc->max_k = align(std::max(k * 13 / 10, shape.num_groups * block_k), block_k);
}
void set_sizes(const BenchShape& shape, int64_t m, dgrt_gemm_fused_linear_desc* desc) {
  desc->k = shape.k, desc->max_m = m;
  desc->num_segments = static_cast<uint32_t>(shape.widths.size());
  std::copy(shape.widths.begin(), shape.widths.end(), desc->n);
}
void set_sizes(const BenchShape& shape, int64_t m, AttnBenchDesc* desc) {
  const AttnSizes& sizes = shape.attn;
  desc->num_q_heads = sizes.num_q_heads, desc->num_kv_heads = sizes.num_kv_heads;
  desc->head_dim_qk = sizes.head_dim_qk, desc->head_dim_v = sizes.head_dim_v;
  desc->tokens = sizes.tokens, desc->prefix = sizes.prefix;
  if (shape.fp8_cache) desc->dtype_kv = DGRT_E4M3;
  desc->window_left = sizes.window_left, desc->window_right = sizes.full ? -1 : 0;
  desc->max_batch = std::max(sizes.batch, sizes.tokens);
  desc->max_q_len = m, desc->max_kv_len = m + sizes.prefix;
}
template <class Desc>
void set_sizes(const BenchShape& shape, int64_t m, PagedBenchDesc<Desc>* desc) {
  const AttnSizes& sizes = shape.attn;
  desc->num_q_heads = sizes.num_q_heads, desc->num_kv_heads = sizes.num_kv_heads;
  desc->head_dim_qk = sizes.head_dim_qk, desc->head_dim_v = sizes.head_dim_v;
  desc->prefix = sizes.prefix, desc->page_size = sizes.page_size;
  if (sizes.new_keys) desc->flags |= DGRT_ATTN_NEW_KEYS;
  if constexpr (requires { desc->dtype_kv; })
    if (shape.fp8_cache) desc->dtype_kv = DGRT_E4M3;
  if constexpr (requires { desc->dtype_q; }) desc->dtype_q = desc->dtype_kv;
  desc->window_left = sizes.window_left, desc->window_right = sizes.full ? -1 : 0;
  desc->max_batch = sizes.batch;
  desc->flags |= sizes.mask;
  desc->max_q_len = m, desc->max_kv_len = m + sizes.prefix;
}
void set_sizes(const BenchShape& shape, int64_t m, dgrt_attn_merge_desc* desc) {
  desc->num_heads = shape.n, desc->head_dim = shape.k;
  desc->max_parts = shape.num_groups, desc->max_tokens = m;
}
void set_sizes(const BenchShape& shape, int64_t m, dgrt_kv_append_desc* desc) {
  desc->num_kv_heads = shape.n, desc->head_dim_qk = desc->head_dim_v = shape.k;
  desc->dtype_cache = shape.fp8_cache ? dgrt_dtype{DGRT_E4M3} : desc->dtype;
  desc->max_tokens = m;
}
// k: columns of a row of the cache, which tell the formats apart.
dgrt_mla_kv_format format_of(const BenchShape& shape) {
  return shape.k == 576 ? DGRT_MLA_KV_V32 : DGRT_MLA_KV_V4;
}
void set_sizes(const BenchShape& shape, int64_t m, dgrt_mla_kv_append_desc* desc) {
  desc->format = format_of(shape), desc->max_tokens = m;
}
// n: sequences; 0: by slot.
void set_sizes(const BenchShape& shape, int64_t m, dgrt_kv_dequant_paged_desc* desc) {
  desc->format = format_of(shape), desc->max_rows = m, desc->max_batch = shape.n;
}
// n: requests; k: the window.
void set_sizes(const BenchShape& shape, int64_t m, dgrt_build_swa_token_ids_desc* desc) {
  desc->window = shape.k, desc->max_batch = shape.n;
  desc->max_capacity = m + shape.n * (shape.k - 1);
}
// n: the window.
void set_sizes(const BenchShape& shape, int64_t m, CombineBenchDesc* desc) {
  desc->window = shape.n, desc->top_k = shape.k, desc->max_tokens = m;
}
void set_sizes(const BenchShape& shape, int64_t m, SparseDecodeBenchDesc* desc) {
  const SparseSizes& sizes = shape.sparse;
  desc->num_q_heads = shape.n, desc->format = format_of(shape);
  desc->max_tokens = sizes.batch * m, desc->max_keys = sizes.top_k + sizes.extra_top_k;
  desc->batch = sizes.batch, desc->kv_len = sizes.kv_len, desc->extra_top_k = sizes.extra_top_k;
  desc->page_size = sizes.page_size, desc->extra_page_size = sizes.extra_page_size;
}
void set_sizes(const BenchShape& shape, int64_t m, SparseMlaBenchDesc* desc) {
  desc->num_heads = shape.n, desc->head_dim_qk = shape.k;
  desc->max_tokens = m, desc->max_top_k = shape.num_groups, desc->kv_rows = shape.indexer.keys;
}
void set_sizes(const BenchShape& shape, int64_t m, dgrt_topk_transform_desc* desc) {
  desc->max_columns = shape.n, desc->top_k = shape.k, desc->max_rows = m;
}
void set_sizes(const BenchShape& shape, int64_t m, LogitsBenchDesc* desc) {
  desc->num_heads = shape.n, desc->head_dim = shape.k;
  desc->max_tokens = m, desc->max_kv_tokens = shape.indexer.keys;
  desc->split = shape.indexer.split;
  if (shape.indexer.clean) desc->flags |= DGRT_LOGITS_CLEAN;
}
// Contexts are up to 1.3 as long.
void set_sizes(const BenchShape& shape, int64_t m, PagedLogitsBenchDesc* desc) {
  desc->num_heads = shape.n, desc->head_dim = shape.k;
  desc->next_n = shape.indexer.next_n, desc->page_size = shape.indexer.page_size;
  desc->max_batch = m, desc->max_context_len = shape.indexer.keys * 13 / 10;
  if (shape.indexer.clean) desc->flags |= DGRT_LOGITS_CLEAN;
}

}  // namespace

Result<BenchShapes> parse_bench_shapes(std::string_view json) {
  try {
    return read_shapes(Json::parse(json));
  } catch (const Json::exception& e) {
    return invalid("bench shapes: {}", e.what());
  }
}

Result<BenchShapes> builtin_bench_shapes(std::string_view stem) {
  const std::string path = fmt::format("bench/shapes/{}.json", stem);
  for (const EmbeddedFile& file : embedded_files())
    if (file.path == path) return parse_bench_shapes(file.text);
  return error(DGRT_UNSUPPORTED, "op={}: no bench/shapes/{}.json", stem, stem);
}

Result<BenchShape> parse_nk(const BenchShapes& shapes, std::string_view nk, int64_t num_groups) {
  const BenchShape& form = shapes.shapes.front();
  if (form.n == 0 || form.rows != 0 || !form.widths.empty() || form.attn.num_q_heads != 0 ||
      form.indexer.keys != 0 || form.sparse.batch != 0)
    return invalid("nk={}: sizes of {} come from its shapes or a file", nk, shapes.stem);
  if ((form.num_groups != 0) != (num_groups != 0))
    return invalid("num_groups={}: {} has {}", num_groups, shapes.stem,
                   form.num_groups != 0 ? "groups" : "none");
  BenchShape shape{.model = "command line", .layer = std::string(nk), .num_groups = num_groups};
  const char* const end = nk.data() + nk.size();
  const auto [cross, bad_n] = std::from_chars(nk.data(), end, shape.n);
  const bool has_cross = bad_n == std::errc() && cross != end && *cross == 'x';
  const auto [last, bad_k] = std::from_chars(has_cross ? cross + 1 : end, end, shape.k);
  if (!has_cross || bad_k != std::errc() || last != end || shape.n < 1 || shape.k < 1 ||
      shape.n > INT32_MAX || shape.k > INT32_MAX)
    return invalid("nk={}: must look like 7168x2048", nk);
  return shape;
}

BenchDesc complete_desc(const BenchShapes& shapes, const BenchShape& shape) {
  BenchDesc result = shapes.desc;
  const std::vector<int64_t>& rows = shapes.rows_of(shape);
  const int64_t m = *std::max_element(rows.begin(), rows.end());
  std::visit([&](auto& desc) { set_sizes(shape, m, &desc); }, result);
  return result;
}

}  // namespace dgrt
