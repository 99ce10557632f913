// mla_decode against the fp64 reference: numbers of heads, tokens and keys around every tile, pages of any size,
// strides, NaN in unused slots and garbage in unused entries, empty sequences, lengths that change in a graph.
#include "tests/gpu/mla_decode_case.h"

namespace dgrt::test {
namespace {

using Lens = std::vector<std::pair<int64_t, int64_t>>;

// One sequence that many SMs share among short ones.
Lens uneven(int64_t count, int64_t longest) {
  Lens lens;
  for (int64_t i = 0; i < count; ++i) lens.push_back({1 + i % 3, i * 37 % 300});
  lens[static_cast<size_t>(count) / 2] = {2, longest};
  return lens;
}

}  // namespace

TEST_CASE("mla_decode: heads, tokens and keys", "[gpu]") {
  Gpu* gpu = gpu_for("mla_decode: heads, tokens and keys");
  if (!gpu) return;
  for (const auto& [heads, kv_heads] : Lens{{1, 1}, {3, 1}, {9, 3}, {16, 1}, {63, 1}, {64, 2}, {126, 1}, {128, 1}, {128, 2}})
    for (const int64_t tokens : {1, 2, 4}) {
      MlaCase test;
      test.num_q_heads = heads, test.num_kv_heads = kv_heads;
      test.lens = {{tokens, 1030}, {tokens, 140}, {tokens, 20}, {tokens, 64}, {0, 33}, {tokens, 0}, {tokens, tokens - 1}};
      run_mla(*gpu, test);
    }
  MlaCase many;  // tokens of several row tiles, and more than the lanes
  many.lens = {{8, 700}, {40, 512}, {3, 65}, {77, 76}};
  for (const int64_t heads : {16, 64, 128}) {
    many.num_q_heads = heads;
    run_mla(*gpu, many);
  }
}

TEST_CASE("mla_decode: pages, layouts, types", "[gpu]") {
  Gpu* gpu = gpu_for("mla_decode: pages, layouts, types");
  if (!gpu) return;
  MlaCase test;
  test.num_q_heads = 32, test.num_kv_heads = 2;
  test.lens = {{2, 1030}, {1, 140}, {1, 3000}};
  for (const int64_t page_size : {1, 7, 8, 16, 24, 64, 96, 256, 1000})
    for (const dgrt_dtype dtype : {DGRT_BF16, DGRT_FP16}) {
      test.page_size = page_size, test.dtype = dtype;
      run_mla(*gpu, test);
    }
  for (const MlaLayout layout : {MlaLayout::heads_first, MlaLayout::padded})
    for (const int64_t page_size : {5, 64}) {
      test.page_size = page_size, test.layout = layout;
      run_mla(*gpu, test);
    }
}

TEST_CASE("mla_decode: masks, forms of lse, large logits", "[gpu]") {
  Gpu* gpu = gpu_for("mla_decode: masks, forms of lse, large logits");
  if (!gpu) return;
  MlaCase test;
  test.lens = {{4, 500}, {1, 3000}, {2, 0}, {3, 2}};
  test.causal = false;
  run_mla(*gpu, test);
  test.causal = true, test.lse = false;
  run_mla(*gpu, test);
  test.lse = true;
  for (const uint32_t flags : {DGRT_MLA_LSE_BASE2, DGRT_MLA_LSE_EMPTY_INF, DGRT_MLA_LSE_BASE2 | DGRT_MLA_LSE_EMPTY_INF}) {
    test.flags = flags;
    run_mla(*gpu, test);
  }
  test.flags = 0;
  for (const float sigma : {100.0f, 20000.0f}) {
    test.sigma = sigma;
    run_mla(*gpu, test);
  }
}

TEST_CASE("mla_decode: batches, empty and uneven and large", "[gpu]") {
  Gpu* gpu = gpu_for("mla_decode: batches, empty and uneven and large");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_FLAG_BATCH_INVARIANT})
    for (const int64_t heads : {16, 128}) {
      MlaCase test;
      test.num_q_heads = heads, test.flags = flags;
      for (const Lens& lens : {Lens{}, Lens{{0, 100}, {0, 0}}, Lens{{1, 0}, {0, 5}, {4, 0}}, Lens{{1, 60000}},
                               uneven(100, 20000)}) {
        test.lens = lens;
        run_mla(*gpu, test);
      }
      test.lens = uneven(20, 4000), test.sm_budget = 7;
      run_mla(*gpu, test);
    }
  MlaCase large;
  for (int64_t i = 0; i < 30000; ++i) large.lens.push_back({i % 5 == 0 ? 0 : 1, i * 7 % 65});
  run_mla(*gpu, large);
}

TEST_CASE("mla_decode: repeats, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("mla_decode: repeats, bitwise");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT})
    for (const int64_t page_size : {64, 1}) {
      MlaCase test;
      test.num_q_heads = 128, test.flags = flags, test.page_size = page_size;
      test.lens = uneven(30, 9000);
      run_mla_repeats(*gpu, test, 20);
    }
}

TEST_CASE("mla_decode: batch-invariant, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("mla_decode: batch-invariant, bitwise");
  if (!gpu) return;
  for (const int64_t heads : {16, 128}) {
    MlaCase test;
    test.num_q_heads = heads, test.flags = DGRT_FLAG_BATCH_INVARIANT;
    test.lens = {{1, 700}, {2, 20000}, {8, 64}, {1, 3}, {4, 9000}};
    run_mla_one_by_one(*gpu, test);
  }
}

TEST_CASE("mla_decode: graph replay with other lengths", "[gpu]") {
  Gpu* gpu = gpu_for("mla_decode: graph replay with other lengths");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT}) {
    MlaCase test;
    test.num_q_heads = 128, test.flags = flags;
    test.lens = {{2, 5000}, {2, 300}, {2, 20000}, {2, 16}, {2, 0}};
    run_mla_replays(*gpu, test,
                    {{5000, 300, 20000, 16, 0}, {1, 2, 3, 4, 0}, {0, 0, 19999, 0, 0}, {4999, 64, 0, 5, 0}});
  }
}

TEST_CASE("mla_decode: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("mla_decode: small sizes");
  if (!gpu) return;
  MlaCase test;
  test.num_q_heads = 9, test.lens = {{2, 140}, {1, 20}, {0, 33}, {1, 0}, {2, 1}};
  run_mla(*gpu, test);
  // Queries of one token to a box; row tiles side by side that do not fill their boxes.
  test.num_q_heads = 16, test.lens = {{3, 70}, {1, 64}};
  run_mla(*gpu, test);
  test.num_q_heads = 144, test.num_kv_heads = 2, test.lens = {{1, 20}};
  run_mla(*gpu, test);
  // Dealt out whole, and cut although the first has the average number of tiles.
  test.num_q_heads = 2, test.num_kv_heads = 1, test.sm_budget = 3;
  test.lens = {{1, 100}, {1, 100}, {1, 100}, {1, 100}, {1, 100}};
  run_mla(*gpu, test);
  test.lens = {{1, 100}, {1, 40}, {1, 160}}, test.sm_budget = 2;
  run_mla(*gpu, test);
}

}  // namespace dgrt::test
