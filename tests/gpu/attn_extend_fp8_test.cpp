// attn_extend over a cache of e4m3: every code, and what attn_extend_test.cpp asks of 16 bits.
#include "tests/gpu/attn_fp8_case.h"

namespace dgrt::test {
namespace {

constexpr std::pair<int64_t, int64_t> head_sizes[] = {{64, 64},   {96, 96},   {128, 128}, {192, 128},
                                                      {256, 256}, {512, 512}, {80, 80},   {16, 48}};

DecodeCase sized_e4m3(std::pair<int64_t, int64_t> head_size, Lens lens) {
  DecodeCase test = sized(head_size, std::move(lens));
  test.op_id = DGRT_OP_ATTN_EXTEND, test.dtype_kv = DGRT_E4M3;
  test.most_checked = 500;
  return test;
}

}  // namespace

TEST_CASE("attn_extend: every e4m3 code", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend: every e4m3 code");
  if (!gpu) return;
  for (const dgrt_dtype dtype : {DGRT_BF16, DGRT_FP16}) run_codes(*gpu, DGRT_OP_ATTN_EXTEND, dtype);
}

TEST_CASE("attn_extend e4m3: head sizes, pages, layouts", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend e4m3: head sizes, pages, layouts");
  if (!gpu) return;
  for (const auto& head_size : head_sizes) {
    for (const int64_t page_size : {1, 5, 16, 64, 1072}) {
      DecodeCase test = sized_e4m3(head_size, {{1, 1}, {17, 37}, {0, 70}, {300, 777}, {200, 3001}});
      test.page_size = page_size, test.scale_per_head = page_size != 16;
      test.dtype = page_size == 5 && head_size.first <= 128 ? DGRT_FP16 : DGRT_BF16;
      test.flags = few_kernels_unless(test.dtype == DGRT_BF16);
      run_decode(*gpu, test);
    }
    for (const CacheLayout layout : {CacheLayout::heads_first, CacheLayout::padded}) {
      DecodeCase test = sized_e4m3(head_size, {{130, 130}, {70, 999}});
      test.layout = layout;
      run_decode(*gpu, test);
    }
  }
}

TEST_CASE("attn_extend e4m3: lengths of chunks, query heads per key head", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend e4m3: lengths of chunks, query heads per key head");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256})
    for (const auto& one : Lens{{1, 20000}, {300, 300}, {4096, 4096}, {300, 20000}, {300, 100}, {4096, 4097}}) {
      DecodeCase test = sized_e4m3({head_dim, head_dim}, {one});
      test.page_size = head_dim == 128 ? 1 : 64, test.most_checked = 300;
      run_decode(*gpu, test);
    }
  for (const int64_t group : {1, 3, 7, 16}) {
    DecodeCase test = sized_e4m3({128, 128}, {{130, 700}, {65, 300}});
    test.num_kv_heads = group >= 16 ? 1 : 3;
    test.num_q_heads = group * test.num_kv_heads;
    run_decode(*gpu, test);
  }
}

TEST_CASE("attn_extend e4m3: windows, with NaN before them", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend e4m3: windows, with NaN before them");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256})
    for (const int64_t left : {0, 33, 127, 1024})
      for (const int64_t page_size : {1, 16, 1072}) {
        DecodeCase test = sized_e4m3({head_dim, head_dim}, {{40, 1004}, {300, 8004}, {64, 68}, {90, 50}, {1, 2500}});
        test.window_left = left, test.page_size = page_size;
        run_decode(*gpu, test);
      }
  DecodeCase test = sized_e4m3({128, 128}, {{140, 1004}, {160, 400}});
  test.window_right = -1;
  run_decode(*gpu, test);
}

TEST_CASE("attn_extend e4m3: softcap, sinks, the forms of lse, large logits", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend e4m3: softcap, sinks, the forms of lse, large logits");
  if (!gpu) return;
  const Lens lens = {{100, 3000}, {40, 500}, {2, 0}, {300, 20}};
  for (const auto& head_size : {std::pair<int64_t, int64_t>{64, 64}, {192, 128}, {256, 256}, {16, 48}})
    for (const float cap : {0.0f, 30.0f}) {
      DecodeCase test = sized_e4m3(head_size, lens);
      test.softcap = cap, test.sinks = true, test.sigma = cap > 0 ? 20.0f : 1.0f;
      test.flags = cap > 0 ? DGRT_ATTN_LSE_BASE2 : DGRT_ATTN_LSE_WITH_SINK;
      test.flags |= few_kernels_unless(cap == 0 || head_size.first == 192);
      run_decode(*gpu, test);
    }
  DecodeCase large = sized_e4m3({128, 128}, lens);
  large.sigma = 1000.0f;
  run_decode(*gpu, large);
}

TEST_CASE("attn_extend e4m3: masks", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend e4m3: masks");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 256})
    for (const uint32_t flags : {uint32_t{DGRT_ATTN_MASK_BITS}, DGRT_ATTN_MASK_BYTES | DGRT_ATTN_MASK_SKIP_PREFIX}) {
      DecodeCase test = sized_e4m3({head_dim, head_dim}, {{64, 700}, {7, 7}, {130, 2000}, {1, 90}});
      test.mask = MaskShape::tree, test.flags = flags;
      run_decode(*gpu, test);
    }
}

TEST_CASE("attn_extend e4m3: repeats and graph replay, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend e4m3: repeats and graph replay, bitwise");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256, 512}) {
    DecodeCase test = sized_e4m3({head_dim, head_dim}, {{700, 9000}, {30, 77}, {0, 5}, {500, 500}, {2, 300}});
    test.page_size = head_dim == 128 ? 1 : 16;
    run_repeats(*gpu, test, 10);
  }
  DecodeCase alone = sized_e4m3({128, 128}, {{40, 700}, {200, 9000}, {16, 64}, {1, 3}});
  alone.flags = DGRT_FLAG_BATCH_INVARIANT;
  run_one_by_one(*gpu, alone);
  DecodeCase test = sized_e4m3({128, 128}, {{40, 5000}, {140, 300}, {400, 20000}, {4, 16}});
  test.sinks = true, test.flags = DGRT_FLAG_PDL;
  run_graph_replay(*gpu, test, {{5000, 300, 20000, 16}, {1, 140, 3, 4}, {4999, 64, 400, 5}});
}

TEST_CASE("attn_extend e4m3: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("attn_extend e4m3: small sizes");
  if (!gpu) return;
  run_decode(*gpu, sized_e4m3({128, 128}, {{1, 1}, {17, 37}, {0, 70}, {40, 133}}));
  // Keys in two parts, which lie otherwise in shared memory than values.
  DecodeCase parts = sized_e4m3({192, 128}, {{70, 277}});
  parts.dtype = DGRT_FP16;
  run_decode(*gpu, parts);
}

}  // namespace dgrt::test
