// attn_decode against a reference in fp64: pages, masks, ratios of heads, uneven batches; and bit for bit
// against itself: repeats, other batches, graphs whose lengths change.
#include "tests/gpu/attn_decode_case.h"

namespace dgrt::test {
namespace {

constexpr std::pair<int64_t, int64_t> head_sizes[] = {{64, 64},   {96, 96},   {128, 128}, {192, 128},
                                                      {256, 256}, {512, 512}, {80, 80},   {24, 40}};

}  // namespace

TEST_CASE("attn_decode: head sizes and pages", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode: head sizes and pages");
  if (!gpu) return;
  for (const auto& head_size : head_sizes)
    for (const dgrt_dtype dtype : {DGRT_BF16, DGRT_FP16})
      for (const int64_t page_size : {1, 5, 16, 64, 1072}) {
        DecodeCase test = sized(head_size, {{1, 1}, {4, 37}, {1, 777}, {2, 3001}});
        test.dtype = dtype, test.page_size = page_size;
        test.flags = few_kernels_unless(dtype == DGRT_BF16);
        run_decode(*gpu, test);
      }
}

TEST_CASE("attn_decode: cache layouts", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode: cache layouts");
  if (!gpu) return;
  for (const auto& head_size : head_sizes)
    for (const CacheLayout layout : {CacheLayout::heads_first, CacheLayout::padded}) {
      DecodeCase test = sized(head_size, {{1, 130}, {3, 999}});
      test.layout = layout;
      run_decode(*gpu, test);
    }
}

TEST_CASE("attn_decode: query heads per key head, and tokens", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode: query heads per key head, and tokens");
  if (!gpu) return;
  for (const int64_t group : {1, 2, 3, 5, 7, 8, 16, 64, 100, 128})
    for (const int64_t tokens : {1, 2, 5, 16}) {
      DecodeCase test = sized({128, 128}, {{tokens, 700}, {1, 64}, {tokens, tokens}, {tokens, 1}});
      test.num_kv_heads = group >= 16 ? 1 : 3;
      test.num_q_heads = group * test.num_kv_heads;
      run_decode(*gpu, test);
    }
}

TEST_CASE("attn_decode: windows, with NaN before them", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode: windows, with NaN before them");
  if (!gpu) return;
  for (const auto& head_size : {std::pair<int64_t, int64_t>{128, 128}, {256, 256}})
    for (const int64_t left : {0, 1, 33, 127, 1024, 100000})
      for (const int64_t page_size : {1, 16, 1072}) {
        DecodeCase test = sized(head_size, {{4, 1004}, {4, 8004}, {4, 68}, {9, 5}, {1, 2500}});
        test.window_left = left, test.page_size = page_size;
        run_decode(*gpu, test);
      }
  for (const int64_t right : {3, -1}) {
    DecodeCase test = sized({128, 128}, {{4, 1004}, {16, 40}});
    test.window_right = right;
    run_decode(*gpu, test);
  }
}

TEST_CASE("attn_decode: softcap, sinks, the forms of lse, large logits", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode: softcap, sinks, the forms of lse, large logits");
  if (!gpu) return;
  const Lens lens = {{1, 3000}, {4, 500}, {2, 0}, {3, 2}};
  for (const auto& head_size : head_sizes)
    for (const float cap : {0.0f, 1.0f, 30.0f, 50.0f}) {
      DecodeCase test = sized(head_size, lens);
      test.softcap = cap, test.sinks = true, test.sigma = cap > 0 ? 20.0f : 1.0f;
      test.flags = few_kernels_unless(cap == 0 || head_size.first == 128);
      run_decode(*gpu, test);
    }
  for (const uint32_t flags : {DGRT_ATTN_LSE_BASE2, DGRT_ATTN_LSE_WITH_SINK,
                               DGRT_ATTN_LSE_BASE2 | DGRT_ATTN_LSE_WITH_SINK}) {
    DecodeCase test = sized({128, 128}, lens);
    test.flags = flags, test.sinks = true;
    run_decode(*gpu, test);
  }
  for (const float sigma : {100.0f, 20000.0f}) {
    DecodeCase test = sized({128, 128}, lens);
    test.sigma = sigma;
    run_decode(*gpu, test);
  }
}

TEST_CASE("attn_decode: batches, empty and uneven and large", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode: batches, empty and uneven and large");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_FLAG_BATCH_INVARIANT})
    for (const auto& head_size : {std::pair<int64_t, int64_t>{128, 128}, {256, 256}, {64, 64}}) {
      for (const Lens& lens : {Lens{}, Lens{{0, 100}, {0, 0}}, Lens{{1, 0}, {0, 5}, {16, 0}},
                               Lens{{1, 130000}}, uneven(256, 60000), uneven(3000, 5000)}) {
        DecodeCase test = sized(head_size, lens);
        test.flags = flags;
        run_decode(*gpu, test);
      }
      DecodeCase test = sized(head_size, uneven(40, 9000));
      test.flags = flags, test.sm_budget = 7, test.hint_factor = 4;
      run_decode(*gpu, test);
    }
  DecodeCase one = sized({128, 128}, {{1, 130000}});  // parts are added up in two rounds
  one.num_q_heads = 16, one.num_kv_heads = 1;
  run_decode(*gpu, one);
  one.lens = {{16, 60000}};
  run_decode(*gpu, one);
}

// Clusters own a unit each; lengths are unlike, and some CTAs have no keys.
TEST_CASE("attn_decode: small batches", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode: small batches");
  if (!gpu) return;
  for (const auto& head_size : {std::pair<int64_t, int64_t>{64, 64}, {128, 128}, {192, 128}, {256, 256}, {512, 512}})
    for (const dgrt_dtype dtype_kv : {dgrt_dtype{0}, dgrt_dtype{DGRT_E4M3}}) {
      for (const Lens& lens :
           {Lens{{1, 1024}, {1, 1}}, Lens{{4, 68}, {0, 5}, {3, 0}, {4, 900}}, Lens{{1, 70}}, Lens{{9, 300}, {2, 1}}}) {
        DecodeCase test = sized(head_size, lens);
        test.dtype_kv = dtype_kv, test.sinks = true;
        run_decode(*gpu, test);
      }
      DecodeCase test = sized(head_size, {{4, 1000}, {2, 20}, {1, 513}});
      test.dtype_kv = dtype_kv, test.flags = DGRT_FLAG_PDL;
      run_repeats(*gpu, test, 30);
      run_graph_replay(*gpu, test, {{1000, 20, 513}, {4, 2, 0}, {999, 0, 64}});
    }
}

TEST_CASE("attn_decode: repeats, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode: repeats, bitwise");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256, 512})
    for (const uint32_t flags : {0u, DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT}) {
      DecodeCase test = sized({head_dim, head_dim}, uneven(30, 20000));
      test.flags = flags;
      run_repeats(*gpu, test, 30);
    }
}

TEST_CASE("attn_decode: batch-invariant, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode: batch-invariant, bitwise");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256, 512}) {
    DecodeCase test = sized({head_dim, head_dim}, {{1, 700}, {2, 20000}, {16, 64}, {1, 3}, {4, 9000}});
    test.flags = DGRT_FLAG_BATCH_INVARIANT;
    run_one_by_one(*gpu, test);
  }
}

TEST_CASE("attn_decode: graph replay with other lengths", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode: graph replay with other lengths");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT}) {
    DecodeCase test = sized({128, 128}, {{4, 5000}, {4, 300}, {4, 40000}, {4, 16}, {4, 0}});
    test.flags = flags, test.sinks = true;
    run_graph_replay(*gpu, test,
                     {{5000, 300, 40000, 16, 0}, {1, 2, 3, 4, 0}, {0, 0, 39999, 0, 0}, {4999, 64, 0, 5, 0}});
  }
}

TEST_CASE("attn_decode: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("attn_decode: small sizes");
  if (!gpu) return;
  run_decode(*gpu, sized({64, 64}, {{1, 1}, {4, 37}, {0, 9}, {1, 300}}));
  DecodeCase test = sized({192, 128}, {{2, 140}, {1, 0}});
  test.window_left = 33, test.page_size = 5, test.sinks = true, test.dtype = DGRT_FP16;
  run_decode(*gpu, test);
}

}  // namespace dgrt::test
