// mla_decode over a cache of e4m3, with queries of 16 bits and of e4m3: what mla_decode_test.cpp asks of 16 bits, and every
// code.
#include "tests/gpu/mla_decode_case.h"

namespace dgrt::test {
namespace {

MlaCase e4m3(std::vector<std::pair<int64_t, int64_t>> lens) {
  MlaCase test;
  test.dtype_kv = test.dtype_q = DGRT_E4M3;
  test.lens = std::move(lens);
  return test;
}

}  // namespace

TEST_CASE("mla_decode e4m3: heads, tokens and keys", "[gpu]") {
  Gpu* gpu = gpu_for("mla_decode e4m3: heads, tokens and keys");
  if (!gpu) return;
  for (const auto& [heads, kv_heads] : {std::pair{1, 1}, {3, 1}, {9, 3}, {64, 2}, {126, 1}, {128, 1}})
    for (const int64_t tokens : {1, 2, 8}) {
      MlaCase test = e4m3({{tokens, 1030}, {tokens, 140}, {tokens, 20}, {tokens, 64}, {0, 33}, {tokens, 0}});
      test.num_q_heads = heads, test.num_kv_heads = kv_heads;
      run_mla(*gpu, test);
    }
}

TEST_CASE("mla_decode e4m3: pages, layouts, types", "[gpu]") {
  Gpu* gpu = gpu_for("mla_decode e4m3: pages, layouts, types");
  if (!gpu) return;
  MlaCase test = e4m3({{2, 1030}, {1, 140}, {1, 3000}});
  test.num_q_heads = 32, test.num_kv_heads = 2;
  for (const dgrt_dtype dtype : {DGRT_BF16, DGRT_FP16})
    for (const dgrt_dtype dtype_q : {dtype, dgrt_dtype{DGRT_E4M3}}) {
      test.dtype = dtype, test.dtype_q = dtype_q;
      for (const int64_t page_size : {1, 7, 64, 1000}) {
        test.page_size = page_size;
        run_mla(*gpu, test);
      }
      for (const MlaLayout layout : {MlaLayout::heads_first, MlaLayout::padded}) {
        test.layout = layout;
        run_mla(*gpu, test);
      }
      test.layout = MlaLayout::tokens_first;
    }
}

TEST_CASE("mla_decode e4m3: every code", "[gpu]") {
  Gpu* gpu = gpu_for("mla_decode e4m3: every code");
  if (!gpu) return;
  MlaCase test = e4m3({{2, 300}, {1, 64}});
  test.every_code = true, test.sigma = 0.01f;
  for (const dgrt_dtype dtype : {DGRT_BF16, DGRT_FP16}) {
    test.dtype = dtype;
    run_mla(*gpu, test);
  }
}

TEST_CASE("mla_decode e4m3: masks, forms of lse, batches", "[gpu]") {
  Gpu* gpu = gpu_for("mla_decode e4m3: masks, forms of lse, batches");
  if (!gpu) return;
  MlaCase test = e4m3({{4, 500}, {1, 3000}, {2, 0}, {3, 2}});
  test.causal = false;
  run_mla(*gpu, test);
  test.causal = true, test.flags = DGRT_MLA_LSE_BASE2 | DGRT_MLA_LSE_EMPTY_INF;
  run_mla(*gpu, test);
  for (const uint32_t flags : {0u, DGRT_FLAG_BATCH_INVARIANT}) {
    MlaCase batch = e4m3({{1, 20000}});
    batch.num_q_heads = 128, batch.flags = flags;
    run_mla(*gpu, batch);
    batch.lens.clear();
    for (int64_t i = 0; i < 100; ++i) batch.lens.push_back({1 + i % 3, i * 37 % 300});
    run_mla(*gpu, batch);
    batch.sm_budget = 7;
    run_mla(*gpu, batch);
  }
}

TEST_CASE("mla_decode e4m3: repeats and replays, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("mla_decode e4m3: repeats and replays, bitwise");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT}) {
    MlaCase test = e4m3({{2, 5000}, {2, 300}, {2, 20000}, {2, 16}, {2, 0}});
    test.num_q_heads = 128, test.flags = flags;
    run_mla_repeats(*gpu, test, 10);
    run_mla_replays(*gpu, test, {{5000, 300, 20000, 16, 0}, {0, 0, 19999, 0, 0}, {4999, 64, 0, 5, 0}});
    if (flags == DGRT_FLAG_BATCH_INVARIANT) run_mla_one_by_one(*gpu, test);
  }
}

TEST_CASE("mla_decode e4m3: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("mla_decode e4m3: small sizes");
  if (!gpu) return;
  MlaCase test = e4m3({{2, 140}, {1, 20}, {0, 33}, {1, 0}, {2, 1}});
  test.num_q_heads = 9;
  run_mla(*gpu, test);
  test.lens = {{3, 200}}, test.num_q_heads = 2, test.page_size = 7, test.dtype = test.dtype_q = DGRT_FP16;
  run_mla(*gpu, test);
  // Full row tiles, two segments for each CTA.
  test = e4m3({{1, 150}, {1, 70}});
  test.num_q_heads = 128, test.sm_budget = 2;
  run_mla(*gpu, test);
}

}  // namespace dgrt::test
