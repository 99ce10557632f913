// The shape files of `dgrt bench`: the ones built in are complete and legal, a bad one is refused
// by name.
#include "tools/bench_shapes.h"

#include <set>
#include <string>

#include "runtime/engine/desc_copy.h"
#include "tests/support/catch.h"

namespace dgrt {
namespace {

std::string file(const std::string& desc, const std::string& m, const std::string& layers) {
  return R"({"op": "gemm", "stem": "gemm_fp8", "schema": 1, "desc": )" + desc + R"(, "m": )" + m +
         R"(, "models": [{"model": "M", "layers": )" + layers + "}]}";
}

const std::string good_desc = R"({"dtype_ab": "e4m3", "dtype_d": "bf16", "scale_mode": "block"})";
const std::string good_layers = R"([{"name": "x", "n": 64, "k": 128}])";

TEST_CASE("bench_shapes: built-in shapes are distinct and legal for the stem they name", "[unit]") {
  for (const OpImpl* op : all_ops()) {
    const std::string stem = op->stem;
    INFO(stem);
    const Result<BenchShapes> shapes = builtin_bench_shapes(stem);
    REQUIRE(shapes.is_ok());
    CHECK(shapes.value().stem == stem);
    CHECK(shapes.value().m.size() >= (stem == "hc_prenorm_weights" ? 1u : 5u));
    std::set<std::string> seen;
    for (const BenchShape& shape : shapes.value().shapes) {
      const AttnSizes& attn = shape.attn;
      const IndexerSizes& indexer = shape.indexer;
      const SparseSizes& sparse = shape.sparse;
      CHECK(seen.insert(fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {}", shape.n,
                                    shape.k, shape.num_groups, shape.b_mn, shape.rows, attn.head_dim_v,
                                    attn.tokens, attn.prefix, attn.window_left, attn.page_size,
                                    attn.full, attn.mask, attn.new_keys, shape.sum_batches, shape.fp8_cache,
                                    indexer.keys, indexer.next_n, indexer.page_size, indexer.split, indexer.clean,
                                    sparse.top_k, sparse.extra_top_k, sparse.page_size, sparse.extra_page_size,
                                    fmt::join(shape.m, ",")))
                .second);
      const BenchDesc desc = complete_desc(shapes.value(), shape);
      const Result<DescCopy> copy =
          std::visit([](const auto& any) { return DescCopy::make(&any.op, all_ops()); }, desc);
      INFO(copy.status().message());
      REQUIRE(copy.is_ok());
      CHECK(copy.value().op().stem == stem);
    }
    // DeepSeek's cache is another op's.
    const bool paged = stem == "attn_decode" || stem == "attn_extend";
    const char* first = paged ? "Gemma-4" : "DeepSeek-V";
    CHECK(shapes.value().shapes.front().model.find(first) == 0);
  }
}

TEST_CASE("bench_shapes: built-in shapes of hyper-connections are legal", "[unit]") {
  for (const char* stem : {"hc_prenorm", "hc_prenorm_weights"}) {
    INFO(stem);
    const Result<BenchShapes> shapes = builtin_bench_shapes(stem);
    INFO(shapes.status().message());
    REQUIRE(shapes.is_ok());
    for (const BenchShape& shape : shapes.value().shapes) {
      CHECK(shape.n > 0);
      const BenchDesc desc = complete_desc(shapes.value(), shape);
      const Result<DescCopy> copy =
          std::visit([](const auto& any) { return DescCopy::make(&any.op, all_ops()); }, desc);
      INFO(copy.status().message());
      REQUIRE(copy.is_ok());
      CHECK(std::string(copy.value().op().stem) == stem);
    }
  }
}

TEST_CASE("bench_shapes: a repeated n and k counts once, with its first name", "[unit]") {
  const std::string layers =
      R"([{"name": "first", "n": 64, "k": 128}, {"name": "second", "n": 64, "k": 128}])";
  const Result<BenchShapes> shapes = parse_bench_shapes(file(good_desc, "[1, 2]", layers));
  REQUIRE(shapes.is_ok());
  REQUIRE(shapes.value().shapes.size() == 1);
  CHECK(shapes.value().shapes[0].layer == "first");
  CHECK(shapes.value().m == std::vector<int64_t>{1, 2});
  CHECK(std::get<dgrt_gemm_desc>(shapes.value().desc).scale_mode == DGRT_SCALE_BLOCK);
}

TEST_CASE("bench_shapes: sizes and layouts reach the desc of each op", "[unit]") {
  const auto parse = [](const std::string& head, const std::string& layer) {
    const Result<BenchShapes> shapes = parse_bench_shapes(
        "{" + head + R"(, "stem": "s", "m": [5, 9, 2], "models": [{"model": "M", "layers": [)" +
        layer + "]}]}");
    INFO(shapes.status().message());
    REQUIRE(shapes.is_ok());
    return complete_desc(shapes.value(), shapes.value().shapes.front());
  };
  const auto gemm = std::get<dgrt_gemm_desc>(
      parse(R"("op": "gemm", "desc": )" + good_desc, R"({"name": "x", "n": 64, "k": 128})"));
  CHECK(gemm.n == 64);
  CHECK(gemm.k == 128);
  CHECK(gemm.max_m == 9);
  const std::string grouped_layer = R"({"name": "x", "num_groups": 3, "n": 64, "k": 128})";
  const auto contiguous = std::get<dgrt_gemm_grouped_contiguous_desc>(
      parse(R"("op": "gemm_grouped_contiguous", "desc": {"dtype_ab": "bf16", "dtype_d": "fp32",
               "group_layout": "ends", "alignment": 64})",
            grouped_layer));
  CHECK(contiguous.num_groups == 3);
  CHECK(contiguous.alignment == 64);
  CHECK(contiguous.group_layout == DGRT_GROUP_END_ROW);
  CHECK(contiguous.max_m == 3 * 64);
  const auto masked = std::get<dgrt_gemm_grouped_masked_desc>(
      parse(R"("op": "gemm_grouped_masked", "desc": )" + good_desc, grouped_layer));
  CHECK(masked.num_groups == 3);
  CHECK(masked.max_m == 128);
  const auto batched = std::get<dgrt_gemm_batched_desc>(
      parse(R"("op": "gemm_batched", "desc": {"dtype_ab": "bf16", "dtype_d": "bf16"})",
            R"({"name": "x", "num_groups": 3, "n": 64, "k": 128, "b_major": "mn"})"));
  CHECK(batched.num_batches == 3);
  CHECK(batched.max_m == 9);
  CHECK(batched.b_major == DGRT_MN_MAJOR);
  const auto gradient = std::get<dgrt_gemm_grouped_k_desc>(
      parse(R"("op": "gemm_grouped_k", "k": [256, 640], "desc": {"dtype_ab": "bf16", "dtype_d": "fp32"})",
            R"({"name": "x", "num_groups": 3, "m": 4096, "n": 64})"));  // m: of the desc, no size of calls
  CHECK(gradient.m == 4096);
  CHECK(gradient.max_k == 896);  // 1.3 times the largest, in blocks
  const auto merge = std::get<dgrt_attn_merge_desc>(
      parse(R"("op": "attn_merge", "desc": {"dtype_part": "fp32", "dtype_o": "bf16"})",
            R"({"name": "x", "num_parts": 3, "n": 16, "k": 128})"));
  CHECK(merge.num_heads == 16);
  CHECK(merge.head_dim == 128);
  CHECK(merge.max_parts == 3);
  CHECK(merge.max_tokens == 9);
  CHECK(merge.dtype_part == DGRT_FP32);
  CHECK(merge.dtype_o == DGRT_BF16);
  const std::string append = R"("op": "kv_append", "desc": {"dtype": "fp16"})";
  const auto copied =
      std::get<dgrt_kv_append_desc>(parse(append, R"({"name": "x", "n": 4, "k": 256})"));
  CHECK(copied.num_kv_heads == 4);
  CHECK(copied.head_dim_qk == 256);
  CHECK(copied.head_dim_v == 256);
  CHECK(copied.dtype_cache == DGRT_FP16);
  CHECK(std::get<dgrt_kv_append_desc>(
            parse(append, R"({"name": "x", "n": 4, "k": 256, "dtype_cache": "e4m3"})"))
            .dtype_cache == DGRT_E4M3);
  const auto topk = std::get<dgrt_topk_transform_desc>(
      parse(R"("op": "topk_transform", "desc": {})", R"({"name": "x", "n": 8192, "k": 512})"));
  CHECK(topk.max_columns == 8192);
  CHECK(topk.top_k == 512);
  CHECK(topk.max_rows == 9);
  const std::string dequant = R"("op": "kv_dequant_paged", "desc": {})";
  const auto by_slot = std::get<dgrt_kv_dequant_paged_desc>(parse(dequant, R"({"name": "x", "k": 512})"));
  CHECK(by_slot.format == DGRT_MLA_KV_V4);
  CHECK(by_slot.max_batch == 0);
  const auto by_sequence =
      std::get<dgrt_kv_dequant_paged_desc>(parse(dequant, R"({"name": "x", "n": 3, "k": 576})"));
  CHECK(by_sequence.format == DGRT_MLA_KV_V32);
  CHECK(by_sequence.max_batch == 3);
  CHECK(by_sequence.max_rows == 9);
  const auto latent = std::get<dgrt_mla_kv_append_desc>(
      parse(R"("op": "mla_kv_append", "desc": {})", R"({"name": "x", "k": 576})"));
  CHECK(latent.format == DGRT_MLA_KV_V32);
  CHECK(latent.max_tokens == 9);
  const auto ids = std::get<dgrt_build_swa_token_ids_desc>(
      parse(R"("op": "build_swa_token_ids", "desc": {})", R"({"name": "x", "n": 3, "k": 128})"));
  CHECK(ids.max_batch == 3);
  CHECK(ids.max_capacity == 9 + 3 * 127);
  const auto decode = std::get<SparseDecodeBenchDesc>(
      parse(R"("op": "mla_sparse_decode", "desc": {})",
            R"({"name": "x", "batch": 4, "num_q_heads": 64, "k": 512, "kv_len": 16384, "top_k": 128, "page_size": 256,
                "extra_top_k": 512, "extra_page_size": 2})"));
  CHECK((decode.num_q_heads == 64 && decode.format == DGRT_MLA_KV_V4 && decode.max_keys == 640));
  CHECK((decode.batch == 4 && decode.kv_len == 16384 && decode.extra_top_k == 512));
  CHECK((decode.page_size == 256 && decode.extra_page_size == 2));
  const auto combine = std::get<CombineBenchDesc>(
      parse(R"("op": "combine_topk_swa_indices", "desc": {"ratio": 4})", R"({"name": "x", "n": 128, "k": 512})"));
  CHECK(combine.window == 128);
  CHECK(combine.ratio == 4);
  CHECK(combine.top_k == 512);
  const auto sparse = std::get<SparseMlaBenchDesc>(
      parse(R"("op": "mla_sparse_prefill", "desc": {"dtype": "bf16"})",
            R"({"name": "x", "num_heads": 64, "head_dim": 512, "top_k": 640, "keys": 4096})"));
  CHECK((sparse.num_heads == 64 && sparse.head_dim_qk == 512 && sparse.dtype == DGRT_BF16));
  CHECK((sparse.max_tokens == 9 && sparse.max_top_k == 640 && sparse.kv_rows == 4096));
  const auto quant = std::get<dgrt_quant_fp8_desc>(
      parse(R"("op": "quant_fp8", "desc": {"block": "128x128", "scale_major": "mn"})",
            R"({"name": "x", "k": 100})"));
  CHECK(quant.k == 100);
  CHECK(quant.max_m == 9);
  CHECK(quant.block == DGRT_QUANT_128X128);
  CHECK(quant.scale_major == DGRT_MN_MAJOR);
  const auto layout = std::get<dgrt_scale_layout_desc>(
      parse(R"("op": "scale_layout", "desc": {"src_major": "mn", "num_groups": 4})",
            R"({"name": "x", "k_blocks": 56})"));
  CHECK(layout.k_blocks == 56);
  CHECK(layout.max_m == 9);
  CHECK(layout.src_major == DGRT_MN_MAJOR);
  CHECK(layout.num_groups == 4);
  const auto pack = std::get<dgrt_scale_pack_ue8m0_desc>(parse(
      R"("op": "scale_pack_ue8m0", "desc": {"src_major": "k", "num_groups": 2, "round": "up"})",
      R"({"name": "x", "k_blocks": 57})"));
  CHECK(pack.k_blocks == 57);
  CHECK(pack.num_groups == 2);
  CHECK(pack.src_major == DGRT_K_MAJOR);
  CHECK(pack.flags == DGRT_SCALE_CEIL);
}

TEST_CASE("bench_shapes: attention has rows and sequences of its own", "[unit]") {
  const Result<BenchShapes> parsed = parse_bench_shapes(
      R"({"op": "attn_prefill", "stem": "s", "desc": {"dtype": "fp16"}, "m": [10, 20],
          "models": [{"model": "M", "layers": [
            {"name": "x", "batch": 3, "num_q_heads": 8, "num_kv_heads": 2, "head_dim": 192,
             "head_dim_v": 128, "prefix": 100, "window_left": 7, "dtype_kv": "e4m3"},
            {"name": "y", "tokens": 64, "m": [32, 8], "num_q_heads": 4, "num_kv_heads": 4,
             "head_dim": 64, "full": true}]}]})");
  INFO(parsed.status().message());
  REQUIRE(parsed.is_ok());
  const BenchShapes& shapes = parsed.value();
  REQUIRE(shapes.shapes.size() == 2);
  const auto x = std::get<AttnBenchDesc>(complete_desc(shapes, shapes.shapes[0]));
  CHECK(x.num_q_heads == 8);
  CHECK(x.num_kv_heads == 2);
  CHECK(x.head_dim_qk == 192);
  CHECK(x.head_dim_v == 128);
  CHECK(x.dtype == DGRT_FP16);
  CHECK(x.dtype_kv == DGRT_E4M3);
  CHECK(x.max_q_len == 20);
  CHECK(x.max_kv_len == 120);
  CHECK(x.window_left == 7);
  CHECK(x.window_right == 0);
  CHECK(x.batch(10) == 3);
  CHECK(shapes.rows_of(shapes.shapes[0]) == std::vector<int64_t>{10, 20});
  const auto y = std::get<AttnBenchDesc>(complete_desc(shapes, shapes.shapes[1]));
  CHECK(y.head_dim_v == 64);
  CHECK(y.max_q_len == 32);
  CHECK(y.window_right == -1);
  CHECK(y.batch(8) == 8);
  CHECK(y.batch(32) == 2);
  CHECK(shapes.rows_of(shapes.shapes[1]) == std::vector<int64_t>{32, 8});
}

TEST_CASE("bench_shapes: attention over pages", "[unit]") {
  const auto parse = [](const char* sizes) {
    return parse_bench_shapes(fmt::format(
        R"({{"op": "attn_decode", "stem": "s", "desc": {{"dtype": "bf16"}}, "m": [1, 4],
            "models": [{{"model": "M", "layers": [{{"name": "x", "num_q_heads": 8,
            "num_kv_heads": 2, "head_dim": 128, "prefix": 100{}}}]}}]}})",
        sizes));
  };
  const Result<BenchShapes> parsed = parse(R"(, "batch": 3, "page_size": 16, "window_left": 7)");
  INFO(parsed.status().message());
  REQUIRE(parsed.is_ok());
  const auto desc = std::get<DecodeBenchDesc>(complete_desc(parsed.value(), parsed.value().shapes[0]));
  CHECK(desc.num_q_heads == 8);
  CHECK(desc.head_dim_v == 128);
  CHECK(desc.max_batch == 3);
  CHECK(desc.max_q_len == 4);
  CHECK(desc.max_kv_len == 104);
  CHECK(desc.page_size == 16);
  CHECK(desc.window_left == 7);
  const auto flags = [&](const char* mask) {
    const Result<BenchShapes> masked = parse(mask);
    REQUIRE(masked.is_ok());
    return std::get<DecodeBenchDesc>(complete_desc(masked.value(), masked.value().shapes[0])).flags;
  };
  CHECK(desc.flags == 0);
  CHECK(flags(R"(, "batch": 3, "page_size": 16, "mask": "bits")") ==
        (DGRT_ATTN_MASK_BITS | DGRT_ATTN_MASK_SKIP_PREFIX));
  CHECK(flags(R"(, "batch": 3, "page_size": 16, "mask": "bytes", "mask_prefix": true)") == DGRT_ATTN_MASK_BYTES);
  CHECK_FALSE(parse(R"(, "batch": 3, "page_size": 16, "mask": "ints")").is_ok());
  CHECK_FALSE(parse(R"(, "batch": 3)").is_ok());
  CHECK_FALSE(parse(R"(, "tokens": 3, "page_size": 16)").is_ok());
}

TEST_CASE("bench_shapes: n and k of the command line, as a shape of the op", "[unit]") {
  const auto nk = [](const char* stem, const char* text, int64_t num_groups) {
    const Result<BenchShapes> shapes = builtin_bench_shapes(stem);
    REQUIRE(shapes.is_ok());
    return parse_nk(shapes.value(), text, num_groups);
  };
  const Result<BenchShape> dense = nk("gemm_fp8", "7168x2048", 0);
  REQUIRE(dense.is_ok());
  CHECK(dense.value().n == 7168);
  CHECK(dense.value().k == 2048);
  const Result<BenchShape> masked = nk("gemm_grouped_masked_bf16", "64x128", 8);
  REQUIRE(masked.is_ok());
  CHECK(masked.value().num_groups == 8);
  CHECK(nk("hc_prenorm", "24x16384", 0).is_ok());
  for (const char* bad : {"", "7168", "7168x", "x2048", "7168x2048x1", "7168 x 2048", "0x1", "1x0",
                          "-1x1", "1x4294967296", "1x99999999999999999999"}) {
    INFO(bad);
    CHECK(nk("gemm_fp8", bad, 0).status().code() == DGRT_INVALID_ARGUMENT);
  }
  CHECK(nk("gemm_fp8", "7168x2048", 2).status().message().find("gemm_fp8 has none") !=
        std::string::npos);
  CHECK_FALSE(nk("gemm_batched_bf16", "128x512", 0).is_ok());
  CHECK_FALSE(nk("gemm_grouped_k_fp8", "7168x2048", 4).is_ok());
  CHECK_FALSE(nk("gemm_fused_linear_bf16", "7168x2048", 0).is_ok());
  CHECK_FALSE(nk("quant_fp8", "7168x2048", 0).is_ok());
  CHECK_FALSE(nk("attn_prefill", "8x128", 0).is_ok());
}

TEST_CASE("bench_shapes: what is wrong with a file is named", "[unit]") {
  const auto check_refused = [](const std::string& json, dgrt_status code, const char* word) {
    const Result<BenchShapes> shapes = parse_bench_shapes(json);
    INFO(json);
    REQUIRE(!shapes.is_ok());
    CHECK(shapes.status().code() == code);
    CHECK(shapes.status().message().find(word) != std::string::npos);
  };
  check_refused("{", DGRT_INVALID_ARGUMENT, "bench shapes");
  check_refused(R"({"op": "conv"})", DGRT_UNSUPPORTED, "op=conv");
  check_refused(R"({"op": "gemm_grouped_contiguous", "desc": {"dtype_ab": "bf16",
                    "dtype_d": "bf16", "group_layout": "cols", "alignment": 128}})",
                DGRT_INVALID_ARGUMENT, "group_layout=cols");
  check_refused(R"({"op": "gemm_batched", "stem": "s", "m": [1],
                    "desc": {"dtype_ab": "bf16", "dtype_d": "bf16"},
                    "models": [{"model": "M", "layers": [
                      {"name": "x", "num_groups": 0, "n": 1, "k": 1}]}]})",
                DGRT_INVALID_ARGUMENT, "num_groups=0");
  check_refused(R"({"op": "quant_fp8", "desc": {"block": "2x128", "scale_major": "k"}})",
                DGRT_INVALID_ARGUMENT, "block=2x128");
  check_refused(R"({"op": "quant_fp8", "desc": {"block": "1x128", "scale_major": "n"}})",
                DGRT_INVALID_ARGUMENT, "scale_major=n");
  check_refused(R"({"op": "scale_layout", "desc": {"src_major": "n", "num_groups": 1}})",
                DGRT_INVALID_ARGUMENT, "src_major=n");
  check_refused(R"({"op": "scale_pack_ue8m0",
                    "desc": {"src_major": "k", "num_groups": 1, "round": "down"}})",
                DGRT_INVALID_ARGUMENT, "round=down");
  check_refused(R"({"op": "scale_layout", "desc": {"src_major": "k", "num_groups": 1},
                    "stem": "s", "m": [1],
                    "models": [{"model": "M", "layers": [{"name": "x", "k_blocks": 0}]}]})",
                DGRT_INVALID_ARGUMENT, "k_blocks=0");
  check_refused(R"({"op": "attn_prefill", "desc": {"dtype": "fp32"}})", DGRT_INVALID_ARGUMENT,
                "dtype=fp32");
  check_refused(R"({"op": "attn_prefill", "desc": {"dtype": "bf16"}, "stem": "s", "m": [1],
                    "models": [{"model": "M", "layers": [
                      {"name": "x", "num_q_heads": 1, "num_kv_heads": 1, "head_dim": 64}]}]})",
                DGRT_INVALID_ARGUMENT, "batch, tokens");
  check_refused(R"({"op": "attn_prefill", "desc": {"dtype": "bf16"}, "stem": "s", "m": [1],
                    "models": [{"model": "M", "layers": [{"name": "x", "batch": 1, "m": [0],
                      "num_q_heads": 1, "num_kv_heads": 1, "head_dim": 64}]}]})",
                DGRT_INVALID_ARGUMENT, "m=0");
  check_refused(file(R"({"dtype_ab": "e5m2", "dtype_d": "bf16"})", "[1]", good_layers),
                DGRT_INVALID_ARGUMENT, "dtype_ab=e5m2");
  check_refused(file(good_desc, "[0]", good_layers), DGRT_INVALID_ARGUMENT, "m=0");
  check_refused(file(good_desc, "[]", good_layers), DGRT_INVALID_ARGUMENT, "no m");
  check_refused(file(good_desc, "[1]", R"([{"name": "x", "n": -1, "k": 128}])"),
                DGRT_INVALID_ARGUMENT, "n=-1");
  check_refused(file(good_desc, "[1]", R"([{"name": "x", "n": 64}])"), DGRT_INVALID_ARGUMENT, "k");
  CHECK(builtin_bench_shapes("nothing").status().code() == DGRT_UNSUPPORTED);
}

}  // namespace
}  // namespace dgrt
