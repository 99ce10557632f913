// mla_sparse_decode against a reference in fp64: formats, heads, lists of any length, holes, two caches, sinks, splits
// of every kind, strides, repeats, graphs. What no list names is NaN. Small calls first.
#include "tests/gpu/mla_sparse_decode_case.h"

namespace dgrt::test {
namespace {

constexpr dgrt_mla_kv_format formats[] = {DGRT_MLA_KV_V32, DGRT_MLA_KV_V4};

}  // namespace

TEST_CASE("mla_sparse_decode: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("mla_sparse_decode: small sizes");
  if (!gpu) return;
  SparseCase test{.heads = 9, .batch = 2, .q_len = 2, .top_k = 100, .page_size = 53, .lengths = ListLengths::of_tokens};
  test.sm_budget = 3, test.sinks = true;
  run_sparse(*gpu, test);
  test.format = DGRT_MLA_KV_V4, test.extra_top_k = 40, test.q_len = 1, test.lengths = ListLengths::of_requests;
  run_sparse(*gpu, test);
  test.heads = 72, test.sm_budget = 5;  // clusters
  run_sparse(*gpu, test);
  test.format = DGRT_MLA_KV_V32, test.top_k = 170;
  run_sparse(*gpu, test);
}

TEST_CASE("mla_sparse_decode: one token", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_decode: one token");
  if (!gpu) return;
  for (const dgrt_mla_kv_format format : formats) {
    run_sparse(*gpu, {.format = format, .holes = 0, .sm_budget = 1});
    run_sparse(*gpu, {.heads = 64, .top_k = 192, .page_size = 61, .format = format, .sm_budget = 2});
    run_sparse(*gpu, {.heads = 128, .top_k = 100, .page_size = 2, .format = format, .sm_budget = 2});
  }
}

TEST_CASE("mla_sparse_decode: a few tokens, lists and lengths", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_decode: a few tokens, lists and lengths");
  if (!gpu) return;
  for (const dgrt_mla_kv_format format : formats)
    for (const ListLengths lengths : {ListLengths::all, ListLengths::of_requests, ListLengths::of_tokens}) {
      SparseCase test{.batch = 3, .q_len = 2, .top_k = 130, .format = format, .lengths = lengths, .sinks = true};
      test.sm_budget = 4;
      run_sparse(*gpu, test);
      test.extra_top_k = 70, test.padded = true, test.page_size = 53;
      run_sparse(*gpu, test);
    }
}

TEST_CASE("mla_sparse_decode: lists of nothing", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_decode: lists of nothing");
  if (!gpu) return;
  for (const dgrt_mla_kv_format format : formats)
    for (const bool sinks : {false, true}) {
      SparseCase test{.heads = 9, .batch = 2, .format = format, .holes = 1, .sinks = sinks, .sm_budget = 2};
      run_sparse(*gpu, test);
      test.flags = DGRT_MLA_LSE_EMPTY_INF, test.extra_top_k = 5;
      run_sparse(*gpu, test);
      test.top_k = 0, test.holes = 0.5, test.flags = DGRT_MLA_LSE_BASE2;
      run_sparse(*gpu, test);
      test.extra_top_k = 0;
      run_sparse(*gpu, test);
      test.batch = 0;
      run_sparse(*gpu, test);
    }
}

TEST_CASE("mla_sparse_decode: splits of every kind", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_decode: splits of every kind");
  if (!gpu) return;
  for (const uint32_t flags : {0u, uint32_t{DGRT_FLAG_BATCH_INVARIANT}, uint32_t{DGRT_MLA_NO_SPLIT}})
    for (const dgrt_mla_kv_format format : formats) {
      SparseCase test{.heads = 72, .batch = 2, .top_k = 700, .format = format, .lengths = ListLengths::of_requests};
      test.flags = flags, test.sm_budget = 6, test.sinks = true;
      run_sparse(*gpu, test);
      // A tile for each SM, or two where parts are large, and more parts than are added up at once.
      test.batch = 1, test.top_k = 1300, test.sm_budget = 0, test.lengths = ListLengths::all;
      for (const int64_t heads : {16, 128}) {
        test.heads = heads;
        run_sparse(*gpu, test);
      }
    }
}

TEST_CASE("mla_sparse_decode: repeats, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_decode: repeats, bitwise");
  if (!gpu) return;
  for (const dgrt_mla_kv_format format : formats)
    for (const uint32_t flags : {0u, uint32_t{DGRT_FLAG_PDL}, uint32_t{DGRT_FLAG_BATCH_INVARIANT}}) {
      SparseCase test{.heads = 64, .batch = 2, .top_k = 320, .extra_top_k = 64, .format = format, .flags = flags};
      test.sm_budget = 5;
      run_sparse_repeats(*gpu, test, 2);
    }
}

TEST_CASE("mla_sparse_decode: batch-invariant, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_decode: batch-invariant, bitwise");
  if (!gpu) return;
  for (const uint32_t flags : {DGRT_FLAG_BATCH_INVARIANT, DGRT_MLA_NO_SPLIT}) {
    SparseCase test{.batch = 3, .top_k = 700, .extra_top_k = 64, .format = DGRT_MLA_KV_V4};
    test.lengths = ListLengths::of_requests, test.flags = flags, test.sm_budget = 4;
    run_sparse_one_by_one(*gpu, test);
  }
}

TEST_CASE("mla_sparse_decode: graph replay with other lengths", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_decode: graph replay with other lengths");
  if (!gpu) return;
  for (const uint32_t flags : {0u, uint32_t{DGRT_FLAG_PDL}, uint32_t{DGRT_FLAG_BATCH_INVARIANT}}) {
    SparseCase test{.batch = 3, .q_len = 2, .top_k = 200, .extra_top_k = 66, .format = DGRT_MLA_KV_V4};
    test.lengths = ListLengths::of_tokens, test.flags = flags, test.sm_budget = 5;
    run_sparse_replays(*gpu, test, 3);
  }
}

TEST_CASE("mla_sparse_decode: calls of models", "[gpu]") {
  Gpu* gpu = gpu_for("mla_sparse_decode: calls of models");
  if (!gpu) return;
  for (const int64_t heads : {8, 64, 128})
    for (const int64_t batch : {1, 74}) {
      SparseCase v32{.heads = heads, .batch = batch, .q_len = 2, .top_k = 2048, .num_slots = 8192};
      v32.most_checked = 3, v32.flags = DGRT_FLAG_PDL;
      run_sparse(*gpu, v32);
      SparseCase v4{.heads = heads, .batch = batch, .q_len = 2, .top_k = 128, .extra_top_k = 512, .num_slots = 8192};
      v4.format = DGRT_MLA_KV_V4, v4.page_size = 256, v4.extra_page_size = 64, v4.lengths = ListLengths::of_requests;
      v4.most_checked = 3, v4.sinks = true;
      run_sparse(*gpu, v4);
    }
}

}  // namespace dgrt::test
