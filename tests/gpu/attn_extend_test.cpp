// attn_extend against a reference in fp64: pages, chunks, masks, layouts, uneven batches; and bit for bit
// against itself: repeats, other batches, graphs whose lengths change.
#include "tests/gpu/attn_decode_case.h"

namespace dgrt::test {
namespace {

constexpr std::pair<int64_t, int64_t> head_sizes[] = {{64, 64},   {96, 96},   {128, 128}, {192, 128},
                                                      {256, 256}, {512, 512}, {80, 80},   {24, 40}};

DecodeCase sized_chunks(std::pair<int64_t, int64_t> head_size, Lens lens) {
  DecodeCase test = sized(head_size, std::move(lens));
  test.op_id = DGRT_OP_ATTN_EXTEND;
  test.most_checked = 700;
  return test;
}

// One long chunk among short ones.
Lens uneven(int64_t count, int64_t queries, int64_t keys) {
  Lens lens;
  for (int64_t i = 0; i < count; ++i) lens.push_back({i * 7 % 90, i * 7 % 90 + i * 37 % 200});
  lens[static_cast<size_t>(count) / 2] = {queries, keys};
  return lens;
}

}  // namespace

TEST_CASE("attn_extend: head sizes and pages", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend: head sizes and pages");
  if (!gpu) return;
  for (const auto& head_size : head_sizes)
    for (const dgrt_dtype dtype : {DGRT_BF16, DGRT_FP16})
      for (const int64_t page_size : {1, 5, 16, 64, 96, 1072}) {
        DecodeCase test = sized_chunks(head_size, {{1, 1}, {17, 37}, {0, 70}, {300, 777}, {200, 3001}});
        test.dtype = dtype, test.page_size = page_size;
        test.flags = few_kernels_unless(dtype == DGRT_BF16);
        run_decode(*gpu, test);
      }
}

TEST_CASE("attn_extend: lengths of chunks", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend: lengths of chunks");
  if (!gpu) return;
  for (const auto& head_size : {std::pair<int64_t, int64_t>{64, 64}, {128, 128}, {256, 256}})
    for (const int64_t page_size : {1, 16, 64})
      for (const auto& one : Lens{{1, 20000}, {17, 20000}, {300, 300}, {300, 20000}, {4096, 4096},
                                  {4096, 20000}, {300, 100}, {4096, 4097}}) {
        DecodeCase test = sized_chunks(head_size, {one});
        test.page_size = page_size, test.most_checked = 300;
        run_decode(*gpu, test);
      }
}

TEST_CASE("attn_extend: cache layouts", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend: cache layouts");
  if (!gpu) return;
  for (const auto& head_size : head_sizes)
    for (const CacheLayout layout : {CacheLayout::heads_first, CacheLayout::padded})
      for (const int64_t page_size : {1, 16, 80}) {
        DecodeCase test = sized_chunks(head_size, {{130, 130}, {70, 999}});
        test.layout = layout, test.page_size = page_size;
        run_decode(*gpu, test);
      }
}

TEST_CASE("attn_extend: query heads per key head", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend: query heads per key head");
  if (!gpu) return;
  for (const int64_t group : {1, 2, 3, 5, 7, 8, 16, 128}) {
    DecodeCase test = sized_chunks({128, 128}, {{130, 700}, {65, 300}});
    test.num_kv_heads = group >= 16 ? 1 : 3;
    test.num_q_heads = group * test.num_kv_heads;
    run_decode(*gpu, test);
  }
}

TEST_CASE("attn_extend: windows, with NaN before them", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend: windows, with NaN before them");
  if (!gpu) return;
  for (const auto& head_size : {std::pair<int64_t, int64_t>{128, 128}, {64, 64}, {256, 256}})
    for (const int64_t left : {0, 1, 33, 127, 1024, 100000})
      for (const int64_t page_size : {1, 16, 1072}) {
        DecodeCase test = sized_chunks(head_size, {{40, 1004}, {300, 8004}, {64, 68}, {90, 50}, {1, 2500}});
        test.window_left = left, test.page_size = page_size;
        run_decode(*gpu, test);
      }
  for (const int64_t right : {3, -1}) {
    DecodeCase test = sized_chunks({128, 128}, {{140, 1004}, {160, 400}});
    test.window_right = right;
    run_decode(*gpu, test);
  }
}

TEST_CASE("attn_extend: softcap, sinks, the forms of lse, large logits", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend: softcap, sinks, the forms of lse, large logits");
  if (!gpu) return;
  const Lens lens = {{100, 3000}, {40, 500}, {20, 0}, {30, 2}};
  for (const auto& head_size : head_sizes)
    for (const float cap : {0.0f, 1.0f, 30.0f, 50.0f}) {
      DecodeCase test = sized_chunks(head_size, lens);
      test.softcap = cap, test.sinks = true, test.sigma = cap > 0 ? 20.0f : 1.0f;
      test.flags = few_kernels_unless(cap == 0 || head_size.first == 128);
      run_decode(*gpu, test);
    }
  for (const uint32_t flags : {DGRT_ATTN_LSE_BASE2, DGRT_ATTN_LSE_WITH_SINK,
                               DGRT_ATTN_LSE_BASE2 | DGRT_ATTN_LSE_WITH_SINK}) {
    DecodeCase test = sized_chunks({128, 128}, lens);
    test.flags = flags, test.sinks = true;
    run_decode(*gpu, test);
  }
  for (const float sigma : {100.0f, 20000.0f}) {
    DecodeCase test = sized_chunks({128, 128}, lens);
    test.sigma = sigma;
    run_decode(*gpu, test);
  }
}

TEST_CASE("attn_extend: batches, empty and uneven and large", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend: batches, empty and uneven and large");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_FLAG_BATCH_INVARIANT})
    for (const auto& head_size : {std::pair<int64_t, int64_t>{128, 128}, {256, 256}, {64, 64}}) {
      for (const Lens& lens : {Lens{}, Lens{{0, 100}, {0, 0}}, Lens{{100, 0}, {0, 5}, {16, 0}},
                               uneven(256, 2000, 60000), uneven(3000, 500, 5000)}) {
        DecodeCase test = sized_chunks(head_size, lens);
        test.flags = flags;
        run_decode(*gpu, test);
      }
      DecodeCase test = sized_chunks(head_size, uneven(40, 300, 9000));
      test.flags = flags, test.sm_budget = 7, test.hint_factor = 4;
      run_decode(*gpu, test);
    }
}

TEST_CASE("attn_extend: repeats, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend: repeats, bitwise");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256, 512})
    for (const int64_t page_size : {1, 16, 64})
      for (const uint32_t flags : {0u, DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT}) {
        DecodeCase test = sized_chunks({head_dim, head_dim}, uneven(30, 700, 9000));
        test.flags = flags, test.page_size = page_size;
        run_repeats(*gpu, test, 10);
      }
}

TEST_CASE("attn_extend: batch-invariant, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend: batch-invariant, bitwise");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256, 512}) {
    DecodeCase test =
        sized_chunks({head_dim, head_dim}, {{100, 700}, {20, 9000}, {160, 164}, {1, 3}, {400, 3000}});
    test.flags = DGRT_FLAG_BATCH_INVARIANT;
    run_one_by_one(*gpu, test);
  }
}

TEST_CASE("attn_extend: graph replay with other lengths", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend: graph replay with other lengths");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT}) {
    DecodeCase test = sized_chunks({128, 128}, {{40, 5000}, {140, 300}, {400, 20000}, {4, 16}, {4, 0}});
    test.flags = flags, test.sinks = true;
    run_graph_replay(*gpu, test,
                     {{5000, 300, 20000, 16, 0}, {1, 2, 3, 4, 0}, {0, 0, 19999, 0, 0}, {4999, 64, 0, 5, 0}});
  }
}

TEST_CASE("attn_extend: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("attn_extend: small sizes");
  if (!gpu) return;
  run_decode(*gpu, sized_chunks({64, 64}, {{1, 1}, {17, 37}, {0, 70}, {40, 200}}));
  DecodeCase test = sized_chunks({192, 128}, {{33, 140}, {9, 0}});
  test.window_left = 33, test.page_size = 5, test.sinks = true, test.dtype = DGRT_FP16;
  run_decode(*gpu, test);
}

}  // namespace dgrt::test
