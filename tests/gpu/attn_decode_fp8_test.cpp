// attn_decode over a cache of e4m3: every code, and what attn_decode_test.cpp asks of 16 bits.
#include "tests/gpu/attn_decode_case.h"
#include "tests/gpu/attn_fp8_case.h"

namespace dgrt::test {
namespace {

constexpr std::pair<int64_t, int64_t> head_sizes[] = {{64, 64},   {96, 96},   {128, 128}, {192, 128},
                                                      {256, 256}, {512, 512}, {80, 80},   {16, 48}};

DecodeCase sized_e4m3(std::pair<int64_t, int64_t> head_size, Lens lens) {
  DecodeCase test = sized(head_size, std::move(lens));
  test.dtype_kv = DGRT_E4M3;
  return test;
}

// Quantised by kv_append, attention is what it was, but for e4m3's roundings: 2^-4 of each key and value.
Result<std::string> run_appended(Gpu& gpu, DecodeCase test) {
  DGRT_ASSIGN(const DecodeRun quantised, DecodeRun::make(gpu, test));
  test.dtype_kv = 0;
  DGRT_ASSIGN(const DecodeRun plain, DecodeRun::make(gpu, test));
  DGRT_TRY(quantised.append(plain));
  std::vector<uint16_t> o[2];
  std::string found;
  for (const DecodeRun* run : {&plain, &quantised}) {
    DGRT_ASSIGN(const DecodeRun::Outputs out, run->outputs());
    DGRT_TRY(run->launch(out));
    DGRT_TRY(gpu.lab->synchronize());
    DGRT_ASSIGN(o[run == &quantised], out.o.download_all<uint16_t>());
    DGRT_ASSIGN(found, run->check(out));
  }
  double xy = 0, squares = 0;
  for (size_t i = 0; i < o[0].size(); ++i) {
    const double x = value_of_half(o[0][i], false), y = value_of_half(o[1][i], false);
    xy += x * y, squares += x * x + y * y;
  }
  const double diff = 1 - 2 * xy / squares;
  if (!(diff < 4e-3)) return error(DGRT_INTERNAL, "calc_diff {} from what was appended", diff);
  return found + fmt::format(", {:.2g} from what was appended", diff);
}

}  // namespace

TEST_CASE("attn_decode: every e4m3 code", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode: every e4m3 code");
  if (!gpu) return;
  for (const dgrt_dtype dtype : {DGRT_BF16, DGRT_FP16}) run_codes(*gpu, DGRT_OP_ATTN_DECODE, dtype);
}

TEST_CASE("attn_decode e4m3: what kv_append writes", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode e4m3: what kv_append writes");
  if (!gpu) return;
  for (const int64_t page_size : {1, 16}) {
    DecodeCase test = sized_e4m3({128, 64}, {{1, 700}, {4, 65}, {2, 3}});
    test.page_size = page_size;
    run_case("appended: " + test.name(), [&] { return run_appended(*gpu, test); });
  }
}

TEST_CASE("attn_decode e4m3: head sizes, pages, layouts", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode e4m3: head sizes, pages, layouts");
  if (!gpu) return;
  for (const auto& head_size : head_sizes) {
    for (const dgrt_dtype dtype : {DGRT_BF16, DGRT_FP16})
      for (const int64_t page_size : {1, 5, 16, 1072}) {
        DecodeCase test = sized_e4m3(head_size, {{1, 1}, {4, 37}, {1, 777}, {2, 3001}});
        test.dtype = dtype, test.page_size = page_size, test.scale_per_head = page_size != 16;
        test.flags = few_kernels_unless(dtype == DGRT_BF16);
        run_decode(*gpu, test);
      }
    for (const CacheLayout layout : {CacheLayout::heads_first, CacheLayout::padded}) {
      DecodeCase test = sized_e4m3(head_size, {{1, 130}, {3, 999}});
      test.layout = layout;
      run_decode(*gpu, test);
    }
  }
}

TEST_CASE("attn_decode e4m3: query heads per key head, windows with NaN before them", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode e4m3: query heads per key head, windows with NaN before them");
  if (!gpu) return;
  for (const int64_t group : {1, 3, 7, 8, 16, 100})
    for (const int64_t tokens : {1, 5, 16}) {
      DecodeCase test = sized_e4m3({128, 128}, {{tokens, 700}, {1, 64}, {tokens, tokens}, {tokens, 1}});
      test.num_kv_heads = group >= 16 ? 1 : 3;
      test.num_q_heads = group * test.num_kv_heads;
      run_decode(*gpu, test);
    }
  for (const int64_t left : {0, 33, 1024})
    for (const int64_t page_size : {1, 16, 1072}) {
      DecodeCase test = sized_e4m3({256, 256}, {{4, 1004}, {4, 8004}, {4, 68}, {9, 5}, {1, 2500}});
      test.window_left = left, test.page_size = page_size;
      run_decode(*gpu, test);
    }
}

TEST_CASE("attn_decode e4m3: softcap, sinks, the forms of lse, large logits", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode e4m3: softcap, sinks, the forms of lse, large logits");
  if (!gpu) return;
  const Lens lens = {{1, 3000}, {4, 500}, {2, 0}, {3, 2}};
  for (const auto& head_size : head_sizes)
    for (const float cap : {0.0f, 30.0f}) {
      DecodeCase test = sized_e4m3(head_size, lens);
      test.softcap = cap, test.sinks = true, test.sigma = cap > 0 ? 20.0f : 1.0f;
      test.flags = cap > 0 ? DGRT_ATTN_LSE_BASE2 : DGRT_ATTN_LSE_WITH_SINK;
      test.flags |= few_kernels_unless(cap == 0 || head_size.first == 128);
      run_decode(*gpu, test);
    }
  DecodeCase large = sized_e4m3({128, 128}, lens);
  large.sigma = 100.0f;
  run_decode(*gpu, large);
}

TEST_CASE("attn_decode e4m3: batches, empty and uneven and large", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode e4m3: batches, empty and uneven and large");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_FLAG_BATCH_INVARIANT})
    for (const Lens& lens : {Lens{}, Lens{{0, 100}, {0, 0}}, Lens{{1, 0}, {0, 5}, {16, 0}}, Lens{{1, 130000}},
                             uneven(256, 60000)}) {
      DecodeCase test = sized_e4m3({128, 128}, lens);
      test.flags = flags;
      run_decode(*gpu, test);
    }
}

TEST_CASE("attn_decode e4m3: repeats, sequences alone and graph replay, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode e4m3: repeats, sequences alone and graph replay, bitwise");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256, 512}) {
    DecodeCase test = sized_e4m3({head_dim, head_dim}, uneven(30, 20000));
    run_repeats(*gpu, test, 30);
    test.lens = {{1, 700}, {2, 20000}, {16, 64}, {1, 3}, {4, 9000}};
    test.flags = DGRT_FLAG_BATCH_INVARIANT;
    run_one_by_one(*gpu, test);
  }
  DecodeCase test = sized_e4m3({128, 128}, {{4, 5000}, {4, 300}, {4, 40000}, {4, 16}, {4, 0}});
  test.sinks = true, test.flags = DGRT_FLAG_PDL;
  run_graph_replay(*gpu, test, {{5000, 300, 40000, 16, 0}, {1, 2, 3, 4, 0}, {4999, 64, 0, 5, 0}});
}

TEST_CASE("attn_decode e4m3: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("attn_decode e4m3: small sizes");
  if (!gpu) return;
  run_decode(*gpu, sized_e4m3({128, 128}, {{1, 1}, {4, 37}, {0, 9}, {1, 200}}));
}

}  // namespace dgrt::test
